"""The server's own keys: every way to give one, and what happens when ways disagree."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings

HOME = {"HOME": "/nobody"}
ENVIRONMENT_WAYS = (
    "OPENROUTER_API_KEY",
    "OPENROUTER_API_KEY_FILE",
    "WEIGHBRIDGE_UPSTREAM_KEY",
    "WEIGHBRIDGE_UPSTREAM_KEY_FILE",
    "CREDENTIALS_DIRECTORY",
)

KeyFile = Callable[[str], Path]


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    """Writes a key as systemd would leave it, in a directory of its own."""

    def write(text: str) -> Path:
        directory = tmp_path / f"credentials-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        path = directory / "upstream-key"
        path.write_text(text)
        return path

    return write


def load(environ: dict[str, str], config: Path | None = None, stdin_key: str | None = None) -> Settings:
    return load_settings(config, environ=HOME | environ, stdin_key=stdin_key, need_upstream_key=True)


def key_of(settings: Settings) -> str:
    assert settings.upstream.key is not None
    return settings.upstream.key.reveal()


def way(name: str, key: str, key_file: KeyFile) -> dict[str, str]:
    if name == "CREDENTIALS_DIRECTORY":
        return {name: str(key_file(key).parent)}
    return {name: str(key_file(key)) if name.endswith("_FILE") else key}


@pytest.mark.parametrize("name", ENVIRONMENT_WAYS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_each_way_through_the_environment(name: str, end: str, key_file: KeyFile) -> None:
    settings = load(way(name, "sk-1" + end, key_file))
    assert key_of(settings) == "sk-1"
    assert settings.origin("upstream.key") == (
        "systemd credential upstream-key" if name == "CREDENTIALS_DIRECTORY" else f"env {name}"
    )


@pytest.mark.parametrize("second", ENVIRONMENT_WAYS[1:])
def test_two_ways_of_one_rank_must_agree(second: str, key_file: KeyFile) -> None:
    first = {"OPENROUTER_API_KEY": "sk-1"}
    assert key_of(load(first | way(second, "sk-1\n", key_file))) == "sk-1"
    with pytest.raises(SettingsError) as caught:
        load(first | way(second, "sk-2", key_file))
    (fault,) = caught.value.faults
    assert fault.where.startswith("env OPENROUTER_API_KEY, ")
    assert fault.what == "these hold different keys; keep one of them"


def test_an_empty_variable_is_not_set(key_file: KeyFile) -> None:
    empty = {"OPENROUTER_API_KEY": "", "OPENROUTER_API_KEY_FILE": ""}
    assert key_of(load(empty | {"WEIGHBRIDGE_UPSTREAM_KEY": "sk-2"})) == "sk-2"


def test_standard_input_wins_over_all(key_file: KeyFile, tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text(f'[[upstream]]\nkey_file = "{key_file("sk-toml")}"')
    settings = load({"OPENROUTER_API_KEY": "sk-env"}, config, "sk-stdin\n")
    assert (key_of(settings), settings.origin("upstream.key")) == ("sk-stdin", "flag --upstream-key-stdin")
    settings = load({"OPENROUTER_API_KEY": "sk-env"}, config)
    assert (key_of(settings), settings.origin("upstream.key")) == ("sk-env", "env OPENROUTER_API_KEY")
    settings = load({}, config)
    assert (key_of(settings), settings.origin("upstream.key")) == ("sk-toml", f"file {config}:upstream.key_file")


def test_a_faulty_key_that_is_overruled_is_no_fault(tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text('[[upstream]]\nkey_file = "missing"')
    assert key_of(load({"OPENROUTER_API_KEY": "sk-env"}, config)) == "sk-env"
    disagreeing = {"OPENROUTER_API_KEY": "sk-1", "WEIGHBRIDGE_UPSTREAM_KEY": "sk-2"}
    assert key_of(load(disagreeing, config, "sk-stdin")) == "sk-stdin"
    with pytest.raises(SettingsError, match="cannot read"):
        load({}, config)


def test_key_env_names_a_variable_even_one_that_begins_like_ours(tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text('[[upstream]]\nkey_env = "WEIGHBRIDGE_TEAM_KEY"')
    settings = load({"WEIGHBRIDGE_TEAM_KEY": "sk-team"}, config)
    assert (key_of(settings), settings.origin("upstream.key")) == ("sk-team", "env WEIGHBRIDGE_TEAM_KEY")
    assert "WEIGHBRIDGE_TEAM_KEY" in settings.secret_variables


def test_an_unset_key_env_matters_only_where_the_key_is_needed(tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text('[[upstream]]\nkey_env = "TEAM_KEY"')
    assert load_settings(config, environ=HOME, need_upstream_key=False).upstream.key is None
    with pytest.raises(SettingsError, match="TEAM_KEY"):
        load({}, config)


def test_key_file_and_key_env_must_agree(key_file: KeyFile, tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text(f'[[upstream]]\nkey_env = "TEAM_KEY"\nkey_file = "{key_file("sk-1")}"')
    assert key_of(load({"TEAM_KEY": "sk-1"}, config)) == "sk-1"
    with pytest.raises(SettingsError, match="different keys"):
        load({"TEAM_KEY": "sk-2"}, config)


@pytest.mark.parametrize("content", ["", "\n", "two words", "k" * 5000, "schlüssel"])
def test_a_file_without_a_key_in_it_is_a_fault(content: str, key_file: KeyFile) -> None:
    with pytest.raises(SettingsError, match=r"^env OPENROUTER_API_KEY_FILE: (the key|it) "):
        load({"OPENROUTER_API_KEY_FILE": str(key_file(content))})


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(SettingsError) as caught:
        load({"OPENROUTER_API_KEY_FILE": missing, "WEIGHBRIDGE_UPSTREAM_KEY_FILE": str(tmp_path)})
    assert [str(fault) for fault in caught.value.faults] == [
        f"env OPENROUTER_API_KEY_FILE: cannot read {missing}: No such file or directory",
        f"env WEIGHBRIDGE_UPSTREAM_KEY_FILE: cannot read {tmp_path}: Is a directory",
    ]


def test_a_credentials_directory_without_our_credential_is_no_fault(tmp_path: Path) -> None:
    assert key_of(load({"CREDENTIALS_DIRECTORY": str(tmp_path), "OPENROUTER_API_KEY": "sk-1"})) == "sk-1"


def test_an_empty_standard_input_is_a_fault() -> None:
    with pytest.raises(SettingsError, match="--upstream-key-stdin: it is empty"):
        load({"OPENROUTER_API_KEY": "sk-1"}, stdin_key="\n")


def test_the_admin_key_in_a_variable_a_file_or_toml(key_file: KeyFile, tmp_path: Path) -> None:
    path = key_file("an-admin-key-of-24-chars\n")
    config = tmp_path / "w.toml"
    config.write_text(f'[server]\nadmin_key_file = "{path}"')
    for environ, origin in (
        ({"WEIGHBRIDGE_ADMIN_KEY": "an-admin-key-of-24-chars"}, "env WEIGHBRIDGE_ADMIN_KEY"),
        ({"WEIGHBRIDGE_ADMIN_KEY_FILE": str(path)}, "env WEIGHBRIDGE_ADMIN_KEY_FILE"),
        ({}, f"file {config}:server.admin_key_file"),
    ):
        settings = load_settings(config, environ=HOME | environ, need_upstream_key=False)
        assert settings.server.admin_key is not None
        assert settings.server.admin_key.reveal() == "an-admin-key-of-24-chars"
        assert settings.origin("server.admin_key") == origin
