"""`keys` and `clients`, with and without a running server: what a command changes counts within a second."""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK
from tests.e2e.program import Gateway, clean_environment, eventually, run
from tests.e2e.replay import ReplayUpstream, document

KEY = re.compile(r"sk-wb-[A-Za-z0-9]{40,}")


def status(gateway: Gateway, replay: ReplayUpstream, key: str) -> int:
    """What a call with this key is answered."""
    return gateway.post(ASK, {**replay.play(document(b"{}")), "authorization": f"Bearer {key}"}).status


def created(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = gateway.json_of("keys", "create", *arguments)
    gateway.secrets[f"key {made['key_id']}"] = made["key"]
    return made


def test_create_prints_the_key_and_nothing_else(gateway: Gateway, replay: ReplayUpstream) -> None:
    done = gateway.command("keys", "create", "alice")
    key = done.stdout.strip()
    gateway.secrets["key of alice"] = key
    assert KEY.fullmatch(key)
    assert key not in done.stderr
    assert status(gateway, replay, key) == 200
    made = created(gateway, "alice")
    assert list(made) == ["client", "key_id", "key"]
    assert made["client"] == "alice"
    assert made["key_id"] in made["key"]


def test_list_shows_keys_without_their_secrets(gateway: Gateway) -> None:
    made = created(gateway, "lister", "--expires", "90d")
    table = gateway.command("keys", "list").stdout
    assert made["key_id"] in table
    listed = gateway.json_of("keys", "list")
    (own,) = [key for key in listed if key["key_id"] == made["key_id"]]
    assert (own["client"], own["state"], own["revoked_at"]) == ("lister", "active", None)
    assert own["expires_at"] > own["created_at"]
    assert made["key"] not in table + str(listed)


def test_revoke(gateway: Gateway, replay: ReplayUpstream) -> None:
    made = created(gateway, "rover")
    assert status(gateway, replay, made["key"]) == 200
    gateway.command("keys", "revoke", made["key_id"])
    assert status(gateway, replay, made["key"]) == 401
    assert gateway.json_of("keys", "revoke", made["key_id"])["state"] == "revoked"


def works_until_it_expires(gateway: Gateway, replay: ReplayUpstream, made: dict[str, Any]) -> None:
    """Answers that come before the key ends are good, calls that are sent after it are refused; however slow we are."""
    (listed,) = [key for key in gateway.json_of("keys", "list") if key["key_id"] == made["key_id"]]
    ends_at = datetime.fromisoformat(listed["expires_at"]).timestamp()

    def over() -> bool:
        sent = time.time()
        answered_with = status(gateway, replay, made["key"])
        assert answered_with == 200 or time.time() >= ends_at
        assert answered_with == 401 or sent < ends_at
        return sent >= ends_at

    eventually(over, "the end of the key")


def test_rotate(gateway: Gateway, replay: ReplayUpstream) -> None:
    old = created(gateway, "turner")
    new = gateway.json_of("keys", "rotate", old["key_id"])
    gateway.secrets["turned key"] = new["key"]
    assert [status(gateway, replay, made["key"]) for made in (old, new)] == [200, 200]
    last = gateway.json_of("keys", "rotate", new["key_id"], "--grace", "2s")
    gateway.secrets["key turned twice"] = last["key"]
    works_until_it_expires(gateway, replay, new)
    assert [status(gateway, replay, made["key"]) for made in (old, last)] == [200, 200]
    assert "is expired" in gateway.command("keys", "rotate", new["key_id"], exit_code=1).stderr


def test_expires(gateway: Gateway, replay: ReplayUpstream) -> None:
    works_until_it_expires(gateway, replay, created(gateway, "brief", "--expires", "3s"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys", "revoke", "nosuchkey0"], "There is no key"),
        (["keys", "rotate", "nosuchkey0"], "There is no key"),
        (["clients", "show", "nobody"], "There is no client"),
    ],
)
def test_what_cannot_be_done(gateway: Gateway, arguments: list[str], said: str) -> None:
    done = gateway.command(*arguments, exit_code=1)
    assert (done.stdout, said in done.stderr, "Traceback" in done.stderr) == ("", True, False)


def test_clients(gateway: Gateway) -> None:
    created(gateway, "carol")
    names = [client["name"] for client in gateway.json_of("clients", "list")]
    assert {"default", "carol"} <= set(names)
    assert "carol" in gateway.command("clients", "list").stdout
    shown = gateway.json_of("clients", "show", "carol")
    assert (shown["name"], len(shown["keys"])) == ("carol", 1)
    assert gateway.command("clients", "show", "carol").stdout.startswith("carol, since ")


def test_without_a_server(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    assert gateway.process.end() == 0
    made, ended = created(gateway, "dave"), created(gateway, "erin")
    gateway.command("keys", "revoke", ended["key_id"])
    gateway.restart()
    assert [status(gateway, replay, key["key"]) for key in (made, ended)] == [200, 401]
    states = {key["key_id"]: key["state"] for key in gateway.json_of("keys", "list")}
    assert (states[made["key_id"]], states[ended["key_id"]]) == ("active", "revoked")


def test_before_the_first_start(tmp_path: Path, start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    """Who has made a key already is given no other by the first start."""
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    key = run("keys", "create", "frank", env=env).stdout.strip()
    gateway = start_gateway()
    assert gateway.first_key is None
    assert status(gateway, replay, key) == 200


def test_a_server_that_was_killed_is_no_server(start_gateway: GatewayStarter) -> None:
    """Its note and its socket are still there."""
    gateway = start_gateway()
    gateway.process.end(9)
    assert (gateway.state_dir / "server.json").exists()
    assert created(gateway, "grace")["client"] == "grace"
