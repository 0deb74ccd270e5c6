"""Terms as storage keeps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.disconnect import DisconnectPolicy
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import NO_LIMITS, Limits
from app.domain.money.terms import (
    NO_TERMS,
    ClientTerms,
    GroupTerms,
    client_terms_json,
    group_terms_json,
    read_client_terms,
    read_group_terms,
)
from app.domain.money.windows import Period

COUNTS = st.none() | st.integers(1, 2**53 - 1)
BUDGETS = st.lists(
    st.builds(Budget, st.sampled_from(Unit), st.sampled_from(Period), st.integers(0, 10**15)), max_size=8
).map(lambda found: NO_LIMITS.with_budgets(*found))
LIMITS = st.builds(Limits, COUNTS, COUNTS, COUNTS, BUDGETS)
MODELS = st.none() | st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4).map(tuple)
POLICIES = st.sampled_from(["auto", "cancel", "drain", "drain:7"]).map(DisconnectPolicy.parse)
CLIENT_TERMS = st.builds(
    ClientTerms,
    limits=LIMITS,
    models=MODELS,
    on_disconnect=POLICIES,
    safety_identifier=st.booleans(),
    output_ceiling=COUNTS,
    hard_stop=st.booleans(),
    group=st.none() | st.just("team"),
)


@given(CLIENT_TERMS)
def test_what_is_agreed_with_a_client_is_read_as_it_was_written(terms: ClientTerms) -> None:
    assert read_client_terms(client_terms_json(terms)) == terms


@given(st.builds(GroupTerms, limits=LIMITS, models=MODELS))
def test_what_is_agreed_with_a_group_is_read_as_it_was_written(terms: GroupTerms) -> None:
    assert read_group_terms(group_terms_json(terms)) == terms


def test_nothing_agreed_is_nothing_written() -> None:
    assert read_client_terms(None) == NO_TERMS
    assert client_terms_json(NO_TERMS) == "{}"


@pytest.mark.parametrize("text", ["", "[]", '{"rpm":"5"}', '{"budgets":[{"unit":"usd"}]}', '{"on_disconnect":"stay"}'])
def test_what_is_no_terms_is_not_taken_for_none(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        read_client_terms(text)


def test_a_budget_replaces_that_for_the_same_window() -> None:
    first = Budget(Unit.USD, Period.DAY, 5)
    other = Budget(Unit.TOKENS, Period.DAY, 5)
    later = Budget(Unit.USD, Period.DAY, 7)
    assert Limits(budgets=(first, other)).with_budgets(later) == (later, other)
