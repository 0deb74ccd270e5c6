"""A secret is text that must not be shown by accident: one reader, and no other way to its characters."""

import hmac
import re
from typing import NoReturn, Self, final

MASK = "***"

_HOST = r"([\w.-]*|\[[0-9a-fA-F:.]*\])(:\d*)?"
_ADDRESS = re.compile(rf"{_HOST}(,{_HOST})*", re.ASCII)  # PostgreSQL takes several


class Secret:
    """A key. Whatever prints, formats, pickles or serialises it gets `***` or an error, never the text.

    Comparing takes the same time wherever two secrets differ. A copy, also a deep one, is the secret itself.
    """

    __slots__ = ("__text",)
    __hash__ = None  # type: ignore[assignment]  # a hash in a log would be something to guess against

    def __init__(self, text: str) -> None:
        """Raises ValueError for an empty text: an empty secret would be one that everybody knows."""
        if not text:
            raise ValueError("a secret is not empty")
        self.__text = text

    @final
    def reveal(self) -> str:
        """The text itself. Every use of a secret is a call of this, so that they can be found."""
        return self.__text

    def masked(self) -> str:
        """What may be shown in its place."""
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
    """A URL that may hold a password. Shown without it, and without its query, where passwords hide too."""

    __slots__ = ()

    def masked(self) -> str:
        """Shows only what is surely no password: nothing but the scheme where somebody left one unescaped."""
        scheme, _, rest = self.reveal().partition("://")
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
        login, at, address = netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        if "@" in rest[len(netloc) :] or "#" in rest or not _ADDRESS.fullmatch(address):
            return f"{scheme}://{MASK}"
        path, mark, _ = rest[len(netloc) :].partition("?")
        shown = f"{user}:{MASK}" if colon else user
        return f"{scheme}://{shown}{at}{address}{path}{f'?{MASK}' if mark else ''}"
