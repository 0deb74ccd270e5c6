"""The TOML file: where it is found and what it may hold."""

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings


def load(environ: dict[str, str], config: Path | None = None) -> Settings:
    return load_settings(config, environ=environ, need_upstream_key=False)


def port_file(path: Path, port: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[server]\nport = {port}")
    return path


def test_the_flag_comes_before_the_variable_and_that_before_the_users_own_file(tmp_path: Path) -> None:
    flag = port_file(tmp_path / "flag.toml", 1)
    variable = port_file(tmp_path / "variable.toml", 2)
    port_file(tmp_path / "xdg" / "weighbridge" / "config.toml", 3)
    port_file(tmp_path / "home" / ".config" / "weighbridge" / "config.toml", 4)
    home = {"HOME": str(tmp_path / "home")}
    xdg = home | {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    named = xdg | {"WEIGHBRIDGE_CONFIG": str(variable)}
    assert [
        load(named, flag).server.port,
        load(named).server.port,
        load(xdg).server.port,
        load(home).server.port,
        load({"HOME": str(tmp_path)}).server.port,
    ] == [1, 2, 3, 4, 8787]


@pytest.mark.parametrize(
    ("named_by", "environ"), [("flag --config", {}), ("env WEIGHBRIDGE_CONFIG", {"WEIGHBRIDGE_CONFIG": "missing.toml"})]
)
def test_a_file_that_was_named_must_exist(named_by: str, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=f"^{named_by}: cannot read .*missing.toml: No such file"):
        load({"HOME": "/nobody"} | environ, None if environ else Path("missing.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[server]\nport = ]", "is not TOML: .*line 2"),
        (b"\xff", "is not UTF-8 text"),
        (b"server = 3", r"server: must be a table: \[server\]"),
        (b"[server]\nport = 1\n[server.tls]", r"server.tls: there is no such setting$"),
        (b"[upstream]\nname = 'a'", r"upstream: must be a table in double brackets: \[\[upstream\]\]"),
        (b"[[upstream]]\n[[upstream]]", r"upstream: only one \[\[upstream\]\] is supported so far"),
        (b"upstream = [1]", "upstream: must be a table"),
        (b"upstream = []", "upstream: must be a table in double brackets"),
        (
            b"[[upstream]]\nkey = 'sk-1'",
            "upstream.key: .*name the file that holds it by key_file, or a variable",
        ),
        (b"[[upstream]]\nbase_urls = 'x'", r"upstream.base_urls: there is no such setting; did you mean base_url\?"),
        (b"[[upstream]]\nname = 'a b'", "upstream.name: must match"),
        (b"[server]\nadmin_key = 'x'", "server.admin_key: .*by admin_key_file"),
        (b"[server]\nhost = 3", "server.host: must be a valid string"),
        (b"[server]\nallowed_hosts = [1]", "server.allowed_hosts: must be a valid string"),
        (b"[storage]\nstate_dir = ''", "storage.state_dir: must be a path"),
        (
            b"[storage]\ndatabase_url = 'mysql://a'",
            "storage.database_url: must be a URL that starts with postgresql://",
        ),
        (b"[prices]\nm = 3", "prices.m: must be a table"),
        (b"[prices.m]\ninput = 1\noutput = 2\nouput = 3", "prices.m: ouput is not part of a price"),
        (b"[[upstream]]\nkey_file = 'a\\u0000b'".replace(b"'", b'"'), "upstream.key_file: cannot read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_bytes(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load({"HOME": "/nobody"}, path)
    assert all(fault.where.startswith(f"file {path}") for fault in caught.value.faults)
    assert len(caught.value.faults) == 1


def test_a_faulty_file_does_not_hide_the_faults_of_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text("server = [")
    with pytest.raises(SettingsError, match="WEIGHBRIDGE_PORT"):
        load({"HOME": "/nobody", "WEIGHBRIDGE_PORT": "x"}, path)


def test_paths_start_at_the_file_at_home_or_at_the_root(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    home = {"HOME": "/nobody"}
    for text, expected in (("state", tmp_path / "state"), ("~/state", "/nobody/state"), ("/state", "/state")):
        path.write_text(f'[storage]\nstate_dir = "{text}"')
        assert load(home, path).storage.state_dir == Path(expected)
    assert load(home | {"WEIGHBRIDGE_STATE_DIR": "state"}, path).storage.state_dir == Path.cwd() / "state"


def test_prices_are_kept_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('[prices."openai/gpt-5.1"]\ninput = "0.25"\noutput = 2\n')
    settings = load({"HOME": "/nobody"}, path)
    assert settings.prices == {"openai/gpt-5.1": {"input": "0.25", "output": 2}}
    assert settings.origin("prices.openai/gpt-5.1") == f"file {path}:prices.openai/gpt-5.1"


def test_the_way_to_upstream(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    config = tmp_path / "w.toml"
    config.write_text(
        "[[upstream]]\nproxy = 'http://user@proxy.example.com:3128'\nproxy_password_file = 'password'\n"
        "pass_headers = ['X-Tenant', 'x-team-*']"
    )
    upstream = load({"HOME": "/nobody"}, config).upstream
    assert upstream.proxy_password is not None
    assert upstream.proxy_password.reveal() == "hunter2"
    assert upstream.pass_headers == ("x-tenant", "x-team-*")
    assert "hunter2" not in repr(upstream)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy_password = 'hunter2'", r"upstream.proxy_password: there is no such setting; .*proxy_password_file"),
        ("proxy = 'http://u@p.example:1'\nproxy_password_file = 'none'", "proxy_password_file: cannot read .*none"),
        ("proxy = 'http://p.example:1'\nproxy_password_file = 'password'", "proxy_password_file: needs a proxy with a"),
        ("pass_headers = ['authorization']", "pass_headers: must not name credentials"),
        ("pass_headers = ['x tenant']", "pass_headers: must be names of headers"),
        ("pass_headers = 3", "pass_headers: must be a list"),
    ],
)
def test_a_way_to_upstream_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "w.toml"
    (tmp_path / "password").write_text('"hunter2')  # a quotation mark at one end may be part of it
    config.write_text("[[upstream]]\n" + text)
    with pytest.raises(SettingsError, match=message) as caught:
        load({"HOME": "/nobody"}, config)
    assert "hunter2" not in str(caught.value)
