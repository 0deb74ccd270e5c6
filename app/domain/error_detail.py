"""The `error_detail` of a record: why the call failed, in one short sentence without secrets."""

from app.domain.masking import mask_secrets

LONGEST_DETAIL = 256
"""Characters."""

_LONGEST_READ = 4 * LONGEST_DETAIL


def short_detail(text: str) -> str:
    """One printable line of at most 256 characters, with everything masked that looks like a secret.

    It is masked before it is cut, since half a key would not be recognised.
    """
    line = " ".join(text[:_LONGEST_READ].split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else "?" for character in line)
    line = mask_secrets(line)
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 3] + "..."
