"""Checks with what SDKs send (versions of December 2026, measured), and with a browser's preflight."""

from collections.abc import Iterator, Sequence

from app.cli.doctor.finding import Finding, fail, ok, warn
from app.cli.doctor.handshake import JSON, Headers, RunningGateway, check_call

_STAINLESS = {
    "x-stainless-arch": "x64",
    "x-stainless-os": "Linux",
    "x-stainless-retry-count": "0",
}
_OPENAI_PYTHON: Headers = {
    **_STAINLESS,
    "accept": JSON,
    "accept-encoding": "gzip, deflate",
    "user-agent": "OpenAI/Python 3.57.0",
    "x-stainless-lang": "python",
    "x-stainless-async": "false",
    "x-stainless-runtime": "CPython",
    "x-stainless-read-timeout": "600",
}
_OPENAI_NODE: Headers = {
    **_STAINLESS,
    "accept": JSON,
    "accept-encoding": "gzip, deflate",
    "accept-language": "*",
    "sec-fetch-mode": "cors",
    "user-agent": "OpenAI/JS 7.59.0",
    "x-stainless-lang": "js",
    "x-stainless-runtime": "node",
}
_AGENTS: Headers = {**_OPENAI_PYTHON, "user-agent": "Agents/Python 0.24.0", "x-stainless-async": "async:asyncio"}
_AI_SDK: Headers = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "accept-language": "*",
    "sec-fetch-mode": "cors",
    "user-agent": "ai/7.0.173 ai-sdk/openai/4.0.118 runtime/node.js/24",
}
_OPENROUTER: Headers = {
    "accept": "text/event-stream",
    "accept-language": "*",
    "cookie": "",
    "sec-fetch-mode": "cors",
    "http-referer": "https://app.example.com",
    "x-openrouter-title": "Weighbridge doctor",
    "user-agent": "speakeasy-sdk/typescript 1.3.19 2.866.0 1.0.0 @openrouter/sdk",
}


def check_openai_python(gateway: RunningGateway) -> Iterator[Finding]:
    """OpenAI's Python SDK, which LangChain and LLM use too. It accepts JSON only, even for a stream."""
    yield from check_call(gateway, "openai-python", _OPENAI_PYTHON, gateway.question(stream=True))


def check_openai_node(gateway: RunningGateway) -> Iterator[Finding]:
    """OpenAI's Node SDK. Node's fetch sends `sec-fetch-mode: cors` though it is not a browser."""
    yield from check_call(gateway, "openai-node", _OPENAI_NODE, gateway.question(stream=True))


def check_agents(gateway: RunningGateway) -> Iterator[Finding]:
    """The Agents SDK, with a tool."""
    tool = {"type": "function", "name": "weather", "strict": True, "parameters": {"type": "object", "properties": {}}}
    yield from check_call(gateway, "agents", _AGENTS, gateway.question(tools=[tool], include=[]))


def check_ai_sdk(gateway: RunningGateway) -> Iterator[Finding]:
    """The AI SDK, which sends messages as items."""
    said = [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]
    yield from check_call(gateway, "ai-sdk", _AI_SDK, gateway.question(stream=True, store=False, input=said))


def check_openrouter(gateway: RunningGateway) -> Iterator[Finding]:
    """OpenRouter's SDK, which sends an empty `cookie:` and always a service tier."""
    body = gateway.question(stream=True, store=False, service_tier="auto")
    yield from check_call(gateway, "openrouter", _OPENROUTER, body)


def check_models(gateway: RunningGateway) -> Iterator[Finding]:
    """`models.list()` of OpenAI's SDKs."""
    answer = gateway.ask("GET", "/models", _OPENAI_PYTHON)
    if answer.status in {404, 405}:
        yield warn(
            "openai models", f"not served (HTTP {answer.status}): `models.list()` fails, but calls do not need it"
        )
    elif answer.status == 200 and isinstance(answer.fields.get("data"), list):
        yield ok("openai models", "the list is served")
    else:
        yield fail("openai models", f"no list of models: {answer.summary}", "see the server's log")


def check_preflight(gateway: RunningGateway, origins: Sequence[str]) -> Iterator[Finding]:
    """A browser's preflight: pages of allowed origins may call, others must not."""
    check = "browser preflight"
    origin = origins[0] if origins else "https://app.example.com"
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "cross-site",
    }
    answer = gateway.ask("OPTIONS", "/responses", asked, key=False)
    allowed = answer.headers.get("access-control-allow-origin")
    if not origins:
        if allowed is None and answer.status == 403:
            yield ok(check, "pages of other sites are refused; server.allowed_origins is empty")
        else:
            yield fail(check, f"pages of other sites may call ({answer.summary})", "check the proxy in front")
    elif allowed == origin and "authorization" in answer.headers.get("access-control-allow-headers", ""):
        yield ok(check, f"pages of {origin} may call")
    else:
        yield fail(check, f"pages of {origin} cannot call ({answer.summary})", "restart the server with these settings")


CHECKS = (check_openai_python, check_openai_node, check_agents, check_ai_sdk, check_openrouter, check_models)
