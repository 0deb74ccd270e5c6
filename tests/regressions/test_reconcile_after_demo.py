"""Who tried the demo first, and then set a key: upstream's books hold nothing of what the mock has answered."""

import json
from pathlib import Path

from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway, Mock, Process, clean_environment


def test_only_calls_to_this_upstream_are_compared(tmp_path: Path, canary_key: str) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    demo = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
    key = demo.out.split("OPENAI_API_KEY=")[1].split()[0]
    with opened(f"{demo.url}/v1/responses", key, ASK) as call:
        assert call.rest().status == 200
    assert demo.end() == 0
    with (
        Mock(tmp_path, canary_key) as mock,
        Gateway(tmp_path, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1") as gateway,
    ):
        gateway.key = key
        gateway.secrets["first key"] = key
        gateway.post(ASK)
        assert len(gateway.records()) == 1  # the calls of the demo are a book of their own
        compared = json.loads(gateway.command("reconcile", "--tolerance", "0", "--json").stdout)
        assert compared["windows"][0]["ours_usd"] == compared["windows"][0]["upstream_usd"] != "0"
