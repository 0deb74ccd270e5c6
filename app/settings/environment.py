"""The environment: which variable sets which setting, and which ones hold secrets."""

import re
from collections.abc import Mapping
from pathlib import Path

from app.settings.credentials import LEAST_SECRET_CHARACTERS, systemd_candidate, variable_candidates
from app.settings.faults import SettingsFault, did_you_mean
from app.settings.source import Source

PREFIX = "WEIGHBRIDGE_"
CONFIG_VARIABLE = "WEIGHBRIDGE_CONFIG"
UPSTREAM_KEY_VARIABLES = ("OPENROUTER_API_KEY", "WEIGHBRIDGE_UPSTREAM_KEY")
ADMIN_KEY_VARIABLE = "WEIGHBRIDGE_ADMIN_KEY"
PROXY_PASSWORD_VARIABLE = "WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD"  # noqa: S105 - a name
VARIABLES: Mapping[str, str] = {
    "WEIGHBRIDGE_HOST": "server.host",
    "WEIGHBRIDGE_PORT": "server.port",
    "WEIGHBRIDGE_ALLOWED_HOSTS": "server.allowed_hosts",
    "WEIGHBRIDGE_ALLOWED_ORIGINS": "server.allowed_origins",
    "WEIGHBRIDGE_PUBLIC_URL": "server.public_url",
    "WEIGHBRIDGE_MAX_BODY_BYTES": "server.max_body_bytes",
    "WEIGHBRIDGE_MAX_BUFFERED_BYTES": "server.max_buffered_bytes",
    "WEIGHBRIDGE_MAX_STREAMS": "server.max_streams",
    "WEIGHBRIDGE_MAX_LOOP_LAG": "server.max_loop_lag",
    "WEIGHBRIDGE_REQUEST_TIMEOUT": "server.request_timeout",
    "WEIGHBRIDGE_KEEP_ALIVE_TIMEOUT": "server.keep_alive_timeout",
    "WEIGHBRIDGE_WRITE_TIMEOUT": "server.write_timeout",
    "WEIGHBRIDGE_DRAIN_TIMEOUT": "server.drain_timeout",
    "WEIGHBRIDGE_UPSTREAM_URL": "upstream.base_url",
    "WEIGHBRIDGE_UPSTREAM_CA_FILE": "upstream.ca_file",
    "WEIGHBRIDGE_UPSTREAM_PROXY": "upstream.proxy",
    "WEIGHBRIDGE_UPSTREAM_PASS_HEADERS": "upstream.pass_headers",
    "WEIGHBRIDGE_CONNECT_TIMEOUT": "upstream_timeouts.connect",
    "WEIGHBRIDGE_FIRST_BYTE_TIMEOUT": "upstream_timeouts.first_byte",
    "WEIGHBRIDGE_IDLE_TIMEOUT": "upstream_timeouts.idle",
    "WEIGHBRIDGE_STATE_DIR": "storage.state_dir",
    "WEIGHBRIDGE_DATABASE_URL": "storage.database_url",
    "WEIGHBRIDGE_REDIS_URL": "storage.redis_url",
    "WEIGHBRIDGE_LOG_FORMAT": "log.format",
    "LOG_LEVEL": "log.level",
    "WEIGHBRIDGE_LOG_LEVEL": "log.level",  # after LOG_LEVEL, which other programs share, so that ours wins
    "WEIGHBRIDGE_DURABILITY": "ledger.durability",
    "WEIGHBRIDGE_MISSING_USAGE": "ledger.missing_usage",
    "WEIGHBRIDGE_RETENTION_DAYS": "ledger.retention_days",
}
"""Settings by variable. If two variables set the same setting, the later wins."""

SECRET_VARIABLES = (
    *UPSTREAM_KEY_VARIABLES,
    ADMIN_KEY_VARIABLE,
    PROXY_PASSWORD_VARIABLE,
    "WEIGHBRIDGE_DATABASE_URL",
    "WEIGHBRIDGE_REDIS_URL",
)
"""Variables that a running server must not keep in its environment."""

URL_VARIABLES = ("WEIGHBRIDGE_DATABASE_URL", "WEIGHBRIDGE_REDIS_URL")
_KEY_VARIABLES = (*UPSTREAM_KEY_VARIABLES, ADMIN_KEY_VARIABLE, PROXY_PASSWORD_VARIABLE)
FILE_VARIABLES = tuple(f"{name}_FILE" for name in (*_KEY_VARIABLES, *URL_VARIABLES))
_KNOWN = frozenset((*VARIABLES, *SECRET_VARIABLES, *FILE_VARIABLES, CONFIG_VARIABLE))
_SERVICE_LINK = re.compile(r"WEIGHBRIDGE_(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class EnvironmentSource(Source):
    """The settings of the environment. An empty variable counts as unset; an unknown WEIGHBRIDGE_ variable is a fault.

    `key_variable` is one more known variable, which the file's key_env names.
    """

    def __init__(self, environ: Mapping[str, str], home: Path | None = None, key_variable: str | None = None) -> None:
        super().__init__(home)
        self._read_variables(environ)
        self._read_keys(environ)
        self._find_unknown(environ, key_variable)

    def _read_variables(self, environ: Mapping[str, str]) -> None:
        for name, setting in VARIABLES.items():
            value = environ.get(name)
            if value and not _is_service_link(name, value):
                section, _, key = setting.partition(".")
                self.put(section, key, value, f"env {name}")

    def _read_keys(self, environ: Mapping[str, str]) -> None:
        upstream = [*variable_candidates(UPSTREAM_KEY_VARIABLES, environ), *systemd_candidate(environ)]
        self.put_key("upstream", "key", upstream)
        admin = variable_candidates((ADMIN_KEY_VARIABLE,), environ, least=LEAST_SECRET_CHARACTERS)
        self.put_key("server", "admin_key", [*admin])
        password = variable_candidates((PROXY_PASSWORD_VARIABLE,), environ)
        self.put_key("upstream", "proxy_password", [*password])
        for name in URL_VARIABLES:
            if environ.get(f"{name}_FILE"):
                section, _, key = VARIABLES[name].partition(".")
                self.put_key(section, key, [*variable_candidates((name,), environ)])

    def _find_unknown(self, environ: Mapping[str, str], key_variable: str | None) -> None:
        for name in sorted(environ):
            known = name in _KNOWN or name == key_variable or _is_service_link(name, environ[name])
            if name.startswith(PREFIX) and not known:
                self.faults.append(
                    SettingsFault(
                        f"env {name}", f"there is no such setting{did_you_mean(name, sorted(_KNOWN), PREFIX)}"
                    )
                )


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made it: a Service named "weighbridge" gives every pod WEIGHBRIDGE_PORT and more."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (name == "WEIGHBRIDGE_PORT" and bool(_SERVICE_ADDRESS.match(value)))
