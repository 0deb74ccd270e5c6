"""The environment: every name of the contract, and names that are not ours."""

import certifi
import pytest

from app.settings import Settings, SettingsError, load_settings
from app.settings.environment import VARIABLES

VALUES = {
    "WEIGHBRIDGE_HOST": ("::1", "::1"),
    "WEIGHBRIDGE_PORT": ("0", 0),
    "WEIGHBRIDGE_ALLOWED_HOSTS": ("localhost", ("localhost", "127.0.0.1", "[::1]")),
    "WEIGHBRIDGE_MAX_BODY_BYTES": ("1MiB", 2**20),
    "WEIGHBRIDGE_MAX_BUFFERED_BYTES": ("2GiB", 2**31),
    "WEIGHBRIDGE_MAX_STREAMS": ("5", 5),
    "WEIGHBRIDGE_ALLOWED_ORIGINS": (
        "https://App.example.com:443, http://localhost:3000",
        ("https://app.example.com", "http://localhost:3000"),
    ),
    "WEIGHBRIDGE_PUBLIC_URL": ("https://gateway.example.com:8443/", "https://gateway.example.com:8443"),
    "WEIGHBRIDGE_MAX_LOOP_LAG": ("250ms", 0.25),
    "WEIGHBRIDGE_REQUEST_TIMEOUT": ("1.5", 1.5),
    "WEIGHBRIDGE_KEEP_ALIVE_TIMEOUT": ("10m", 600.0),
    "WEIGHBRIDGE_WRITE_TIMEOUT": ("500ms", 0.5),
    "WEIGHBRIDGE_DRAIN_TIMEOUT": ("0", 0.0),
    "WEIGHBRIDGE_UPSTREAM_URL": ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
    "WEIGHBRIDGE_UPSTREAM_CA_FILE": (certifi.where(), certifi.where()),
    "WEIGHBRIDGE_UPSTREAM_PROXY": ("http://proxy.example.com:3128/", "http://proxy.example.com:3128"),
    "WEIGHBRIDGE_UPSTREAM_PASS_HEADERS": ("X-Mock-*, x-tenant", ("x-mock-*", "x-tenant")),
    "WEIGHBRIDGE_CONNECT_TIMEOUT": ("3", 3.0),
    "WEIGHBRIDGE_FIRST_BYTE_TIMEOUT": ("1h", 3600.0),
    "WEIGHBRIDGE_IDLE_TIMEOUT": ("90s", 90.0),
    "WEIGHBRIDGE_STATE_DIR": ("/data", "/data"),
    "WEIGHBRIDGE_DATABASE_URL": ("postgresql://db/w", "postgresql://db/w"),
    "WEIGHBRIDGE_REDIS_URL": ("rediss://cache:6379/1", "rediss://cache:6379/1"),
    "WEIGHBRIDGE_LOG_FORMAT": ("JSON", "json"),
    "LOG_LEVEL": ("WARN", "warning"),
    "WEIGHBRIDGE_LOG_LEVEL": ("debug", "debug"),
    "WEIGHBRIDGE_DURABILITY": ("Relaxed", "relaxed"),
    "WEIGHBRIDGE_MISSING_USAGE": ("Estimate", "estimate"),
    "WEIGHBRIDGE_RETENTION_DAYS": ("7", 7),
}


def load(environ: dict[str, str]) -> Settings:
    return load_settings(environ={"HOME": "/nobody"} | environ, need_upstream_key=False)


def value_of(settings: Settings, setting: str) -> object:
    section, key = setting.split(".")
    value = getattr(getattr(settings, section), key)
    return value if isinstance(value, int | float | tuple) else str(value)


def test_the_table_above_has_every_variable() -> None:
    assert VALUES.keys() == VARIABLES.keys()


@pytest.mark.parametrize("name", VALUES)
def test_each_variable_sets_its_setting_and_is_its_origin(name: str) -> None:
    text, value = VALUES[name]
    settings = load({name: text})
    assert value_of(settings, VARIABLES[name]) == value
    assert settings.origin(VARIABLES[name]) == f"env {name}"


@pytest.mark.parametrize("name", VALUES)
def test_an_empty_variable_is_not_set(name: str) -> None:
    assert load({name: ""}) == load({})


def test_our_own_log_level_wins_over_the_shared_one() -> None:
    assert load({"LOG_LEVEL": "error", "WEIGHBRIDGE_LOG_LEVEL": "debug"}).log.level == "debug"


def test_what_kubernetes_adds_beside_a_service_of_our_name_is_passed_over() -> None:
    settings = load(
        {
            "WEIGHBRIDGE_SERVICE_HOST": "10.0.0.7",
            "WEIGHBRIDGE_SERVICE_PORT": "8787",
            "WEIGHBRIDGE_SERVICE_PORT_HTTP": "8787",
            "WEIGHBRIDGE_PORT": "tcp://10.0.0.7:8787",
            "WEIGHBRIDGE_PORT_8787_TCP": "tcp://10.0.0.7:8787",
            "WEIGHBRIDGE_PORT_8787_TCP_ADDR": "10.0.0.7",
        }
    )
    assert (settings.server.port, settings.origin("server.port")) == (8787, "default")


@pytest.mark.parametrize("name", ["WEIGHBRIDGE_", "WEIGHBRIDGE_POORT", "WEIGHBRIDGE_DEMO", "WEIGHBRIDGE_SERVICE"])
def test_an_unknown_name_is_a_fault_also_when_empty(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^env {name}: there is no such setting"):
        load({name: ""})


def test_names_of_others_are_theirs() -> None:
    assert load({"PORT": "1", "HOST": "x y", "weighbridge_port": "1", "DATABASE_URL": "x"}) == load({})
