"""Keys come with limits, labels, dates; lists show use, limits, spending; clients can be deleted (issue 12, F6)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.client import ASK
from tests.e2e.program import Gateway, Mock

LIMITS = ("--rpm", "60", "--budget-usd", "50/month", "--models", "openai/*", "--hard-stop", "on")


@pytest.fixture(scope="module")
def house(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("house")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1") as gateway:
        yield gateway


def new_key(house: Gateway, client: str, *arguments: str) -> str:
    made = house.json_of("keys", "create", client, *arguments)
    house.secrets[f"{client} {made['key_id']}"] = made["key"]
    key: str = made["key"]
    return key


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_key_comes_with_its_limits(house: Gateway, known: bool) -> None:
    name = f"limited-{known}"
    if known:
        new_key(house, name)
    new_key(house, name, "--label", "laptop", *LIMITS)
    shown = house.json_of("clients", "show", name)
    assert (shown["rpm"], shown["models"], shown["hard_stop"]) == (60, ["openai/*"], True)
    assert shown["budgets"] == [{"unit": "usd", "period": "month", "amount": "50"}]
    assert shown["keys"][-1]["label"] == "laptop"


def test_wrong_limits_make_no_key(house: Gateway) -> None:
    before = house.json_of("keys", "list")
    assert "no group" in house.command("keys", "create", "new", "--group", "nobodys", exit_code=1).stderr
    house.command("keys", "create", "new", "--rpm", "0", exit_code=2)
    house.command("keys", "create", "new", "--label", "sk-wb-" + "0" * 56, exit_code=1)
    assert house.json_of("keys", "list") == before


def test_a_key_lasts_until_a_date(house: Gateway) -> None:
    day = (datetime.now(UTC) + timedelta(days=40)).date().isoformat()
    new_key(house, "dated", "--expires", day)
    (key,) = house.json_of("clients", "show", "dated")["keys"]
    assert abs(datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(f"{day}T00:00Z")) < timedelta(
        seconds=5
    )
    for wrong in ("2020-01-01", "soon", "9999-01-01"):
        assert "--expires" in house.command("keys", "create", "dated", "--expires", wrong, exit_code=2).stderr


def test_lists_show_use_limits_and_spending(house: Gateway) -> None:
    house.key = new_key(house, "user", "--label", "desk", "--rpm", "1000")
    (before,) = house.json_of("clients", "show", "user")["keys"]
    assert before["last_used_at"] is None
    house.post(ASK)
    record = next(r for r in house.records() if r["client"] == "user")
    (after,) = house.json_of("clients", "show", "user")["keys"]
    assert after["last_used_at"] == record["started_at"]
    (client,) = [c for c in house.json_of("clients", "list") if c["name"] == "user"]
    assert client["spent"] == {"month_usd": record["cost_usd"], "total_usd": record["cost_usd"]}
    lines = house.command("clients", "list").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("user ")]
    assert "1,000 rpm" in line
    assert record["cost_usd"] in line
    (line,) = [line for line in lines if line.startswith("default ")]
    assert " none " in line
    (line,) = [line for line in house.command("keys", "list").stdout.splitlines() if " user " in line]
    assert " desk " in line
    assert record["started_at"][:19] in line


def test_the_last_use_outlives_the_server(house: Gateway) -> None:
    house.key = new_key(house, "outliving")
    house.post(ASK)
    assert house.process.end() == 0
    record = [r for r in house.json_of("keys", "list") if r["client"] == "outliving"]
    assert record[0]["last_used_at"] is not None
    house.restart()


def test_a_deleted_client_is_gone_and_its_name_is_taken(house: Gateway) -> None:
    house.key = new_key(house, "leaver", *LIMITS)
    house.post(ASK)
    done = house.command("clients", "delete", "leaver")
    assert "1 key revoked" in done.stdout
    assert house.post(ASK).status == 401
    assert "leaver" not in {c["name"] for c in house.json_of("clients", "list")}
    assert "was deleted" in house.command("clients", "show", "leaver", exit_code=1).stderr
    (row,) = house.json_of("usage", "--client", "leaver", "--outcome", "completed")
    assert row["requests"] == 1
    for command in (
        ("keys", "create", "leaver"),
        ("clients", "set", "leaver", "--rpm", "1"),
        ("clients", "delete", "leaver"),
    ):
        assert "deleted" in house.command(*command, exit_code=1).stderr
    house.restart()
    assert "deleted" in house.command("keys", "create", "leaver", exit_code=1).stderr
    house.command("clients", "restore", "leaver")
    assert house.post(ASK).status == 401
    house.key = new_key(house, "leaver")
    assert house.post(ASK).status == 200
    shown = house.json_of("clients", "show", "leaver")
    assert (shown["rpm"], shown["usage"]["completed"]) == (60, 2)
    assert [key["state"] for key in shown["keys"]] == ["revoked", "active"]


def test_nobody_is_deleted_or_restored_that_is_not_there(house: Gateway) -> None:
    assert "no client 'nobody'" in house.command("clients", "delete", "nobody", exit_code=1).stderr
    assert "no deleted client 'default'" in house.command("clients", "restore", "default", exit_code=1).stderr
    assert Path(house.state_dir).exists()
