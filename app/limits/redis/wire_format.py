"""Holders, asks and accounts as the scripts read them: JSON, made once for each change of limits or window."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from app.domain.money.budgets import Budget
from app.domain.money.limits import Limits
from app.domain.money.windows import window_of
from app.gateway.limiter import Holder, LimitRequest

_NEVER_US = 2**62

MOST = 2**53 - 1
"""Of tokens or nano-dollars of one call: Lua keeps no larger number exact. No budget is more."""


def account_name(budget: Budget) -> str:
    """Of the account that a budget of this unit and period has."""
    return f"{budget.unit}:{budget.period}"


def account_key(holder: Holder, budget: Budget) -> str:
    """Where the server has the account that a holder's budget of this unit and period has."""
    return f"weighbridge:a:{holder.name}:{account_name(budget)}"


class Worded(NamedTuple):
    """A holder in words, for calls that begin between two moments."""

    limits: Limits
    since_us: int
    until_us: int
    json: bytes


class Wording:
    """Of one process. `accounts` are those that it has come to know: holder -> names."""

    def __init__(self) -> None:
        self.accounts: dict[str, list[str]] = {}
        self._holders: dict[str, Worded] = {}
        self._spending: dict[Sequence[str], bytes] = {}
        self._forgotten: set[str] = set()  # keys of accounts

    def holder(self, holder: Holder, at_us: int) -> bytes:
        """One holder, and the windows of its budgets at this moment."""
        worded = self._holders.get(holder.name)
        if worded is None or worded.limits is not holder.limits or not worded.since_us <= at_us < worded.until_us:
            worded = self._holders[holder.name] = _worded(holder, at_us)
        return worded.json

    def holders(self, ask: LimitRequest) -> bytes:
        """All holders of an ask."""
        if len(ask.holders) == 1:
            return self.holder(ask.holders[0], ask.at_us)
        return b",".join([self.holder(holder, ask.at_us) for holder in ask.holders])

    def learn(self, holder: Holder) -> None:
        """From now on this holder has accounts for these budgets, besides those that it had."""
        names = self.accounts.setdefault(holder.name, [])
        fresh = [name for budget in holder.limits.budgets if (name := account_name(budget)) not in names]
        if fresh:
            names += fresh
            self._spending.clear()

    def forget(self, holder: Holder) -> list[str]:
        """Forget the accounts for which this holder has no budget any more. Gives their keys."""
        kept = set(map(account_name, holder.limits.budgets))
        gone = [name for name in self.accounts.get(holder.name, ()) if name not in kept]
        if gone:
            self.accounts[holder.name] = [name for name in self.accounts[holder.name] if name in kept]
            self._spending.clear()
        keys = [f"weighbridge:a:{holder.name}:{name}" for name in gone]
        self._forgotten.update(keys)
        return keys

    def returning(self, holder: Holder) -> set[str]:
        """The keys of accounts of this holder that were forgotten, and count again."""
        keys = {account_key(holder, budget) for budget in holder.limits.budgets} & self._forgotten
        self._forgotten -= keys
        return keys

    def counts(self, key: str) -> bool:
        """Has the account of this key not been forgotten?"""
        return key not in self._forgotten

    def spending(self, holders: Iterable[Holder]) -> bytes:
        """The accounts in which calls of these count; empty for none."""
        names = tuple([holder.name for holder in holders])
        found = self._spending.get(names)
        if found is None:
            accounts = {name: self.accounts[name] for name in names if self.accounts.get(name)}
            found = self._spending[names] = orjson.dumps(accounts) if accounts else b""
        return found


def ask_json(process: str, connection: int, number: int, ask: LimitRequest, holders: bytes) -> bytes:
    """What reserve.lua and adopt.lua read."""
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


def _worded(holder: Holder, at_us: int) -> Worded:
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
    return Worded(limits, since, until, orjson.dumps(said))
