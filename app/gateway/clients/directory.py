"""The directory of clients and groups, in memory, with the effective terms of each client."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.disconnect import DisconnectPolicy
from app.domain.identity.safety_identifier import safety_identifier
from app.domain.money.budgets import Unit
from app.domain.money.terms import NO_TERMS
from app.domain.request.model_patterns import ModelPatterns
from app.gateway.limiter import Holder
from app.gateway.ports import StoredClient, StoredGroup


@dataclass(slots=True, frozen=True)
class EffectiveTerms:
    """The terms of a client's calls, its group's included. They are made at each change and read on every call.

    `cut`: the client is disabled, and its running calls are ended. `judged`: admission has something to check. `models`
    must all allow a call. `bounded`: calls need a worst case. `budgeted`: there is a budget. `priced`: a holder has
    budgets in US dollars only, so that calls need a known price.
    """

    client: str
    disabled: bool
    cut: bool
    on_disconnect: DisconnectPolicy
    judged: bool
    models: tuple[ModelPatterns, ...]
    safety_identifier: str | None
    output_ceiling: int | None
    hard_stop: bool
    holders: tuple[Holder, ...]
    bounded: bool
    budgeted: bool
    priced: bool


class ClientDirectory:
    """Clients and groups by name. `terms` has all clients whose terms are not the default ones."""

    def __init__(self) -> None:
        self.terms: dict[str, EffectiveTerms] = {}
        self.changes = 0  # how often put_client() was called
        self._clients: dict[str, StoredClient] = {}
        self._groups: dict[str, StoredGroup] = {}
        self._group_holders: dict[str, Holder] = {}  # made once for a group, since they have all members' names

    def fill(self, clients: Iterable[StoredClient], groups: Iterable[StoredGroup]) -> None:
        """Replace all clients and groups."""
        self._clients = {client.name: client for client in clients}
        self._groups = {group.name: group for group in groups}
        self._make_all()

    def put_client(self, client: StoredClient) -> None:
        """Add or change a client."""
        before = self._clients.get(client.name)
        self._clients[client.name] = client
        self.changes += 1
        if client.terms.group is not None or (before is not None and before.terms.group is not None):
            self._make_all()
        elif _differs(client):
            self.terms[client.name] = self._make(client)
        else:
            self.terms.pop(client.name, None)

    def put_group(self, group: StoredGroup) -> None:
        """Add or change a group."""
        self._groups[group.name] = group
        self._make_all()

    def client(self, name: str) -> StoredClient | None:
        """A client, if there is one."""
        return self._clients.get(name)

    def group(self, name: str) -> StoredGroup | None:
        """A group, if there is one."""
        return self._groups.get(name)

    def with_client(self, client: StoredClient) -> "ClientDirectory":
        """A copy with this client."""
        copy = self._copy()
        copy.put_client(client)
        return copy

    def with_group(self, group: StoredGroup) -> "ClientDirectory":
        """A copy with this group."""
        copy = self._copy()
        copy.put_group(group)
        return copy

    @property
    def clients(self) -> tuple[StoredClient, ...]:
        """All clients."""
        return tuple(self._clients.values())

    @property
    def groups(self) -> tuple[StoredGroup, ...]:
        """All groups, by name."""
        return tuple(self._groups[name] for name in sorted(self._groups))

    def members(self, group: str) -> tuple[str, ...]:
        """The names of a group's clients."""
        holder = self._group_holders.get(group)
        return () if holder is None else holder.clients

    def holders(self, client: str) -> tuple[Holder, ...]:
        """The holders that limit a client: itself and its group, each only if it has limits."""
        stored = self._clients.get(client)
        return () if stored is None else self._holders(stored)

    def all_holders(self) -> tuple[Holder, ...]:
        """All holders with limits."""
        found = {holder.name: holder for client in self._clients.values() for holder in self._holders(client)}
        return tuple(found.values())

    def group_holder(self, group: StoredGroup) -> Holder:
        """A group as a holder, with or without limits."""
        return self._group_holders[group.name]

    def _copy(self) -> "ClientDirectory":
        copy = ClientDirectory()
        copy.fill(self._clients.values(), self._groups.values())
        return copy

    def _make_all(self) -> None:
        members: dict[str, list[str]] = {name: [] for name in self._groups}
        for name in sorted(self._clients):
            for group in self._group_of(self._clients[name]):
                members[group.name].append(name)
        self._group_holders = {
            name: Holder(f"group:{name}", group.terms.limits, tuple(members[name]))
            for name, group in self._groups.items()
        }
        made = ((client.name, self._make(client)) for client in self._clients.values() if _differs(client))
        self.terms = dict(made)

    def _make(self, client: StoredClient) -> EffectiveTerms:
        terms = client.terms
        holders = self._holders(client)
        patterns = [terms.models, *(group.terms.models for group in self._group_of(client))]
        models = tuple(ModelPatterns(globs) for globs in patterns if globs is not None)
        identifier = safety_identifier(client.name) if terms.safety_identifier else None
        return EffectiveTerms(
            client=client.name,
            disabled=client.refused,
            cut=client.deleted_at is not None or (client.disabled_at is not None and not terms.let_run),
            on_disconnect=terms.on_disconnect,
            judged=bool(holders or models or identifier or terms.hard_stop),
            models=models,
            safety_identifier=identifier,
            output_ceiling=terms.output_ceiling,
            hard_stop=terms.hard_stop,
            holders=holders,
            bounded=terms.hard_stop or any(h.limits.budgets or h.limits.tpm is not None for h in holders),
            budgeted=any(holder.limits.budgets for holder in holders),
            priced=any(h.limits.has_budget(Unit.USD) and not h.limits.has_budget(Unit.TOKENS) for h in holders),
        )

    def _holders(self, client: StoredClient) -> tuple[Holder, ...]:
        own = Holder(f"client:{client.name}", client.terms.limits, (client.name,))
        found = (own, *map(self.group_holder, self._group_of(client)))
        return tuple(holder for holder in found if holder.limits.any)

    def _group_of(self, client: StoredClient) -> list[StoredGroup]:
        group = self._groups.get(client.terms.group or "")
        return [] if group is None else [group]


def _differs(client: StoredClient) -> bool:
    return client.refused or client.terms != NO_TERMS
