"""Options that `clients set`, `keys create` and `groups set` share, and the change that they make in the admin API."""

from typing import Annotated, Any

import typer

from app.cli.output import whole_seconds

NOTHING = "none"

RateOption = Annotated[
    str | None, typer.Option("--rpm", metavar="N", help="Requests a minute. `none` removes the limit.")
]
TokensOption = Annotated[
    str | None,
    typer.Option("--tpm", metavar="N", help="Tokens a minute, input and output together. `none` removes it."),
]
SlotsOption = Annotated[
    str | None, typer.Option("--concurrency", metavar="N", help="Calls at the same time. `none` removes the limit.")
]
DollarsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget-usd",
        metavar="AMOUNT/PERIOD",
        help="US dollars per day, week, month or total, as 50/month. Repeat it for other periods. none/PERIOD removes "
        "one budget, `none` removes all.",
    ),
]
CountsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget-tokens", metavar="N/PERIOD", help="Tokens per period, as 1000000/day. Otherwise like --budget-usd."
    ),
]
ModelsOption = Annotated[
    str | None,
    typer.Option("--models", metavar="GLOB,...", help="The models that may be used, as 'openai/*'. `none` allows all."),
]


LeaveOption = Annotated[
    str | None,
    typer.Option(
        "--on-disconnect",
        metavar="POLICY",
        help="What happens upstream when the caller hangs up: auto, cancel, drain or drain:SECONDS.",
    ),
]
SafetyOption = Annotated[
    str | None,
    typer.Option(
        "--safety-identifier", metavar="on|off", help="Send upstream a hash of the client's name as safety_identifier."
    ),
]
CeilingOption = Annotated[
    str | None,
    typer.Option(
        "--output-ceiling",
        metavar="N",
        help="Output tokens to reserve for a call without max_output_tokens. `none` takes the server's default.",
    ),
]
StopOption = Annotated[
    str | None,
    typer.Option(
        "--hard-stop",
        metavar="on|off",
        help="End a stream when it reaches the output ceiling or what its budget has reserved.",
    ),
]
GroupOption = Annotated[
    str | None,
    typer.Option("--group", metavar="GROUP", help="The group whose limits also apply. `none` leaves the group."),
]


def limits_change(  # one argument an option
    rpm: str | None,
    tpm: str | None,
    concurrency: str | None,
    budget_usd: list[str] | None,
    budget_tokens: list[str] | None,
    models: str | None,
) -> dict[str, Any]:
    """The change that the options for limits make. Raises typer.BadParameter."""
    counts = {"rpm": rpm, "tpm": tpm, "concurrency": concurrency}
    change: dict[str, Any] = {name: count(text, f"--{name}") for name, text in counts.items() if text is not None}
    if budget_usd:
        change["budget_usd"] = _budgets(budget_usd, "--budget-usd", whole=False)
    if budget_tokens:
        change["budget_tokens"] = _budgets(budget_tokens, "--budget-tokens", whole=True)
    if models is not None:
        change["models"] = _patterns(models)
    return change


def client_change(
    on_disconnect: str | None,
    safety_identifier: str | None,
    output_ceiling: str | None,
    hard_stop: str | None,
    group: str | None,
) -> dict[str, Any]:
    """The change that the options for clients only make. Raises typer.BadParameter."""
    change: dict[str, Any] = {}
    if on_disconnect is not None:
        change["on_disconnect"] = _policy(on_disconnect)
    if safety_identifier is not None:
        change["safety_identifier"] = on_off(safety_identifier, "--safety-identifier")
    if output_ceiling is not None:
        change["output_ceiling"] = count(output_ceiling, "--output-ceiling")
    if hard_stop is not None:
        change["hard_stop"] = on_off(hard_stop, "--hard-stop")
    if group is not None:
        change["group"] = None if group.lower() == NOTHING else group
    return change


def count(text: str, option: str) -> int | None:
    """A number, or None for `none`. Raises typer.BadParameter."""
    if text.strip().lower() == NOTHING:
        return None
    plain = text.replace("_", "")
    if not plain.isascii() or not plain.isdigit() or not 0 < int(plain) < 2**53:
        raise typer.BadParameter(f"{text!r} is neither a number above 0 nor {NOTHING}", param_hint=option)
    return int(plain)


def on_off(text: str, option: str) -> bool:
    """`on` or `off`. Raises typer.BadParameter."""
    if text.lower() not in {"on", "off"}:
        raise typer.BadParameter(f"{text!r} is neither on nor off", param_hint=option)
    return text.lower() == "on"


def limit_rows(shown: dict[str, Any]) -> list[list[object]]:
    """The limits that are set, as rows of a table."""
    names = ("group", "rpm", "tpm", "concurrency", "output_ceiling", "hard_stop", "safety_identifier", "on_disconnect")
    rows: list[list[object]] = [
        [name.replace("_", " "), "on" if shown[name] is True else shown[name]]
        for name in names
        if shown.get(name) not in {None, False, "cancel"}
    ]
    if shown.get("models") is not None:
        rows.append(["models", ", ".join(shown["models"])])
    if shown.get("members"):
        rows.append(["members", ", ".join(shown["members"])])
    return rows + [[f"budget, {budget['unit']}", f"{amount(budget)}/{budget['period']}"] for budget in shown["budgets"]]


def amount(budget: dict[str, Any]) -> str:
    """The amount of a budget as people read it."""
    value = budget["amount"]
    return f"{value:,}" if isinstance(value, int) else str(value)


def budget_rows(standing: dict[str, Any]) -> list[list[object]]:
    """The state of budgets as rows of BUDGET_COLUMNS. `standing` is by `client` and `group`."""
    return [
        [whose, *(whole_seconds(budget[name]) for name in BUDGET_COLUMNS[1:])]
        for whose, reading in standing.items()
        for budget in reading["budgets"]
    ]


BUDGET_COLUMNS = ("budget", "unit", "period", "amount", "spent", "reserved", "left", "resets_at")


def _patterns(text: str) -> list[str] | None:
    """Globs, or None for `none`. Empty text is an error: a shell variable that is not set must not allow all models."""
    from app.domain.request.model_patterns import check_pattern

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [NOTHING]:
        return None
    try:
        for name in names or [""]:
            check_pattern(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--models") from None
    return names


def _budgets(texts: list[str], option: str, *, whole: bool) -> dict[str, str | int | None] | None:
    """Amounts by period; None removes all budgets."""
    from app.domain.money.budgets import Unit, parse_budget
    from app.domain.money.windows import Period

    change: dict[str, str | int | None] = {}
    parts = [part.strip() for given in texts for part in given.split(",")]
    if [part.lower() for part in parts] == [NOTHING]:
        return None
    for text in parts:
        amount, _, period = text.lower().partition("/")
        if amount == NOTHING and period in set(Period):
            change[period] = None
            continue
        try:
            budget = parse_budget(text, Unit.TOKENS if whole else Unit.USD)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
        change[budget.period.value] = budget.amount if whole else budget.amount_text
    return change


def _policy(text: str) -> str:
    from app.domain.disconnect import DisconnectPolicy

    try:
        return str(DisconnectPolicy.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--on-disconnect") from None
