"""What must not reach a log: keys, bearer tokens, JWTs; and what must not forge one: control characters."""

import json
from collections.abc import Iterable
from urllib.parse import quote

from app.domain.masking import MASK, mask_secrets

SHORTEST_SECRET = 4
"""A shorter "secret" guards nothing, and blotting it out would leave no line readable."""


class Redactor:
    """Puts `***` in the place of secrets: those it was told of, as they are or escaped, and whatever looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: str) -> None:
        """Redact this text too from now on; for keys that are made while the program runs."""
        if len(secret) >= SHORTEST_SECRET:
            forms = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
            # The longest first: of two secrets, one may be the beginning of the other.
            self._secrets = tuple(sorted(forms.union(self._secrets), key=len, reverse=True))

    def __call__(self, text: str) -> str:
        # Known secrets before patterns: a pattern may swallow the first half of a secret and leave the second.
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return mask_secrets(text)

    def suspects(self, text: str) -> bool:
        """False when redacting and escaping would change nothing. Quick: a few searches, no pattern."""
        if not text.isascii() or "sk-" in text or "eyJ" in text or "bearer" in text.lower():
            return True
        return any(secret in text for secret in self._secrets)


def escape(text: str, *, keep_newlines: bool = False) -> str:
    r"""Text with everything unprintable written as `\n`, `\x1b`, `\u2028`, lone surrogates too: one line stays one."""
    if text.isprintable():
        return text
    if keep_newlines:
        return "\n".join(map(escape, text.split("\n")))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
