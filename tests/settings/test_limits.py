"""The settings of limits: what new clients begin with, and what is refused in words."""

import pytest
from pydantic import ValidationError

from app.domain.disconnect import DisconnectPolicy
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.terms import NO_TERMS, ClientTerms
from app.domain.money.windows import Period
from app.settings.limits import ClientDefaults, LimitRules


def test_nothing_set_is_nothing_agreed() -> None:
    assert ClientDefaults().terms == NO_TERMS


def test_everything_set_is_agreed() -> None:
    defaults = ClientDefaults(
        rpm=1,
        tpm=2,
        concurrency=3,
        budget_usd=("5/day", "9/day", "50/month"),
        budget_tokens=("7/total",),
        models=("openai/*",),
        on_disconnect="drain:7",
        safety_identifier=True,
        output_ceiling=4,
        hard_stop=True,
    )
    budgets = (
        Budget(Unit.USD, Period.DAY, 9 * 10**9),
        Budget(Unit.USD, Period.MONTH, 50 * 10**9),
        Budget(Unit.TOKENS, Period.TOTAL, 7),
    )
    assert defaults.terms == ClientTerms(
        limits=Limits(1, 2, 3, budgets),
        models=("openai/*",),
        on_disconnect=DisconnectPolicy(7),
        safety_identifier=True,
        output_ceiling=4,
        hard_stop=True,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"rpm": 0},
        {"budget_usd": ("5",)},
        {"budget_usd": ("5/year",)},
        {"budget_tokens": ("1.5/day",)},
        {"models": ("",)},
        {"on_disconnect": "stay"},
        {"rate": 5},
    ],
    ids=str,
)
def test_what_cannot_be_agreed_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClientDefaults.model_validate(wrong)


@pytest.mark.parametrize("wrong", [{"bytes_per_token": 0}, {"unknown_price": "guess"}, {"last_call": "maybe"}], ids=str)
def test_a_rule_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LimitRules.model_validate(wrong)
