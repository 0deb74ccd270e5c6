"""Sources: the places that settings come from. Each remembers the origin of its values, and its faults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from app.settings.credentials import Candidate, settle
from app.settings.faults import SettingsFault
from app.settings.secret import Secret

PATHS = frozenset(
    {
        "storage.state_dir",
        "server.admin_key_file",
        "upstream.key_file",
        "upstream.ca_file",
        "upstream.proxy_password_file",
    }
)
"""Settings that name a file or directory. The source decides where relative paths start."""

SECRETS = ("upstream.key", "upstream.proxy_password", "server.admin_key")
"""Settings that are read from a file or a variable, and never shown."""

SECRET_URLS = frozenset({"storage.database_url", "storage.redis_url"})
"""Settings that may hold a password. They are secrets as soon as they are read."""


class Source(PydanticBaseSettingsSource):
    """Values by setting ("server.port"), for pydantic-settings to merge. Subclasses fill it."""

    file: tuple[Path, str] | None = None
    """The file that was read, and what named it."""

    def __init__(self, home: Path | None = None) -> None:
        super().__init__(BaseSettings)
        self.origins: dict[str, str] = {}
        self.faults: list[SettingsFault] = []
        self.key_faults: dict[
            str, list[SettingsFault]
        ] = {}  # by setting; they count only if no higher source gives the key
        self._home = home
        self._tree: dict[str, Any] = {}

    def put(self, section: str, key: str, value: object, origin: str, *, base: Path | None = None) -> None:
        """Add a value. Relative paths start at `base`, or else at the working directory."""
        setting = f"{section}.{key}"
        if setting in PATHS and isinstance(value, str | Path):
            value = self._absolute(Path(value), base) if value else value
        elif setting in SECRET_URLS and isinstance(value, str) and value:
            value = Secret(value)
        self._tree.setdefault(section, {})[key] = value
        self.origins[setting] = origin

    def put_key(self, section: str, key: str, candidates: Sequence[Candidate]) -> None:
        """Add the secret that the candidates agree on, or their faults. The setting counts as given either way."""
        setting = f"{section}.{key}"
        for candidate in settle(candidates):
            self.origins[setting] = candidate.origin
            if candidate.fault is None:
                self._tree.setdefault(section, {})[key] = candidate.secret
            else:
                self.key_faults.setdefault(setting, []).append(SettingsFault(candidate.origin, candidate.fault))

    def __call__(self) -> dict[str, Any]:
        return self._tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # its interface
        """One section; pydantic-settings asks for whole sections only."""
        return self._tree.get(field_name), field_name, False

    def _absolute(self, path: Path, base: Path | None) -> Path:
        if path.parts[:1] == ("~",) and self._home is not None:
            path = self._home.joinpath(*path.parts[1:])
        return base / path if base else path.absolute()


class FlagSource(Source):
    """The flags by setting, and the key from stdin. None is a flag that was not given."""

    def __init__(self, flags: Mapping[str, object], stdin_key: str | None, home: Path | None = None) -> None:
        super().__init__(home)
        for setting, value in flags.items():
            if value is not None:
                section, _, key = setting.partition(".")
                self.put(section, key, value, f"flag --{key.replace('_', '-')}")
        if stdin_key is not None:
            self.put_key("upstream", "key", [Candidate.of("flag --upstream-key-stdin", stdin_key)])


class ServerSource(Source):
    """The state directory of the running server that a command has found at `url`."""

    def __init__(self, state_dir: Path, url: str) -> None:
        super().__init__()
        self.put("storage", "state_dir", state_dir, f"server {url}")


class PlatformSource(Source):
    """The defaults that depend on the machine."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__()
        self.put("storage", "state_dir", state_dir, "default")
