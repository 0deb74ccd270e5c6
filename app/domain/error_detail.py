"""The `error_detail` of a record: why the call failed, in one short sentence that holds no secret."""

from app.domain.masking import masked

LONGEST_DETAIL = 256
"""Characters."""

_LONGEST_READ = 4 * LONGEST_DETAIL


def short_detail(text: str) -> str:
    """One printable line of at most 256 characters, with whatever looks like a secret masked.

    Masked before it is cut: half a key at the end would not be known for one.
    """
    line = " ".join(text[:_LONGEST_READ].split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else "?" for character in line)
    line = masked(line)
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 3] + "..."
