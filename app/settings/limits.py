"""Settings of limits: how they are applied, and the terms of new clients."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.domain.disconnect import DisconnectPolicy
from app.domain.money.budgets import Unit, parse_budget
from app.domain.money.limits import NO_LIMITS, Limits
from app.domain.money.terms import ClientTerms
from app.domain.request.model_patterns import check_pattern
from app.settings.section import AnyCase, Count, Section

MOST = 2**53 - 1


def _budgets(unit: Unit) -> AfterValidator:
    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            parse_budget(value, unit)
        return values

    return AfterValidator(check)


def _patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        check_pattern(value)
    return values


def _policy(value: str) -> str:
    return str(DisconnectPolicy.parse(value))


Positive = Annotated[Count, Field(gt=0, le=MOST)]


class LimitRules(Section):
    """How the calls of limited clients are admitted."""

    bytes_per_token: Annotated[Count, Field(gt=0, le=100)] = Field(
        default=3,
        description="How many bytes of a request count as one input token. 1 never counts too little for text.",
    )
    output_ceiling: Positive = Field(
        default=32_768,
        description="Output tokens to reserve for a call without max_output_tokens; clients may have their own.",
    )
    unknown_price: Annotated[Literal["refuse", "tokens"], AnyCase] = Field(
        default="refuse",
        description="Models without a price, for clients with dollar budgets only. tokens: let in, only tokens count.",
    )
    last_call: Annotated[Literal["admit", "refuse"], AnyCase] = Field(
        default="admit",
        description="A call that may cost more than a budget has left. admit: one, which reserves all that is left.",
    )
    rates_without_redis: Annotated[Literal["open", "shut"], AnyCase] = Field(
        default="open",
        description="While Redis is down: let calls of clients with rates through (open), or refuse them (shut).",
    )


class ClientDefaults(Section):
    """The terms of a client when it is made. `weighbridge clients set` changes them."""

    rpm: Positive | None = Field(default=None, description="Requests a minute.", examples=[60])
    tpm: Positive | None = Field(default=None, description="Tokens a minute.", examples=[200_000])
    concurrency: Positive | None = Field(default=None, description="Calls at once.", examples=[10])
    budget_usd: Annotated[tuple[str, ...], _budgets(Unit.USD)] = Field(
        default=(), description='US dollars per day, week, month or in total (UTC), such as ["5/day", "50/month"].'
    )
    budget_tokens: Annotated[tuple[str, ...], _budgets(Unit.TOKENS)] = Field(
        default=(), description='Tokens per day, week, month or in total (UTC), such as ["1000000/day"].'
    )
    models: Annotated[tuple[str, ...], AfterValidator(_patterns)] = Field(
        default=(), description='Models that the client may use, such as ["openai/*"]; empty allows all.'
    )
    on_disconnect: Annotated[str, AfterValidator(_policy)] = Field(
        default="auto",
        description="What happens upstream when the client leaves: auto, cancel, drain or drain:SECONDS.",
    )
    safety_identifier: bool = Field(default=False, description="Send upstream a hash of the client's name.")
    output_ceiling: Positive | None = Field(
        default=None, description="As limits.output_ceiling, for the client.", examples=[8192]
    )
    hard_stop: bool = Field(default=False, description="End streams at the client's ceiling or budget.")

    @property
    def terms(self) -> ClientTerms:
        """The terms of a new client."""
        limits = Limits(rpm=self.rpm, tpm=self.tpm, concurrency=self.concurrency)
        budgets = [parse_budget(text, Unit.USD) for text in self.budget_usd]
        budgets += [parse_budget(text, Unit.TOKENS) for text in self.budget_tokens]
        return ClientTerms(
            limits=Limits(limits.rpm, limits.tpm, limits.concurrency, NO_LIMITS.with_budgets(*budgets)),
            models=self.models or None,
            on_disconnect=DisconnectPolicy.parse(self.on_disconnect),
            safety_identifier=self.safety_identifier,
            output_ceiling=self.output_ceiling,
            hard_stop=self.hard_stop,
        )
