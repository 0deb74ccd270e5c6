"""What clients do with our refusals: each sends as few requests as it can be brought to (protocol.md 5.2).

rate_limited        tried again, when we say so
insufficient_quota  once, by all that know `x-should-retry`
model_not_allowed   once, by all
"""

import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.client import opened
from tests.e2e.program import Gateway, Mock, clean_environment
from tests.e2e.test_limits import admin
from tests.tools import needed

MODEL = "openai/gpt-4o-mini"
PACKAGES = ("openai@6", "ai@6", "@ai-sdk/openai@3", "@openrouter/sdk@1")
REASONS = ("rate_limited", "insufficient_quota", "model_not_allowed")
SCRIPT = """
import OpenAI from "openai";
import { generateText } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { OpenRouter } from "@openrouter/sdk";
const [baseURL, model, work] = process.argv.slice(2);
const jobs = {
  openai: (apiKey) => new OpenAI({ baseURL, apiKey }).responses.create({ model, input: "Hi." }),
  ai: (apiKey) => generateText({ model: createOpenAI({ baseURL, apiKey }).responses(model), prompt: "Hi." }),
  openrouter: (apiKey) => new OpenRouter({ serverURL: baseURL, apiKey }).beta.responses.send({
    openResponsesRequest: { model, input: "Hi." }, responsesRequest: { model, input: "Hi." } }),
};
const told = await Promise.all(JSON.parse(work).map(async ([who, key]) => {
  try {
    await jobs[who](key);
    return { answered: true };
  } catch (error) {
    const last = error.lastError ?? error;
    return { status: last.status ?? last.statusCode, said: last.message };
  }
}));
console.log(JSON.stringify(told));
"""

# Requests of one call. The AI SDK knows nothing of x-should-retry and asks after every 429 two times more.
SENT = {
    "openai-python": {"rate_limited": 3, "insufficient_quota": 1, "model_not_allowed": 1},
    "openai": {"rate_limited": 3, "insufficient_quota": 1, "model_not_allowed": 1},
    "ai": {"rate_limited": 3, "insufficient_quota": 3, "model_not_allowed": 1},
    "openrouter": {"rate_limited": 1, "insufficient_quota": 1, "model_not_allowed": 1},
    "curl": {"rate_limited": 1, "insufficient_quota": 1, "model_not_allowed": 1},
}
STATUS = {"rate_limited": 429, "insufficient_quota": 429, "model_not_allowed": 403}


@pytest.fixture(scope="module")
def strict(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a client for each refusal of each SDK. Those to be rate limited share a slot, which is taken."""
    folder = tmp_path_factory.mktemp("strict")
    terms: dict[str, dict[str, Any]] = {
        "rate_limited": {"group": "busy"},
        "insufficient_quota": {"budget_tokens": {"total": 0}},
        "model_not_allowed": {"models": ["nothing/*"]},
    }
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1") as gateway:
        assert admin(gateway, "PATCH", "/groups/busy", {"concurrency": 1}).status == 200
        for client, reason in [("holder", "rate_limited"), *((f"{who}.{why}", why) for who in SENT for why in REASONS)]:
            gateway.new_key(client)
            assert admin(gateway, "PATCH", f"/clients/{client}", terms[reason]).status == 200
        hanging = {"model": MODEL, "input": "Hi.", "stream": True}
        url = f"{gateway.url}/v1/responses"
        with opened(url, gateway.secrets["key of holder"], hanging, {"x-mock-fault": "stall@1"}) as call:
            call.read()
            yield gateway


@pytest.fixture(scope="module")
def sdks(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SDKs for Node in it, kept between runs. Without Node only a developer may go on."""
    needed("node")
    needed("npm")
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # -p no:cacheprovider
    folder = tmp_path_factory.mktemp("node-sdks") if cache is None else cache.mkdir("node-sdks-1")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other worker wants the same
        if not (folder / "installed").exists():
            install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder)]
            done = subprocess.run([*install, *PACKAGES], capture_output=True, text=True, timeout=55, check=False)
            assert done.returncode == 0, done.stderr
            (folder / "installed").touch()
        (folder / "job.mjs").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def told(sdks: Path, strict: Gateway) -> dict[tuple[str, str], dict[str, Any]]:
    """What each SDK for Node made of each refusal, all in one process."""
    cases = [(who, why) for who in ("openai", "ai", "openrouter") for why in REASONS]
    work = json.dumps([(who, strict.secrets[f"key of {who}.{why}"]) for who, why in cases])
    done = subprocess.run(
        ["node", "job.mjs", f"{strict.url}/api/v1", MODEL, work],
        cwd=sdks,
        env=clean_environment(sdks),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads(done.stdout), strict=True))


def sent_by(gateway: Gateway, who: str, reason: str) -> int:
    return sum(r["client"] == f"{who}.{reason}" and r["error_type"] == reason for r in gateway.records())


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("who", ["openai", "ai", "openrouter"])
def test_sdks_for_node(told: dict[tuple[str, str], dict[str, Any]], strict: Gateway, who: str, reason: str) -> None:
    said = told[who, reason]
    assert said["status"] == STATUS[reason], said
    assert any(word in said["said"] for word in ("The client", "The group", "This client"))
    assert sent_by(strict, who, reason) == SENT[who][reason]


@pytest.mark.parametrize("reason", REASONS)
def test_the_sdk_for_python(strict: Gateway, reason: str) -> None:
    key = strict.secrets[f"key of openai-python.{reason}"]
    with (
        openai.OpenAI(base_url=f"{strict.url}/v1", api_key=key, timeout=20) as client,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        client.responses.create(model=MODEL, input="Hi.")
    assert refused.value.status_code == STATUS[reason]
    assert sent_by(strict, "openai-python", reason) == SENT["openai-python"][reason]


@pytest.mark.parametrize("reason", REASONS)
def test_curl(strict: Gateway, reason: str, tmp_path: Path) -> None:
    body = json.dumps({"model": MODEL, "input": "Hi."})
    config = tmp_path / "curl"
    config.write_text(f'header = "Authorization: Bearer {strict.secrets[f"key of curl.{reason}"]}"\n')
    command = ["curl", "-sS", "-K", str(config), "-H", "content-type: application/json", "-d", body]
    done = subprocess.run(
        [*command, f"{strict.url}/v1/responses"], capture_output=True, text=True, timeout=20, check=True
    )
    assert json.loads(done.stdout)["error"]["metadata"]["error_type"] == reason
    assert sent_by(strict, "curl", reason) == SENT["curl"][reason]
