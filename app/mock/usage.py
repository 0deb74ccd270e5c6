"""The usage of a call: a deterministic count of tokens, and a prompt cache that remembers prefixes."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

CHARACTERS_PER_TOKEN = 4
BLOCK_TOKENS = 64
"""A prompt is cached in blocks of this size, so that small demonstrations show it too."""


@dataclass(frozen=True, slots=True)
class MockUsage:
    """Tokens. Cached and cache-write tokens are part of the input, reasoning tokens part of the output."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def after(self, output_tokens: int) -> "MockUsage":
        """What is owed when only so much of the output was made. Reasoning comes first."""
        made = min(output_tokens, self.output_tokens)
        return replace(self, output_tokens=made, reasoning_tokens=min(made, self.reasoning_tokens))


def input_tokens(prompt: str) -> int:
    """The tokens of a prompt, about four characters each, at least one."""
    return max(1, -(-len(prompt) // CHARACTERS_PER_TOKEN))


class PromptCache:
    """Remembers which prompt prefixes were seen, by hash, the newest `most` blocks of them."""

    def __init__(self, most: int = 20_000) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._most = most

    def weigh(self, prompt: str) -> tuple[int, int]:
        """Tokens of the prompt found in the cache, and tokens newly written to it."""
        blocks = _prefixes(prompt)
        cached = 0
        while cached < len(blocks) and blocks[cached] in self._seen:
            cached += 1
        for block in reversed(blocks):  # the first outlives the others, which are nothing without it
            self._seen[block] = None
            self._seen.move_to_end(block)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return cached * BLOCK_TOKENS, (len(blocks) - cached) * BLOCK_TOKENS

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()


def _prefixes(prompt: str) -> list[bytes]:
    size = BLOCK_TOKENS * CHARACTERS_PER_TOKEN
    running = hashlib.blake2b(digest_size=16)
    blocks = []
    for start in range(0, len(prompt) - size + 1, size):
        running.update(prompt[start : start + size].encode("utf-8", "surrogatepass"))
        blocks.append(running.digest())
    return blocks
