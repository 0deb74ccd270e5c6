"""What limits say of themselves."""

import pytest

from app.gateway.admission.limit_headers import limit_headers, retry_after, span
from app.gateway.limiter import Limit, RateReading

MS = 1_000_000


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (250 * MS, "250ms"),
        (1000 * MS, "1s"),
        (999 * MS + 1, "1s"),
        (8500 * MS, "9s"),
        (59_001 * MS, "1m0s"),
        (60_250 * MS, "1m0s"),
    ],
)
def test_spans_are_written_as_openai_writes_them(nanoseconds: int, text: str) -> None:
    assert span(nanoseconds)[1].decode() == text


@pytest.mark.parametrize(
    ("wait", "seconds"), [(0, "1"), (1, "1"), (1_000 * MS, "1"), (1_001 * MS, "2"), (10**12, "60")]
)
def test_a_wait_is_at_least_a_second_and_never_longer_than_sdks_believe(wait: int, seconds: str) -> None:
    assert retry_after(wait) == ("retry-after", seconds)


def test_of_two_rates_the_tighter_one_is_told() -> None:
    own = [RateReading(Limit.REQUESTS, 60, 5, 1000 * MS), RateReading(Limit.TOKENS, 900, 100, 0)]
    group = [RateReading(Limit.TOKENS, 1000, 99, 2000 * MS)]
    told = dict(limit_headers([*own, *group]))
    assert (told[b"x-ratelimit-limit-tokens"], told[b"x-ratelimit-remaining-tokens"]) == (b"1000", b"99")
    assert told[b"ratelimit"] == b'"requests";r=5;t=1, "tokens";r=99;t=2'
    assert limit_headers([]) == []
