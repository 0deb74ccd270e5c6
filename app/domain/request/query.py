"""The query string of a call, which goes upstream as it came: no credential may be in it."""

import re
from urllib.parse import unquote_to_bytes

_CREDENTIALS = frozenset((b"auth", b"key", b"sig", b"signature", b"token"))
_CREDENTIAL = re.compile(
    rb"(api|access|auth|bearer|private|secret|session|subscription)[-_]?(key|token)"
    rb"|authoriz|cookie|credential|passw|secret"
)
_CLIENT_KEY = b"sk-wb-"
_SEPARATORS = re.compile(rb"[&;]")


def holds_credential(query: bytes) -> bool:
    """Whether a parameter is named as credentials are, or a client's key stands anywhere in the query."""
    if unquote_to_bytes(query).find(_CLIENT_KEY) >= 0:
        return True
    for parameter in _SEPARATORS.split(query):
        name = unquote_to_bytes(parameter.partition(b"=")[0]).lower()
        if name in _CREDENTIALS or _CREDENTIAL.search(name):
            return True
    return False
