"""Masks what looks like a secret in a text that is kept or shown: keys, bearer tokens, JWTs."""

import re

MASK = "***"

_TOKENS = re.compile(
    r"(?P<scheme>bearer(?:[\s+]|%20)+)[^\s\"'\\,;<>]+"
    r"|(?-i:sk-[A-Za-z0-9_-]{8,})"  # wherever it stands: in a repr, a newline before it ends in the letter n
    r"|(?-i:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """The text with `***` in the place of whatever looks like a secret."""
    return _TOKENS.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    return (match["scheme"] or "") + MASK
