"""Ids that upstream gave, as the ledger keeps them: whole up to 2,048 characters, longer ones as a digest."""

from hashlib import sha256

LONGEST_ID = 2048
"""A gateway as upstream packs its own routing into a response's id: 445 characters were seen."""

DIGEST_PREFIX = "sha256:"


def kept_id(text: str) -> str | None:
    """The id as it is stored and looked up; None for an empty one."""
    if len(text) <= LONGEST_ID:
        return text or None
    return DIGEST_PREFIX + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_digest(kept: str) -> bool:
    """Whether upstream cannot be asked about this id, since only its digest was kept."""
    return kept.startswith(DIGEST_PREFIX)
