"""A secret is text that must not be shown by accident: one reader, and no other way to its characters."""

import hmac
from typing import NoReturn, Self, final
from urllib.parse import urlsplit, urlunsplit

MASK = "***"


class Secret:
    """A key. Whatever prints, formats, pickles or serialises it gets `***` or an error, never the text.

    Comparing takes the same time wherever two secrets differ. A copy, also a deep one, is the secret itself.
    """

    __slots__ = ("__text",)
    __hash__ = None  # type: ignore[assignment]  # a hash in a log would be something to guess against

    def __init__(self, text: str) -> None:
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
        parts = urlsplit(self.reveal())
        login, at, address = parts.netloc.rpartition("@")
        user = login.partition(":")[0]
        netloc = f"{user}:{MASK}{at}{address}" if ":" in login else parts.netloc
        return urlunsplit((parts.scheme, netloc, parts.path, MASK if parts.query else "", ""))
