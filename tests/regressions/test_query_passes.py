"""Issue 12, C8: the query string of a call never reached upstream, and a base URL with a query was refused."""

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document

ODD = "api-version=preview&b=%20%41+c&b=&&d=?/;e"


def test_it_passes_as_it_came_behind_the_base_url_s_own(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{replay.url}/?tier=gold&x=%2F")
    for query, expected in (
        ("", "?tier=gold&x=%2F"),
        ("?canary-of-a-value=1", "?tier=gold&x=%2F&canary-of-a-value=1"),
        ("?" + ODD, "?tier=gold&x=%2F&" + ODD),
    ):
        script = document(b"{}")
        assert gateway.post(ASK, replay.play(script), "/v1/responses" + query).status == 200
        assert script.seen[0].line.split()[1] == f"/api/v1/responses{expected}"
    assert {record["path"] for record in gateway.records()} == {"/v1/responses"}
    assert "canary-of-a-value" not in gateway.process.err + gateway.process.out


@pytest.mark.parametrize(
    "query",
    [
        "api_key=x",
        "a=b&API-KEY=x",
        "a=b;key=x",
        "access_token=x",
        "%61pi_key=x",
        "token",
        "x-api-key=",
        "client_secret=x",
        "a=sk-wb-x",
        "sk%2dwb-x",
    ],
)
def test_a_credential_in_it_is_refused(gateway: Gateway, replay: ReplayUpstream, query: str) -> None:
    script = document(b"{}")
    answer = gateway.post(ASK, replay.play(script), "/v1/responses?" + query)
    assert (answer.status, answer.error_type, script.seen) == (401, "authentication", [])
    assert "query" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "query", ["keys=1", "include[]=a", "monkey=1", "tokens=5", "starting_after=resp_1", "author=x"]
)
def test_other_words_are_no_credentials(gateway: Gateway, replay: ReplayUpstream, query: str) -> None:
    script = document(b"{}")
    assert gateway.post(ASK, replay.play(script), "/v1/responses?" + query).status == 200
    assert script.seen[0].line.split()[1] == f"/api/v1/responses?{query}"
