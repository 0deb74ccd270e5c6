"""Holders, requests and accounts as the scripts read them: JSON, made once for each change of limits or window."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from app.domain.money.budgets import Budget
from app.domain.money.limits import Limits
from app.domain.money.windows import window_of
from app.gateway.limiter import Holder, LimitRequest

_NEVER_US = 2**62

MOST = 2**53 - 1
"""Most tokens or nano-dollars of one call: Lua keeps no larger number exact. No budget is larger."""


def account_name(budget: Budget) -> str:
    """The name of the account for budgets of this unit and period."""
    return f"{budget.unit}:{budget.period}"


def account_key(holder: Holder, budget: Budget) -> str:
    """The server's key of a holder's account for budgets of this unit and period."""
    return f"weighbridge:a:{holder.name}:{account_name(budget)}"


class HolderJson(NamedTuple):
    """A holder as JSON, for calls that begin between two moments."""

    limits: Limits
    since_us: int
    until_us: int
    json: bytes


class WireFormat:
    """One per process. `accounts` are the known ones: holder -> names."""

    def __init__(self) -> None:
        self.accounts: dict[str, list[str]] = {}
        self._holders: dict[str, HolderJson] = {}
        self._spending: dict[Sequence[str], bytes] = {}
        self._forgotten: set[str] = set()  # keys of accounts

    def holder(self, holder: Holder, at_us: int) -> bytes:
        """A holder, with the current windows of its budgets."""
        known = self._holders.get(holder.name)
        if known is None or known.limits is not holder.limits or not known.since_us <= at_us < known.until_us:
            known = self._holders[holder.name] = _holder_json(holder, at_us)
        return known.json

    def holders(self, ask: LimitRequest) -> bytes:
        """All holders of a request."""
        if len(ask.holders) == 1:
            return self.holder(ask.holders[0], ask.at_us)
        return b",".join([self.holder(holder, ask.at_us) for holder in ask.holders])

    def learn(self, holder: Holder) -> None:
        """Add the accounts for this holder's budgets."""
        names = self.accounts.setdefault(holder.name, [])
        fresh = [name for budget in holder.limits.budgets if (name := account_name(budget)) not in names]
        if fresh:
            names += fresh
            self._spending.clear()

    def forget(self, holder: Holder) -> list[str]:
        """Forget the accounts for which this holder has no budget any more; returns their keys."""
        kept = set(map(account_name, holder.limits.budgets))
        gone = [name for name in self.accounts.get(holder.name, ()) if name not in kept]
        if gone:
            self.accounts[holder.name] = [name for name in self.accounts[holder.name] if name in kept]
            self._spending.clear()
        keys = [f"weighbridge:a:{holder.name}:{name}" for name in gone]
        self._forgotten.update(keys)
        return keys

    def returning(self, holder: Holder) -> set[str]:
        """The keys of this holder's accounts that were forgotten and are used again."""
        keys = {account_key(holder, budget) for budget in holder.limits.budgets} & self._forgotten
        self._forgotten -= keys
        return keys

    def counts(self, key: str) -> bool:
        """Whether the account of this key was not forgotten."""
        return key not in self._forgotten

    def spending(self, holders: Iterable[Holder]) -> bytes:
        """The accounts that count calls of these holders, as JSON; empty for none."""
        names = tuple([holder.name for holder in holders])
        found = self._spending.get(names)
        if found is None:
            accounts = {name: self.accounts[name] for name in names if self.accounts.get(name)}
            found = self._spending[names] = orjson.dumps(accounts) if accounts else b""
        return found


def ask_json(process: str, connection: int, number: int, ask: LimitRequest, holders: bytes) -> bytes:
    """The argument of reserve.lua and adopt.lua."""
    return (
        b'{"process":"%b","line":"%d","number":"%d","request":"%b","tokens":%d,"cost":%d,"last":%b,"holders":[%b]}'
        % (
            process.encode("ascii"),
            connection,
            number,
            ask.request_id.encode("ascii"),
            min(ask.tokens, MOST),
            min(ask.cost_nanousd, MOST),
            b"true" if ask.last_call else b"false",
            holders,
        )
    )


def _holder_json(holder: Holder, at_us: int) -> HolderJson:
    limits = holder.limits
    since, until = 0, _NEVER_US
    budgets = []
    for budget in limits.budgets:
        window = window_of(budget.period, at_us)
        since = max(since, window.begins_at)
        until = min(until, window.ends_at or _NEVER_US)
        budgets.append({"name": account_name(budget), "begins": window.begins_at, "amount": budget.amount})
    rates = {"rpm": limits.rpm, "tpm": limits.tpm, "slots": limits.concurrency}
    said = {"name": holder.name, "budgets": budgets, **{name: n for name, n in rates.items() if n is not None}}
    return HolderJson(limits, since, until, orjson.dumps(said))
