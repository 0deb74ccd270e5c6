"""The response headers that each kind of server sends besides those of HTTP."""

from random import Random

from app.mock.dialects import Dialect
from app.mock.faults import FaultSet

Headers = list[tuple[bytes, bytes]]

_BLOCK = 4_000


def dialect_headers(dialect: Dialect, generation_id: str, rng: Random) -> Headers:
    """Request ids and what else comes with them; OpenAI's name the account and set a cookie, as the real ones do."""
    unique = f"{rng.getrandbits(128):032x}"
    if dialect.openrouter:
        found = {"x-generation-id": generation_id, "cf-ray": f"{unique[:16]}-FRA"}
    elif dialect.name == "azure":
        found = {"apim-request-id": unique, "x-request-id": unique, "x-ms-region": "Mock Central"}
    elif dialect.name in ("openai", "openresponses"):
        found = {
            "x-request-id": f"req_{unique}",
            "openai-version": "2020-10-01",
            "openai-processing-ms": str(rng.randint(80, 900)),
            "openai-organization": "org-mock",
            "openai-project": "proj_mock",
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "set-cookie": f"__cf_bm={unique}; path=/; HttpOnly; Secure",
        }
    else:
        found = {dialect.request_id_header: unique} if dialect.request_id_header else {}
    return [(name.encode(), value.encode()) for name, value in found.items()]


def content_type(dialect: Dialect, *, stream: bool) -> bytes:
    """Of an answer."""
    if not stream:
        return b"application/json"
    return b"text/event-stream; charset=utf-8" if dialect.name == "openai" else b"text/event-stream"


def odd_headers(faults: FaultSet) -> Headers:
    """Headers that faults ask for."""
    found: Headers = [(b"content-encoding", b"gzip")] if "gzip" in faults else []
    size = int(faults.value("huge-headers"))
    return found + [(f"x-ballast-{number}".encode(), b"b" * _BLOCK) for number in range(-(-size // _BLOCK))]
