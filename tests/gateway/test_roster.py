"""The roster at the size of a company: what a group is, is made once and not for each of its clients."""

from dataclasses import replace

from app.domain.money.limits import Limits
from app.domain.money.terms import NO_TERMS, GroupTerms
from app.gateway.clients.directory import ClientDirectory
from app.gateway.ports import StoredClient, StoredGroup

TEAM = StoredGroup("team", 0, GroupTerms(limits=Limits(rpm=9)))
IN_TEAM = replace(NO_TERMS, group="team")


def client(number: int) -> StoredClient:
    return StoredClient(f"client-{number:03}", 0, None, IN_TEAM)


def roster_of(count: int) -> ClientDirectory:
    roster = ClientDirectory()
    roster.fill(map(client, reversed(range(count))), [TEAM])
    return roster


def test_the_clients_of_a_group_share_its_holder() -> None:
    """Made for each of them, with the names of all, a change stopped the loop for seconds: it grew by the square."""
    roster = roster_of(50)
    holders = {id(held) for number in range(50) for held in roster.holders(client(number).name)}
    assert len(holders) == 1
    (held,) = roster.all_holders()
    assert held is roster.terms["client-000"].holders[0] is roster.group_holder(TEAM)
    assert held.clients == roster.members("team") == tuple(client(number).name for number in range(50))


def test_the_group_follows_its_clients() -> None:
    roster = roster_of(3)
    roster.put_client(client(7))
    assert roster.members("team")[-1] == "client-007"
    roster.put_client(replace(client(0), terms=NO_TERMS))
    assert roster.members("team") == ("client-001", "client-002", "client-007")
    assert {terms.holders[0].clients for terms in roster.terms.values()} == {roster.members("team")}
    assert roster.holders("client-000") == ()
    assert roster.members("nobody") == ()


def test_the_group_follows_its_terms() -> None:
    roster = roster_of(2)
    changed = roster.with_group(replace(TEAM, terms=GroupTerms(limits=Limits(rpm=1))))
    assert [holder.limits.rpm for holder in changed.all_holders()] == [1]
    assert [holder.limits.rpm for holder in roster.all_holders()] == [9]
