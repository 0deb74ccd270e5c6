"""Prints a reconciliation: differences by day and model, which side has more, and records that could explain it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import typer

from app.cli.output import print_json, print_table, visible
from app.domain.money.amounts import format_usd
from app.domain.money.reconciliation import MEASURES, Comparison, Sums

if TYPE_CHECKING:
    from app.domain.money.reconciliation import Reconciliation
    from app.upstream.api.statements import Credits

_SHOWN_RECORDS = 20
_NUMBERS = frozenset(("ours", "upstream", "difference", "percent"))
_COLUMNS = ("day", "model", "what", "ours", "upstream", "difference", "percent")
_WORDS = {"input_tokens": "input tokens", "output_tokens": "output tokens", "cost_nanousd": "cost, USD"}


def print_difference(
    result: "Reconciliation",
    records: Sequence[Mapping[str, Any]],
    account: "Credits | None",
    *,
    since: date,
    as_json: bool,
) -> None:
    """Print the result, and a table of the first records that could explain it."""
    if as_json:
        print_json({**_document(result, records, since), "credits": _credits(account)})
        return
    lines = list(_lines(result))
    if lines:
        print_table(_COLUMNS, lines, numbers=_NUMBERS)
    for line in _summary(result, since):
        print(line)
    if (credit := _credits(account)) is not None:
        print(f"The account has used {credit['used_usd']} of {credit['bought_usd']} USD: {credit['left_usd']} left.")
    if records:
        _print_records(records)


def percent(comparison: Comparison, measure: str) -> str:
    """The difference as a share of the larger side."""
    larger = max(getattr(comparison.ours, measure), getattr(comparison.theirs, measure))
    return f"{100 * abs(comparison.difference(measure)) / larger:.3g}%" if larger else "0%"


def _lines(result: "Reconciliation") -> Iterator[Sequence[object]]:
    """One line for each measure of a day and model that differs at all, and for each model that differs too much."""
    for (day, model), comparison in result.cells.items():
        yield from (_line(day, model, comparison, measure) for measure in comparison.differing())
    for model in result.outside:
        comparison = result.models[model]
        yield from (_line("all days", model, comparison, name) for name in comparison.differing(result.tolerance))


def _line(day: str, model: str, comparison: Comparison, measure: str) -> Sequence[object]:
    difference = comparison.difference(measure)
    who = "upstream" if difference > 0 else "ours"
    return (
        day,
        model,
        _WORDS[measure],
        _shown(getattr(comparison.ours, measure), measure),
        _shown(getattr(comparison.theirs, measure), measure),
        f"{who} +{_shown(abs(difference), measure)}",
        percent(comparison, measure),
    )


def _shown(amount: int, measure: str) -> str:
    return format_usd(amount) if measure == "cost_nanousd" else f"{amount:,}"


def _summary(result: "Reconciliation", since: date) -> Iterator[str]:
    ours, theirs = result.total.ours, result.total.theirs
    yield f"Since {since} (UTC), {len(result.models)} models."
    yield f"  ours      {_words(ours)}"
    yield f"  upstream  {_words(theirs)}"
    share = f"{float(result.tolerance * 100):g}%"
    if result.within:
        yield f"The records agree within {share}." if result.total.differing() else "The records agree."
    else:
        yield f"The records differ by more than {share}: {visible(', '.join(result.outside)) or 'in all'}."


def _credits(account: "Credits | None") -> dict[str, str] | None:
    if account is None:
        return None
    bought, used = account.bought_nanousd, account.used_nanousd
    return {"bought_usd": format_usd(bought), "used_usd": format_usd(used), "left_usd": format_usd(bought - used)}


def _words(sums: Sums) -> str:
    return (
        f"{sums.requests:,} requests, {sums.input_tokens:,} input tokens, {sums.output_tokens:,} output tokens, "
        f"{format_usd(sums.cost_nanousd)} USD"
    )


def _print_records(records: Sequence[Mapping[str, Any]]) -> None:
    typer.echo("\nCalls that could explain it, since their usage is not certain:", err=True)
    columns = ("request_id", "started_at", "client", "model", "outcome", "usage_source", "generation_id")
    rows = [
        [r["model_served"] or r["model_requested"] if name == "model" else r[name] for name in columns]
        for r in records[:_SHOWN_RECORDS]
    ]
    print_table(columns, rows)
    if len(records) > _SHOWN_RECORDS:
        typer.echo(f"... and {len(records) - _SHOWN_RECORDS:,} more. Use --json to see all.", err=True)


def _document(result: "Reconciliation", records: Sequence[Mapping[str, Any]], since: date) -> dict[str, Any]:
    cells = [{"day": day, "model": model, **_sides(one)} for (day, model), one in result.cells.items()]
    models = [
        {"model": model, "within": model not in result.outside, **_sides(one)} for model, one in result.models.items()
    ]
    return {
        "since": since.isoformat(),
        "tolerance_percent": float(result.tolerance * 100),
        "within": result.within,
        "total": _sides(result.total),
        "models": models,
        "days": cells,
        "records": list(records),
    }


def _sides(comparison: Comparison) -> dict[str, Any]:
    difference = {measure: comparison.difference(measure) for measure in MEASURES}
    return {
        "ours": _priced(comparison.ours._asdict()),
        "upstream": _priced(comparison.theirs._asdict()),
        "difference": _priced(difference),
    }


def _priced(sums: Mapping[str, int]) -> dict[str, object]:
    shown: dict[str, object] = {name: amount for name, amount in sums.items() if name != "cost_nanousd"}
    return {**shown, "cost_usd": format_usd(sums["cost_nanousd"])}
