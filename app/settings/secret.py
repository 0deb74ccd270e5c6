"""Secrets: text that cannot be shown by accident. Only reveal() gives it."""

import hmac
import re
from typing import NoReturn, Self, final

MASK = "***"

_HOST = r"([\w.-]*|\[[0-9a-fA-F:.]*\])(:\d*)?"
_ADDRESS = re.compile(rf"{_HOST}(,{_HOST})*", re.ASCII)  # PostgreSQL accepts several


class Secret:
    """A key. Printing, formatting, pickling or serialising it gives `***` or an error, never the text.

    Comparison takes constant time. Copies, also deep ones, are the same object.
    """

    __slots__ = ("__text",)
    __hash__ = None  # type: ignore[assignment]  # a hash in a log would allow guesses

    def __init__(self, text: str) -> None:
        """Raises ValueError for empty text."""
        if not text:
            raise ValueError("a secret must not be empty")
        self.__text = text

    @final
    def reveal(self) -> str:
        """The text itself. All uses of secrets call this, so that they can be searched."""
        return self.__text

    def masked(self) -> str:
        """The text to show in its place."""
        return MASK

    @final
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.masked()})"

    @final
    def __str__(self) -> str:
        return self.masked()

    @final
    def __format__(self, spec: str) -> str:
        return format(self.masked(), spec)

    @final
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.__text.encode())

    @final
    def __copy__(self) -> Self:
        return self

    @final
    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @final
    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")

    @final
    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret has no state to show")


@final
class SecretUrl(Secret):
    """A URL that may hold a password. It is shown without its password and its query, which may hold one too."""

    __slots__ = ()

    def masked(self) -> str:
        """Only the parts that cannot be a password. If a password is not escaped, only the scheme."""
        scheme, _, rest = self.reveal().partition("://")
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
        login, at, address = netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        if "@" in rest[len(netloc) :] or "#" in rest or not _ADDRESS.fullmatch(address):
            return f"{scheme}://{MASK}"
        path, mark, _ = rest[len(netloc) :].partition("?")
        shown = f"{user}:{MASK}" if colon else user
        return f"{scheme}://{shown}{at}{address}{path}{f'?{MASK}' if mark else ''}"
