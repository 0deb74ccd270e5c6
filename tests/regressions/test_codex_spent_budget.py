"""Codex gives a reason for a spent budget only where `error.code` is a word; OpenRouter's SDKs want a number (F4)."""

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM


@pytest.mark.parametrize("body", [ASK, ASK_STREAM], ids=["json", "stream"])
def test_only_codex_is_told_by_a_word(start_gateway: GatewayStarter, body: bytes) -> None:
    gateway = start_gateway()
    gateway.command("clients", "set", "default", "--budget-tokens", "0/total")
    for originator in ("codex_cli_rs", "codex_exec", "Codex Desktop", "codex"):
        answer = gateway.post(body, {"originator": originator})
        assert (answer.status, answer.json["error"]["code"]) == (429, "insufficient_quota")
        assert answer.json["error"]["metadata"]["error_type"] == "insufficient_quota"
        assert answer.json["error"]["type"] == "insufficient_quota"
    for headers in ({}, {"originator": ""}, {"originator": "my-codex"}, {"user-agent": "codex_cli_rs/0.169"}):
        answer = gateway.post(body, headers)
        assert (answer.status, answer.json["error"]["code"]) == (429, 429)


def test_other_refusals_keep_their_number(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    gateway.command("clients", "set", "default", "--models", "nothing/*")
    answer = gateway.post(ASK, {"originator": "codex_cli_rs"})
    assert (answer.status, answer.json["error"]["code"]) == (403, 403)
