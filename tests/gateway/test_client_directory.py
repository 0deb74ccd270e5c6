"""The directory at the size of a company: what a group is, is made once and not for each of its clients."""

from dataclasses import replace

from app.domain.money.limits import Limits
from app.domain.money.terms import NO_TERMS, GroupTerms
from app.gateway.clients.directory import ClientDirectory
from app.gateway.ports import StoredClient, StoredGroup

TEAM = StoredGroup("team", 0, GroupTerms(limits=Limits(rpm=9)))
IN_TEAM = replace(NO_TERMS, group="team")


def client(number: int) -> StoredClient:
    return StoredClient(f"client-{number:03}", 0, None, IN_TEAM)


def directory_of(count: int) -> ClientDirectory:
    directory = ClientDirectory()
    directory.fill(map(client, reversed(range(count))), [TEAM])
    return directory


def test_the_clients_of_a_group_share_its_holder() -> None:
    """Made for each of them, with the names of all, a change stopped the loop for seconds: it grew by the square."""
    directory = directory_of(50)
    holders = {id(held) for number in range(50) for held in directory.holders(client(number).name)}
    assert len(holders) == 1
    (held,) = directory.all_holders()
    assert held is directory.terms["client-000"].holders[0] is directory.group_holder(TEAM)
    assert held.clients == directory.members("team") == tuple(client(number).name for number in range(50))


def test_the_group_follows_its_clients() -> None:
    directory = directory_of(3)
    directory.put_client(client(7))
    assert directory.members("team")[-1] == "client-007"
    directory.put_client(replace(client(0), terms=NO_TERMS))
    assert directory.members("team") == ("client-001", "client-002", "client-007")
    assert {terms.holders[0].clients for terms in directory.terms.values()} == {directory.members("team")}
    assert directory.holders("client-000") == ()
    assert directory.members("nobody") == ()


def test_the_group_follows_its_terms() -> None:
    directory = directory_of(2)
    changed = directory.with_group(replace(TEAM, terms=GroupTerms(limits=Limits(rpm=1))))
    assert [holder.limits.rpm for holder in changed.all_holders()] == [1]
    assert [holder.limits.rpm for holder in directory.all_holders()] == [9]
