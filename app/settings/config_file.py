"""The TOML file: finding it, and reading its tables."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.settings.credentials import LEAST_SECRET_CHARACTERS, Candidate
from app.settings.environment import CONFIG_VARIABLE
from app.settings.faults import SettingsFault, did_you_mean
from app.settings.model import NOT_IN_FILES, sections
from app.settings.source import Source

_NAMES_OF_KEYS = frozenset({"key", "api_key", "token", "secret", "admin_key"})


def find_config(flag: Path | None, environ: Mapping[str, str], home: Path | None) -> tuple[Path, str] | None:
    """The file to read and what named it: the flag, WEIGHBRIDGE_CONFIG, or the user's own file if it exists."""
    if flag is not None:
        return flag, "flag --config"
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named), f"env {CONFIG_VARIABLE}"
    directory = Path(environ.get("XDG_CONFIG_HOME") or ".")
    if not directory.is_absolute():  # the XDG specification says to ignore it
        if home is None:
            return None
        directory = home / ".config"
    own = directory / "weighbridge" / "config.toml"
    return (own, "default") if os.access(own, os.F_OK) else None


class FileSource(Source):
    """The settings of the file. It names keys by file or variable and never holds them."""

    def __init__(self, found: tuple[Path, str] | None, environ: Mapping[str, str], home: Path | None = None) -> None:
        super().__init__(home)
        if found is not None:
            self._path = found[0].absolute()
            self.file = (self._path, found[1])
            for name, content in self._parse(found[1]).items():
                self._read_table(name, content)
            self._read_keys(environ)

    @property
    def key_variable(self) -> str | None:
        """The variable that key_env names."""
        name = self._tree.get("upstream", {}).get("key_env")
        return name if isinstance(name, str) else None

    def _parse(self, named_by: str) -> dict[str, Any]:
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            self.faults.append(SettingsFault(named_by, f"cannot read {self._path}: {error.strerror}"))
        except UnicodeDecodeError:
            self.faults.append(SettingsFault(f"file {self._path}", "is not UTF-8 text"))
        except tomllib.TOMLDecodeError as error:
            self.faults.append(SettingsFault(f"file {self._path}", f"is not TOML: {error}"))
        return {}

    def _read_table(self, name: str, content: object) -> None:
        known = sections()
        if name == "upstream":
            content = self._only_upstream(content)
        if name not in {*known, "prices"}:
            self._fault(name, f"there is no such table{did_you_mean(name, [*known, 'prices'])}")
        elif not isinstance(content, dict):
            self._fault(name, f"must be a table: [{name}]")
        else:
            for key, value in content.items():
                self._read_key(name, key, value)

    def _only_upstream(self, content: object) -> object:
        """The one entry of [[upstream]]. It is a list so that several upstreams will not change the file's form."""
        if not isinstance(content, list) or not content:
            self._fault("upstream", "must be a table in double brackets: [[upstream]]")
            return {}
        if len(content) > 1:
            self._fault("upstream", "only one [[upstream]] is supported so far")
        return content[0]

    def _read_key(self, table: str, key: str, value: object) -> None:
        if table != "prices":
            known = sections()[table].model_fields.keys() - NOT_IN_FILES
            if key not in known:
                self._fault(f"{table}.{key}", f"there is no such setting{self._advice(table, key, sorted(known))}")
                return
        self.put(table, key, value, self._origin(f"{table}.{key}"), base=self._path.parent)

    @staticmethod
    def _advice(table: str, key: str, known: list[str]) -> str:
        if key in _NAMES_OF_KEYS and table in {"upstream", "server"}:
            return "; this file must not hold keys: name the file that holds it by " + (
                "key_file, or a variable by key_env" if table == "upstream" else "admin_key_file"
            )
        return did_you_mean(key, known)

    def _read_keys(self, environ: Mapping[str, str]) -> None:
        self.put_key("upstream", "key", [*self._in_file("upstream", "key_file"), *self._in_variable(environ)])
        self.put_key("upstream", "proxy_password", self._in_file("upstream", "proxy_password_file"))
        self.put_key("server", "admin_key", self._in_file("server", "admin_key_file", LEAST_SECRET_CHARACTERS))

    def _in_file(self, section: str, key: str, least: int = 1) -> list[Candidate]:
        path = self._tree.get(section, {}).get(key)
        return (
            [Candidate.in_file(self._origin(f"{section}.{key}"), path, least=least)] if isinstance(path, Path) else []
        )

    def _in_variable(self, environ: Mapping[str, str]) -> list[Candidate]:
        """The key in the variable that key_env names. An unset variable is not a fault here: few commands need it."""
        name = self.key_variable
        text = environ.get(name) if name else None
        return [Candidate.of(f"env {name}", text)] if text else []

    def _fault(self, setting: str, what: str) -> None:
        self.faults.append(SettingsFault(self._origin(setting), what))

    def _origin(self, setting: str) -> str:
        return f"file {self._path}:{setting}"
