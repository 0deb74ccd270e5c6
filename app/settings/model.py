"""The settings as one frozen tree. Each field has its default, its rule and its description."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.money.price_table import price_from_config
from app.settings.addresses import (
    LOOPBACK_NAMES,
    is_loopback,
    is_url,
    parse_host,
    parse_host_header,
    parse_origin,
    parse_public_url,
)
from app.settings.environment import SECRET_VARIABLES
from app.settings.limits import ClientDefaults, LimitRules
from app.settings.quantities import parse_duration, parse_size
from app.settings.secret import Secret, SecretUrl
from app.settings.section import AnyCase, Count, Directory, Key, Seconds, Section, lowered, split_names
from app.settings.source import Source
from app.settings.upstream import UpstreamSettings, UpstreamTimeoutSettings

NOT_IN_FILES = frozenset({"key", "admin_key", "proxy_password"})
"""Fields that hold a secret from a file or a variable. The TOML file names the file or variable instead."""


def _with_loopback(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*map(parse_host_header, names), *LOOPBACK_NAMES)))


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(parse_origin, values)))


def _secret_url(*schemes: str) -> PlainValidator:
    def check(value: object) -> SecretUrl:
        if not isinstance(value, Secret) or not is_url(value.reveal(), schemes):
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return SecretUrl(value.reveal())

    return PlainValidator(check)


def _price_table(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of US dollars per million tokens")  # noqa: TRY004  # pydantic reads these
    price_from_config(value)
    return dict(value)


def _level(value: object) -> object:
    return "warning" if lowered(value) == "warn" else lowered(value)


ByteCount = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Origins = Annotated[tuple[str, ...], BeforeValidator(split_names), AfterValidator(_origins)]
HostNames = Annotated[tuple[str, ...], BeforeValidator(split_names), AfterValidator(_with_loopback)]


class ServerSettings(Section):
    """The server's own address and its bounds.

    Any host may be bound, since each call is authenticated and no setting turns that off. If a setting ever does, it
    must be refused here unless `on_loopback` is true.
    """

    host: Annotated[str, AfterValidator(parse_host)] = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[Count, Field(ge=0, le=65535)] = Field(
        default=8787, description="Port to listen on; 0 takes a free one."
    )
    allowed_hosts: HostNames = Field(
        default_factory=lambda given: (given["host"],),
        description="Names that a Host header may have, without port; others get 421. Loopback names always may.",
        examples=[["gateway.example.com"]],
    )
    allowed_origins: Origins = Field(
        default=(), description="Web origins whose pages may call, such as https://app.example.com; others get 403."
    )
    public_url: Annotated[str, AfterValidator(parse_public_url)] | None = Field(
        default=None,
        description="Where clients reach this server, if a proxy or container gives it another address. Only shown.",
        examples=["https://gateway.example.com"],
    )
    admin_key_file: Directory | None = Field(
        default=None,
        description="File with the admin key. Without it, the first start makes one.",
        examples=["/run/secrets/admin-key"],
    )
    admin_key: Key | None = Field(default=None, description="The admin key itself.")
    max_body_bytes: ByteCount = Field(
        default=32 * 2**20, description="Largest request body, before and after decoding."
    )
    max_buffered_bytes: ByteCount = Field(
        default=256 * 2**20,
        description="Memory for all request bodies together, decoded; one client may use half of it. "
        "Bodies up to 64 KiB are not counted.",
    )
    max_streams: Annotated[Count, Field(gt=0)] = Field(default=2000, description="Calls at once; more get 503.")
    max_loop_lag: Annotated[float, BeforeValidator(parse_duration), Field(ge=0)] = Field(
        default=0.5, description="New calls get 503 while the event loop is later than this. 0: never."
    )
    request_timeout: Seconds = Field(
        default=30,
        description="Time for a client's headers. A body must bring 8 KiB a second over any such time, "
        "and be complete within 15 minutes.",
    )
    keep_alive_timeout: Seconds = Field(default=75, description="How long an idle client connection is kept.")
    write_timeout: Seconds = Field(default=60, description="How long a client may go without reading.")
    drain_timeout: Annotated[float, BeforeValidator(parse_duration), Field(ge=0)] = Field(
        default=30, description="How long running streams may go on when the server stops."
    )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


class StorageSettings(Section):
    """Where data is kept."""

    state_dir: Directory = Field(
        description="Directory of the ledger, the admin key and the lock. Default: the platform's state directory.",
        examples=["/var/lib/weighbridge"],
    )
    database_url: Annotated[SecretUrl, _secret_url("postgresql", "postgres"), PlainSerializer(str)] | None = Field(
        default=None,
        description="PostgreSQL instead of SQLite. Without it: the file weighbridge.db in the state directory.",
        examples=["postgresql://weighbridge@db.example.com/weighbridge"],
    )
    redis_url: Annotated[SecretUrl, _secret_url("redis", "rediss", "unix"), PlainSerializer(str)] | None = Field(
        default=None,
        description="Redis or Valkey that shares limits among servers. Without it, limits are kept in this process.",
        examples=["redis://cache.example.com:6379/0"],
    )


class LogSettings(Section):
    """The log."""

    format: Annotated[Literal["auto", "console", "json"], AnyCase] = Field(
        default="auto", description="auto, console or json. auto: console on a terminal, else json."
    )
    level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_level)] = Field(
        default="info", description="debug, info, warning, error or critical."
    )


class LedgerSettings(Section):
    """When records are written, and how long they are kept."""

    durability: Annotated[Literal["commit", "relaxed"], AnyCase] = Field(
        default="commit",
        description="commit: an answer ends once its record is on disk. relaxed: the record follows a moment later.",
    )
    missing_usage: Annotated[Literal["unknown", "estimate"], AnyCase] = Field(
        default="estimate",
        description="Usage of a call that broke off. estimate: a high guess, marked as one. unknown: none.",
    )
    retention_days: Annotated[Count, Field(gt=0, le=36_500)] = Field(
        default=90, description="Days that records are kept. Hourly sums are kept for good."
    )


class Settings(BaseSettings):
    """All settings. They come from the given sources only, highest first; the process itself is not read."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    upstream_timeouts: UpstreamTimeoutSettings = UpstreamTimeoutSettings()
    storage: StorageSettings
    log: LogSettings = LogSettings()
    ledger: LedgerSettings = LedgerSettings()
    limits: LimitRules = LimitRules()
    client_defaults: ClientDefaults = ClientDefaults()
    prices: dict[str, Annotated[dict[str, Any], PlainValidator(_price_table)]] = Field(
        default_factory=dict,
        description="Prices by model, in US dollars per million tokens; they override the built-in ones.",
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _file: tuple[Path, str] | None = PrivateAttr(default=None)

    def __init__(self, sources: Sequence[Source]) -> None:
        """Merge the sources; earlier ones win. Raises pydantic's ValidationError with every fault."""
        super().__init__(_build_sources=(tuple(sources), {}))
        for source in reversed(sources):
            self._origins.update(source.origins)
            self._file = source.file or self._file

    @property
    def file(self) -> tuple[Path, str] | None:
        """The TOML file and what named it: "flag --config", "env WEIGHBRIDGE_CONFIG" or "default"."""
        return self._file

    def origin(self, setting: str) -> str:
        """Where the value of a setting ("server.port", "prices.MODEL") came from. Raises LookupError.

        "flag --port", "env WEIGHBRIDGE_PORT", "file /etc/weighbridge.toml:server.port", "default" and the like.
        """
        section, _, key = setting.partition(".")
        known = self.prices if section == "prices" else sections()[section].model_fields
        if key not in known:
            raise LookupError(setting)
        return self._origins.get(setting, "default")

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The environment variables to remove from a running server (see hardening.scrub_environment)."""
        return (*SECRET_VARIABLES, self.upstream.key_env) if self.upstream.key_env else SECRET_VARIABLES


def sections() -> dict[str, type[Section]]:
    """The tables of the settings by name, in the order of the documentation, without prices, whose keys are models."""
    return {
        "server": ServerSettings,
        "upstream": UpstreamSettings,
        "upstream_timeouts": UpstreamTimeoutSettings,
        "storage": StorageSettings,
        "log": LogSettings,
        "ledger": LedgerSettings,
        "limits": LimitRules,
        "client_defaults": ClientDefaults,
    }
