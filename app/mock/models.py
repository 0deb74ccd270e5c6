"""The models that the mock knows, and what it would bill for them.

The prices are the mock's own and deliberately not shared with the gateway's: books that are made with the code under
test agree with it about anything.
"""

import re
from dataclasses import dataclass

from app.mock.usage import MockUsage

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class MockModel:
    """Prices are nano-dollars a token: plain input, cached input, input written to the cache, output."""

    name: str
    input_nanousd: int
    cached_nanousd: int
    cache_write_nanousd: int
    output_nanousd: int
    reasons: bool = False
    context_tokens: int = 400_000

    def cost_nanousd(self, usage: MockUsage) -> int:
        """What the usage costs."""
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        return (
            plain * self.input_nanousd
            + usage.cached_tokens * self.cached_nanousd
            + usage.cache_write_tokens * self.cache_write_nanousd
            + usage.output_tokens * self.output_nanousd
        )


MODELS: tuple[MockModel, ...] = (
    MockModel("openai/gpt-5.5", 1_250, 125, 1_250, 10_000, reasons=True),
    MockModel("openai/gpt-5.5-mini", 250, 25, 250, 2_000, reasons=True),
    MockModel("openai/gpt-4o-mini", 150, 75, 150, 600, context_tokens=128_000),
    MockModel("openai/o4-mini", 1_100, 275, 1_100, 4_400, reasons=True, context_tokens=200_000),
    MockModel("anthropic/claude-sonnet-5", 3_000, 300, 3_750, 15_000, reasons=True, context_tokens=1_000_000),
    MockModel("google/gemini-3-flash", 300, 30, 300, 2_500, context_tokens=1_000_000),
    MockModel("mock/free", 0, 0, 0, 0, context_tokens=32_000),
)
UNKNOWN = MockModel("unknown", 1_000, 100, 1_000, 4_000, context_tokens=128_000)


def find_model(name: str) -> MockModel:
    """The model of that name, with or without its maker's name or the date of a snapshot; else `UNKNOWN`."""
    plain = _SNAPSHOT.sub("", name)
    for model in MODELS:
        if plain in (model.name, model.name.partition("/")[2]):
            return model
    return UNKNOWN
