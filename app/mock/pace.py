"""How fast the mock model writes."""

from dataclasses import dataclass
from random import Random


class BadPace(ValueError):
    """A pace that does not parse; the message is for the person who typed it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens a second, seconds before the first token, and how far both stray (0.3 = up to 30 % either way).

    No tokens a second means no waiting at all: as fast as the connection takes it.
    """

    tokens_per_second: float = 80.0
    first_token_seconds: float = 0.3
    jitter: float = 0.3

    @classmethod
    def parse(cls, text: str) -> "Pace":
        """`0`, `TOKENS_PER_SECOND` or `TOKENS_PER_SECOND:FIRST_TOKEN_SECONDS`. Raises BadPace."""
        rate_text, _, first_text = text.strip().partition(":")
        try:
            rate = float(rate_text)
            first = float(first_text) if first_text else cls().first_token_seconds
        except ValueError:
            rate = first = -1.0
        if not (0 <= rate < float("inf") and 0 <= first < float("inf")):
            raise BadPace(f"not a pace: {text!r}; write 0, TOKENS_PER_SECOND or TOKENS_PER_SECOND:FIRST_TOKEN_SECONDS")
        return cls(rate, first if rate else 0.0)

    def first_token(self, rng: Random) -> float:
        """Seconds of thought before the first output."""
        return self._stray(self.first_token_seconds, rng) if self.tokens_per_second else 0.0

    def tokens(self, count: int, rng: Random) -> float:
        """Seconds that `count` tokens take."""
        return self._stray(count / self.tokens_per_second, rng) if self.tokens_per_second else 0.0

    def planned(self, count: int) -> float:
        """Seconds that a whole answer of so many tokens takes, straying aside."""
        return self.first_token_seconds + count / self.tokens_per_second if self.tokens_per_second else 0.0

    def _stray(self, seconds: float, rng: Random) -> float:
        return seconds * rng.uniform(1 - self.jitter, 1 + self.jitter)
