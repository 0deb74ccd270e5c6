"""The Address of a PostgreSQL database. Its password goes to the driver and nowhere else."""

from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app.store.faults import StoreFault

# What the URL does not say. A peer that is gone without a word is noticed after some 25 s, also in mid-statement.
_DEFAULTS: dict[str, Any] = {
    "application_name": "weighbridge",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "gssencmode": "disable",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


class PostgresAddress:
    """Made of a `postgresql://` URL with all that libpq understands in it. As text: host, port and database."""

    def __init__(self, url: str) -> None:
        """Raises StoreFault for what is no such URL."""
        if urlsplit(url).netloc.count("@") > 1:
            raise StoreFault("the database URL has more than one @: one that belongs to the password is written %40")
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise StoreFault("the database URL cannot be read (its password must be percent-encoded)") from None
        self._parameters = {**_DEFAULTS, **given}
        host, port = given.get("host") or given.get("hostaddr") or "the local socket", given.get("port") or 5432
        self._text = f"{host}:{port}/{given.get('dbname') or given.get('user') or ''}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Address({self._text!r})"

    def parameters(self) -> dict[str, Any]:
        """For `connect`, the password among them."""
        return dict(self._parameters)
