"""What an exchange cost: reported before priced before unknown, and the price that made it is kept."""

import pytest

from app.domain.money.pricing import Price
from app.domain.records import CostSource
from tests.gateway.house import House, event, response, usage

SERVED = Price(input=2_000_000_000, output=10_000_000_000, source="book")
ASKED = Price(input=1_000_000_000, output=1_000_000_000, source="book")


def settle(house: House, **used: object) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(event("response.completed", response=response(usage=used)))


@pytest.mark.parametrize(("cost", "nanousd"), [(0.00123456, 1_234_560), (0, 0), ("0.5", 500_000_000)])
def test_what_upstream_reports_wins(house: House, cost: object, nanousd: int) -> None:
    house.prices["m-served"] = SERVED
    settle(house, **usage(cost=cost))
    record = next(iter(house.ledger.settled.values()))
    assert (record.cost_nanousd, record.cost_source, record.price) == (nanousd, CostSource.REPORTED, None)


def test_the_model_that_served_is_priced_before_the_one_asked_for(house: House) -> None:
    house.prices.update({"m-served": SERVED, "m-asked": ASKED})
    settle(house, **usage(12, 45))
    record = next(iter(house.ledger.settled.values()))
    assert record.cost_nanousd == 12 * 2_000 + 45 * 10_000
    assert (record.cost_source, record.price) == (CostSource.PRICED, SERVED.as_json())


def test_an_alias_is_priced_by_the_name_asked_for(house: House) -> None:
    house.prices["m-asked"] = ASKED
    settle(house, **usage(12, 45))
    record = next(iter(house.ledger.settled.values()))
    assert (record.cost_nanousd, record.price) == (57_000, ASKED.as_json())


@pytest.mark.parametrize("used", [{"input_tokens": 5}, {"total_tokens": 57}, {}])
def test_unknown_tokens_have_an_unknown_cost_not_none_at_all(house: House, used: dict[str, int]) -> None:
    house.prices["m-served"] = SERVED
    settle(house, **used)
    record = next(iter(house.ledger.settled.values()))
    assert (record.cost_nanousd, record.cost_source, record.price) == (None, None, None)


def test_a_model_without_a_price_has_no_cost(house: House) -> None:
    settle(house, **usage())
    record = next(iter(house.ledger.settled.values()))
    assert (record.total_tokens, record.cost_nanousd, record.cost_source) == (57, None, None)
