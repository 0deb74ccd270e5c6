"""Loads the settings from flags, the environment, a file and the platform, or reports all their faults."""

import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from app.settings.config_file import FileSource, find_config
from app.settings.environment import UPSTREAM_KEY_VARIABLES, EnvironmentSource
from app.settings.faults import SettingsError, SettingsFault, explain
from app.settings.model import Settings
from app.settings.servers import RunningServer
from app.settings.source import SECRET_URLS, SECRETS, FlagSource, PlatformSource, ServerSource, Source

_NOTHING: Mapping[str, object] = MappingProxyType({})


def load_settings(  # noqa: PLR0913 - places that settings come from
    config: Path | None = None,
    flags: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] | None = None,
    stdin_key: str | None = None,
    *,
    need_upstream_key: bool,
    server: RunningServer | None = None,
) -> Settings:
    """Read the settings: flag before environment before file before default. Raises SettingsError with every fault.

    `server` is the running server that a command found: its file and its state directory are used unless --config or
    the environment name others.

    `config` is the file of --config. `flags` are by setting ("server.port"); None is a flag that was not given.
    `stdin_key` is the text read for --upstream-key-stdin. `environ` is the process's own by default.
    """
    environ = os.environ if environ is None else environ
    home = _home(environ)
    found = find_config(config, environ, home)
    if server is not None:
        found = None if server.config is None else (server.config, f"server {server.url}")
    file = FileSource(found, environ, home)
    sources: tuple[Source, ...] = (
        FlagSource(flags, stdin_key, home),
        EnvironmentSource(environ, home, file.key_variable),
        *(() if server is None else (ServerSource(server.state_dir, server.url),)),
        file,
        PlatformSource(default_state_dir(environ, home)),
    )
    faults = [fault for source in sources for fault in source.faults]
    faults += _key_faults(sources)
    settings = _merge(sources, faults)
    if need_upstream_key and not any("upstream.key" in source.origins for source in sources):
        faults.append(_no_upstream_key(file.key_variable))
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def default_state_dir(environ: Mapping[str, str], home: Path | None, platform: str = sys.platform) -> Path:
    """The platform's directory for state. A process without a home directory counts as a daemon."""
    given = Path(environ.get("XDG_STATE_HOME") or ".")
    if given.is_absolute():
        return given / "weighbridge"
    if home is None:
        return Path("/var/lib/weighbridge")
    if platform == "darwin":
        return home / "Library" / "Application Support" / "weighbridge"
    return home / ".local" / "state" / "weighbridge"


def _merge(sources: tuple[Source, ...], faults: list[SettingsFault]) -> Settings | None:
    try:
        return Settings(sources)
    except ValidationError as error:
        origins: dict[str, str] = {}
        for source in reversed(sources):
            origins.update(source.origins)
        faults.extend(explain(error, origins))
        return None


def _key_faults(sources: tuple[Source, ...]) -> Iterator[SettingsFault]:
    """The faults of keys, except those that a higher source overrides."""
    for setting in (*SECRETS, *sorted(SECRET_URLS)):
        in_force = next((source for source in sources if setting in source.origins), None)
        if in_force is not None:
            yield from in_force.key_faults.get(setting, ())


def _no_upstream_key(named: str | None) -> SettingsFault:
    variables = " or ".join((*UPSTREAM_KEY_VARIABLES, named) if named else UPSTREAM_KEY_VARIABLES)
    ways = f"Set {variables}, or try Weighbridge without one: weighbridge serve --demo"
    return SettingsFault("upstream.key", f"there is no upstream key. {ways}")


def _home(environ: Mapping[str, str]) -> Path | None:
    given = Path(environ.get("HOME") or ".")
    if given.is_absolute():
        return given
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)  # not Path.home(), which accepts a relative HOME
    except KeyError:
        return None
