"""The openai SDK for Node."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node_packages import node_packages
from tests.e2e.program import Gateway, clean_environment
from tests.e2e.replay import ReplayUpstream, document

VERSION = "7"
SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ maxRetries: 2, timeout: 20000, defaultHeaders: JSON.parse(process.env.EXTRA_HEADERS) });
const ask = { model: "mock/openai/gpt-5.1", input: "Count from 1 to 5." };
const told = (error) => ({ name: error.constructor.name, status: error.status, type: error.type, code: error.code });
const jobs = {
  async create() {
    const { data, request_id } = await client.responses.create(ask).withResponse();
    return { text: data.output_text, id: data.id, total: data.usage.total_tokens, request_id };
  },
  async stream() {
    const events = await client.responses.create({ ...ask, stream: true });
    const types = [];
    let text = "";
    for await (const event of events) {
      types.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    return { text, last: types.at(-1) };
  },
  async helper() {
    const final = await client.responses.stream(ask).finalResponse();
    return { text: final.output_text, status: final.status };
  },
  async abort() {
    const events = await client.responses.create({ ...ask, stream: true });
    for await (const event of events) break;
    return { left: true };
  },
};
try {
  console.log(JSON.stringify(await jobs[process.argv[2]]()));
} catch (error) {
  console.log(JSON.stringify(told(error)));
}
"""


@pytest.fixture(scope="session")
def node_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDK in it."""
    folder = node_packages(f"node-openai-{VERSION}", [f"openai@{VERSION}"], pytestconfig, tmp_path_factory)
    (folder / "job.mjs").write_text(SCRIPT)
    return folder


def node(folder: Path, gateway: Gateway, job: str, headers: dict[str, str] | None = None, key: str = "") -> Any:  # noqa: ANN401
    env = clean_environment(
        folder,
        OPENAI_BASE_URL=f"{gateway.url}/api/v1",
        OPENAI_API_KEY=key or gateway.key,
        EXTRA_HEADERS=json.dumps(headers or {}),
    )
    done = subprocess.run(
        ["node", "job.mjs", job], cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_answer_in_one_piece(node_folder: Path, mocked: Gateway) -> None:
    said = node(node_folder, mocked, "create")
    assert said["text"] == "1, 2, 3, 4, 5"
    assert said["request_id"]
    assert mocked.record(said["id"], "response_id")["total_tokens"] == said["total"]


def test_a_stream(node_folder: Path, mocked: Gateway) -> None:
    assert node(node_folder, mocked, "stream") == {"text": "1, 2, 3, 4, 5", "last": "response.completed"}
    assert node(node_folder, mocked, "helper") == {"text": "1, 2, 3, 4, 5", "status": "completed"}


def test_leaving_a_stream(node_folder: Path, mocked: Gateway) -> None:
    before = mocked.records()
    assert node(node_folder, mocked, "abort", {"x-mock-fault": "stall@4"}) == {"left": True}
    assert mocked.settled(before)["outcome"] == "client_closed"


def test_a_wrong_key_is_told_once(node_folder: Path, gateway: Gateway) -> None:
    refused = gateway.metric("weighbridge_refusals_total", reason="authentication")
    said = node(node_folder, gateway, "create", key="sk-wb-wrong")
    assert (said["name"], said["status"]) == ("AuthenticationError", 401)
    assert gateway.metric("weighbridge_refusals_total", reason="authentication") == refused + 1


def test_the_sdk_retries_not_we(node_folder: Path, gateway: Gateway, replay: ReplayUpstream) -> None:
    body = b'{"error":{"message":"Slow down.","type":"requests","code":"rate_limit_exceeded"}}'
    script = document(body, "429 Too Many Requests", [("retry-after-ms", "1")])
    said = node(node_folder, gateway, "create", replay.play(script))
    assert said == {"name": "RateLimitError", "status": 429, "type": "requests", "code": "rate_limit_exceeded"}
    assert len(script.seen) == 3
