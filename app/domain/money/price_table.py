"""Prices as operators write them, in `[prices."MODEL"]`."""

from collections.abc import Mapping

from app.domain.answer.usage import MAX_TOKENS
from app.domain.money.amounts import parse_usd
from app.domain.money.pricing import AMOUNTS, FEES, Price

_REQUIRED = ("input", "output")


def price_from_config(mapping: Mapping[str, object], source: str = "config") -> Price:
    """The Price in an operator's table: US dollars as text or number, per million tokens (FEES: per call).

        input, output     required
        other AMOUNTS     optional
        tiers             a list of tables of the above, each with `above`: input tokens
        service_tiers     a table of tables of all the above, by name; missing fees are those of the price

    Raises ValueError with all faults.
    """
    faults: list[str] = []
    tiers = _read_tiers(mapping.get("tiers", ()), source, faults, "")
    amounts = _read_amounts(mapping, ("tiers", "service_tiers"), "", faults)
    service_tiers = _read_service_tiers(mapping.get("service_tiers", {}), amounts, source, faults)
    if faults:
        raise ValueError("; ".join(faults))
    return Price.of(amounts, source=source, tiers=tuple(tiers), service_tiers=tuple(service_tiers))


def _read_service_tiers(
    value: object, standard: Mapping[str, int], source: str, faults: list[str]
) -> list[tuple[str, Price]]:
    if not isinstance(value, Mapping):
        faults.append("service_tiers is not a table of tables")
        return []
    found = []
    for name, entry in value.items():
        where = f"service tier {name}: "
        if not isinstance(entry, Mapping):
            faults.append(f"{where}is not a table")
            continue
        known = len(faults)
        tiers = _read_tiers(entry.get("tiers", ()), source, faults, where)
        amounts = _read_amounts(entry, ("tiers",), where, faults)
        if len(faults) == known:
            fees = {fee: amount for fee, amount in standard.items() if fee in FEES}
            found.append((str(name), Price.of({**fees, **amounts}, source=source, tiers=tuple(tiers))))
    return found


def _read_amounts(
    mapping: Mapping[str, object], others: tuple[str, ...], where: str, faults: list[str]
) -> dict[str, int]:
    """The amounts in `mapping`, which may also have the keys `others`. Faults are appended to `faults`."""
    known = ", ".join([*AMOUNTS, *others])
    unknown = sorted(mapping.keys() - {*AMOUNTS, *others})
    faults.extend(f"{where}{name} is not part of a price (known: {known})" for name in unknown)
    faults.extend(f"{where}{name} is missing" for name in _REQUIRED if name not in mapping)
    amounts = {}
    for name in AMOUNTS:
        if name not in mapping:
            continue
        amount = parse_usd(mapping[name])
        if amount is None:
            faults.append(f"{where}{name} = {mapping[name]!r} is not an amount of US dollars")
        else:
            amounts[name] = amount
    return amounts


def _read_tiers(value: object, source: str, faults: list[str], outer: str) -> list[tuple[int, Price]]:
    if not isinstance(value, list | tuple):
        faults.append(f"{outer}tiers is not a list of tables")
        return []
    tiers: list[tuple[int, Price]] = []
    for place, entry in enumerate(value, 1):
        where = f"{outer}tier {place}: "
        if not isinstance(entry, Mapping):
            faults.append(f"{where}is not a table")
            continue
        known = len(faults)
        above = entry.get("above")
        if type(above) is not int or not 0 <= above <= MAX_TOKENS:
            faults.append(f"{where}above is not a number of tokens")
        elif tiers and above <= tiers[-1][0]:
            faults.append(f"{where}above does not rise")
        amounts = _read_amounts(entry, ("above",), where, faults)
        if len(faults) == known and type(above) is int:
            tiers.append((above, Price.of(amounts, source=source, tiers=())))
    return tiers
