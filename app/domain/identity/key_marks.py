"""What looks like a key, wherever it stands in a name: people paste keys into the wrong field, and names are stored."""

import re

MASK = "***"
SK, JWT = "sk-", "eyJ"
"""Without either of these a text holds nothing that looks like a key."""

_KEYS = re.compile(r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{4,})")
"""Keys of this server and of most providers, and tokens (JWT). A `sk-` within a word (`task-...`) begins none."""


def masked(text: str) -> str:
    """The text with a mask in place of whatever looks like a key."""
    return _KEYS.sub(MASK, text)
