"""Masks what looks like a secret in a text that is stored or shown: keys, bearer tokens, JWTs."""

import re

MASK = "***"

_SECRETS = re.compile(
    r"(?P<scheme>bearer(?:[\s+]|%20)+)[^\s\"'\\,;<>]+"
    r"|(?-i:sk-[A-Za-z0-9_-]{8,})"  # also within a word: in a repr, a newline before it ends in the letter n
    r"|(?-i:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)",
    re.IGNORECASE,
)

KEY_START, JWT_START = "sk-", "eyJ"
"""A text without both holds nothing that looks like a key."""

_KEYS = re.compile(r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{4,})")
"""Keys of this server and of most providers, and JWTs. A `sk-` within a word (`task-...`) begins none."""


def mask_secrets(text: str) -> str:
    """The text with `***` in place of everything that looks like a secret."""
    return _SECRETS.sub(lambda found: (found["scheme"] or "") + MASK, text)


def mask_keys(text: str) -> str:
    """The name of a model, or an id, with `***` in place of everything that looks like a key."""
    return _KEYS.sub(MASK, text)
