"""Ids as the servers make them."""

import string
from dataclasses import dataclass
from random import Random

_BASE62 = string.digits + string.ascii_letters


def random_id(prefix: str, rng: Random) -> str:
    """A prefix and 32 hexadecimal digits."""
    return f"{prefix}_{rng.getrandbits(128):032x}"


@dataclass(frozen=True, slots=True)
class Ids:
    """Of one answer: what its JSON says, and what the books say."""

    response: str
    generation: str

    @classmethod
    def make(cls, rng: Random, now: int, *, alike: bool) -> "Ids":
        """`alike`: the response goes by the id of its generation."""
        generation = f"gen-{now}-{''.join(rng.choices(_BASE62, k=20))}"
        return cls(generation if alike else random_id("resp", rng), generation)
