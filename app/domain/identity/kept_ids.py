"""Upstream's ids as the ledger stores them: whole up to 2,048 characters, longer ones as a digest."""

from hashlib import sha256

LONGEST_ID = 2048
"""Some gateways pack their routing into a response's id: 445 characters were seen."""

DIGEST_PREFIX = "sha256:"


def kept_id(text: str) -> str | None:
    """The id as it is stored and looked up; None if it is empty."""
    if len(text) <= LONGEST_ID:
        return text or None
    return DIGEST_PREFIX + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_digest(kept: str) -> bool:
    """Whether only a digest of the id was stored, so that upstream cannot be asked about it."""
    return kept.startswith(DIGEST_PREFIX)
