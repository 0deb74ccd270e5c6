"""Where the server is: redis://, rediss:// (TLS) or unix://, with user, password and database."""

from urllib.parse import parse_qs, unquote, urlsplit

from app.limits.faults import LimiterUnusable

DEFAULT_PORT = 6379


class RedisAddress:
    """The parts of a URL. Its repr has no password. Raises LimiterUnusable for a URL that cannot be used."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.secure = parts.scheme == "rediss"
        self.path = unquote(parts.path) if parts.scheme == "unix" else None
        try:
            self.host, self.port = parts.hostname or "localhost", parts.port or DEFAULT_PORT
            database = parse_qs(parts.query).get("db", ["0"])[0] if self.path else parts.path.strip("/") or "0"
            self.database = int(database)
        except ValueError:
            raise LimiterUnusable("the port and the database of the Redis URL must be numbers") from None
        self.user = unquote(parts.username or "")
        self.password = unquote(parts.password or "")

    def __repr__(self) -> str:
        return self.path or f"{self.host}:{self.port}/{self.database}"

    def greeting(self) -> list[tuple[str, ...]]:
        """The first commands of a connection."""
        commands: list[tuple[str, ...]] = []
        if self.password:
            commands.append(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return commands
