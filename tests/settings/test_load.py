"""From flags, environment, file and platform to one Settings, or to all that is wrong."""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.settings import Secret, Settings, SettingsError, load_settings
from app.settings.load import default_state_dir
from app.settings.model import sections

KEY = "sk-or-v1-test"
FLAG, ENVIRON, FILE = 1001, 1002, 1003


def load(environ: Mapping[str, str] | None = None, **more: object) -> Settings:
    """Load with nothing of this machine in it."""
    return load_settings(environ={"HOME": "/nobody", **(environ or {})}, need_upstream_key=False, **more)  # type: ignore[arg-type]


def faults_of(environ: Mapping[str, str] | None = None, **more: object) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, **more)
    return dict(caught.value.faults)


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "weighbridge.toml"
        path.write_text(text)
        return path

    return write


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8787)
    assert settings.server.allowed_hosts == ("127.0.0.1", "localhost", "[::1]")
    assert (settings.server.max_body_bytes, settings.server.max_streams) == (32 * 1024 * 1024, 2000)
    assert (settings.server.request_timeout, settings.server.keep_alive_timeout) == (30, 75)
    assert (settings.server.write_timeout, settings.server.drain_timeout) == (60, 30)
    assert (settings.upstream.name, settings.upstream.base_url) == ("openrouter", "https://openrouter.ai/api/v1")
    assert settings.upstream.key is None
    assert (settings.upstream_timeouts.connect, settings.upstream_timeouts.first_byte) == (10, 600)
    assert settings.upstream_timeouts.idle == 600
    assert settings.storage.state_dir == Path("/nobody/.local/state/weighbridge")
    assert (settings.storage.database_url, settings.storage.redis_url) == (None, None)
    assert (settings.log.format, settings.log.level) == ("auto", "info")
    assert settings.ledger.retention_days == 90
    assert settings.prices == {}


def test_every_default_says_so() -> None:
    settings = load()
    for section, model in sections().items():
        for key in model.model_fields:
            assert settings.origin(f"{section}.{key}") == "default"


@pytest.mark.parametrize(("flag", "environ", "file"), [*itertools.product((True, False), repeat=3)])
def test_a_flag_wins_over_the_environment_that_over_the_file(
    flag: bool, environ: bool, file: bool, toml: Callable[[str], Path]
) -> None:
    path = toml(f"[server]\nport = {FILE}\nmax_streams = 7" if file else "")
    settings = load(
        {"WEIGHBRIDGE_PORT": str(ENVIRON)} if environ else {},
        config=path,
        flags={"server.port": FLAG if flag else None, "server.host": None},
    )
    ranked = [
        (flag, FLAG, "flag --port"),
        (environ, ENVIRON, "env WEIGHBRIDGE_PORT"),
        (file, FILE, f"file {path}:server.port"),
        (True, 8787, "default"),
    ]
    given, port, origin = next(row for row in ranked if row[0])
    assert given
    assert (settings.server.port, settings.origin("server.port")) == (port, origin)
    assert settings.server.max_streams == (7 if file else 2000), "a table's other keys are merged, not replaced"


def test_one_place_may_set_the_url_and_another_the_name(toml: Callable[[str], Path]) -> None:
    path = toml('[[upstream]]\nname = "team"\nbase_url = "https://api.openai.com/v1"')
    settings = load({"WEIGHBRIDGE_UPSTREAM_URL": "http://localhost:9797/api/v1/"}, config=path)
    assert (settings.upstream.name, settings.upstream.base_url) == ("team", "http://localhost:9797/api/v1")


def test_all_faults_are_reported_at_once_each_at_its_place(toml: Callable[[str], Path]) -> None:
    path = toml('[server]\nprot = 1\nmax_streams = true\n[sever]\n[log]\nlevel = "loud"\n[prices.m]\ninput = "x"')
    environ = {
        "WEIGHBRIDGE_PORT": "70000",
        "WEIGHBRIDGE_HOTS": "x",
        "WEIGHBRIDGE_FOO": "x",
        "WEIGHBRIDGE_UPSTREAM_URL": "http://example.com",
        "WEIGHBRIDGE_UPSTREAM_KEY": "two words",
        "WEIGHBRIDGE_DRAIN_TIMEOUT": "soon",
    }
    faults = faults_of(environ, config=path, flags={"server.host": "no such:host"})
    assert set(faults) == {
        "flag --host",
        "env WEIGHBRIDGE_PORT",
        "env WEIGHBRIDGE_HOTS",
        "env WEIGHBRIDGE_FOO",
        "env WEIGHBRIDGE_UPSTREAM_URL",
        "env WEIGHBRIDGE_UPSTREAM_KEY",
        "env WEIGHBRIDGE_DRAIN_TIMEOUT",
        f"file {path}:server.prot",
        f"file {path}:server.max_streams",
        f"file {path}:sever",
        f"file {path}:log.level",
        f"file {path}:prices.m",
    }
    assert faults["env WEIGHBRIDGE_HOTS"].endswith("did you mean WEIGHBRIDGE_HOST?")
    assert faults["env WEIGHBRIDGE_FOO"] == "there is no such setting"
    assert faults[f"file {path}:server.prot"].endswith("did you mean port?")
    assert faults[f"file {path}:sever"].endswith("did you mean server?")


def test_the_text_of_the_error_is_one_line_a_fault() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"WEIGHBRIDGE_PORT": "x", "WEIGHBRIDGE_MAX_STREAMS": "0"})
    assert str(caught.value).splitlines() == [
        "env WEIGHBRIDGE_PORT: must be a whole number",
        "env WEIGHBRIDGE_MAX_STREAMS: must be greater than 0",
    ]


def test_a_missing_upstream_key_names_both_ways_on() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"HOME": "/nobody"}, need_upstream_key=True)
    (fault,) = caught.value.faults
    assert "OPENROUTER_API_KEY" in fault.what
    assert "--demo" in fault.what


def test_a_faulty_key_is_not_called_missing_too() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"HOME": "/nobody", "OPENROUTER_API_KEY": "a b"}, need_upstream_key=True)
    assert [fault.where for fault in caught.value.faults] == ["env OPENROUTER_API_KEY"]


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WEIGHBRIDGE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    settings = load_settings(need_upstream_key=True)
    assert settings.upstream.key == Secret(KEY)
    assert settings.origin("upstream.key") == "env OPENROUTER_API_KEY"


def test_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1


@pytest.mark.parametrize("setting", ["server.prot", "sever.port", "prices.unknown", "server", ""])
def test_the_origin_of_what_is_no_setting_is_an_error(setting: str) -> None:
    with pytest.raises(LookupError):
        load().origin(setting)


def test_allowed_hosts_always_have_the_loopback_names() -> None:
    given = load({"WEIGHBRIDGE_ALLOWED_HOSTS": " Gateway.example.com, fd00::1 ,"})
    assert given.server.allowed_hosts == ("gateway.example.com", "[fd00::1]", "127.0.0.1", "localhost", "[::1]")
    bound = load({"WEIGHBRIDGE_HOST": "192.0.2.7"})
    assert bound.server.allowed_hosts == ("192.0.2.7", "127.0.0.1", "localhost", "[::1]")
    assert (given.server.on_loopback, bound.server.on_loopback) == (True, False)


@pytest.mark.parametrize("value", ["*", "https://gateway.example.com", "gateway.example.com:8787"])
def test_an_allowed_host_is_a_name_alone(value: str) -> None:
    assert "host name" in faults_of({"WEIGHBRIDGE_ALLOWED_HOSTS": value})["env WEIGHBRIDGE_ALLOWED_HOSTS"]


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", "/nobody/.local/state/weighbridge"),
        ({"XDG_STATE_HOME": "/state"}, "linux", "/state/weighbridge"),
        ({"XDG_STATE_HOME": "relative"}, "linux", "/nobody/.local/state/weighbridge"),
        ({}, "darwin", "/nobody/Library/Application Support/weighbridge"),
    ],
)
def test_the_platforms_state_directory(environ: dict[str, str], platform: str, expected: str) -> None:
    assert default_state_dir(environ, Path("/nobody"), platform) == Path(expected)


def test_without_a_home_the_state_directory_is_a_daemons() -> None:
    assert default_state_dir({}, None, "linux") == Path("/var/lib/weighbridge")


@pytest.mark.parametrize("key", ["password\n\n in two lines", "pass word", "p\x00", "schlüssel", "k" * 4097])
@pytest.mark.parametrize("name", ["OPENROUTER_API_KEY", "WEIGHBRIDGE_UPSTREAM_KEY", "WEIGHBRIDGE_ADMIN_KEY"])
def test_a_bad_key_is_refused_and_not_repeated(name: str, key: str) -> None:
    faults = faults_of({name: key})
    assert faults == {f"env {name}": "the key must be 1 to 4,096 printable ASCII characters, without spaces"}


def test_no_value_ever_stands_in_an_error(canary_key: str, toml: Callable[[str], Path]) -> None:
    """A key that was put in the wrong place is still a key."""
    names = (
        "HOST",
        "PORT",
        "ALLOWED_HOSTS",
        "MAX_BODY_BYTES",
        "CONNECT_TIMEOUT",
        "UPSTREAM_URL",
        "DATABASE_URL",
        "REDIS_URL",
    )
    environ = {f"WEIGHBRIDGE_{name}": f"x {canary_key}" for name in (*names, "LOG_FORMAT", "RETENTION_DAYS", "TYPO")}
    path = toml(
        f'[[upstream]]\nkey = "{canary_key}"\nname = " {canary_key}"\nkey_env = "{canary_key}"\n'
        f'[server]\nadmin_key = "{canary_key}"\nadmin_key_file = 3\nkeep_alive_timeout = "{canary_key}"\n'
    )
    with pytest.raises(SettingsError) as caught:
        load(environ, config=path)
    assert len(caught.value.faults) == len(environ) + 6
    assert canary_key not in f"{caught.value}{caught.value!r}{caught.value.faults}"


def test_settings_may_be_printed(canary_key: str, sealed: Path, toml: Callable[[str], Path]) -> None:
    settings = load(
        {
            "OPENROUTER_API_KEY": canary_key,
            "WEIGHBRIDGE_ADMIN_KEY": canary_key,
            "WEIGHBRIDGE_DATABASE_URL": f"postgresql://user:{canary_key}@db/w",
            "WEIGHBRIDGE_REDIS_URL": f"redis://:{canary_key}@cache/0",
        }
    )
    shown = (
        f"{settings}{settings!r}{settings.model_dump()}{settings.model_dump_json()}{settings.model_copy(deep=True)!r}"
    )
    print(shown)  # noqa: T201  # `sealed` looks for the canary in it
    assert "***" in shown
    assert settings.storage.database_url is not None
    assert settings.storage.database_url.reveal() == f"postgresql://user:{canary_key}@db/w"
