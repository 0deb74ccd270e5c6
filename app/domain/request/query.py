"""The query string of a call goes upstream unchanged, so that it must hold no credential."""

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
    """Whether a parameter has the name of a credential, or a client's key is anywhere in the query."""
    if unquote_to_bytes(query).find(_CLIENT_KEY) >= 0:
        return True
    for parameter in _SEPARATORS.split(query):
        name = unquote_to_bytes(parameter.partition(b"=")[0]).lower()
        if name in _CREDENTIALS or _CREDENTIAL.search(name):
            return True
    return False
