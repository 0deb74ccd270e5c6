"""SDKs for Python as their users have them, each refused in every way at once.

python -m tests.e2e.refused MODEL, with [[who, url, key, question, seconds], ...] as JSON on standard input. Prints for
each what it was told in the end. Who is still trying after so many seconds is stopped, and has no status.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
import openai


class Clients:
    """Each with its own ways; only what takes long to make, the trust store of a client, is shared.

    The others than OpenAI's own take seconds to import, and are imported when asked for.
    """

    def __init__(self, model: str, openai_client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
        self._model = model
        self._openai = openai_client
        self._http = http

    async def ask(self, who: str, url: str, key: str, question: str) -> None:
        client = self._openai.with_options(base_url=url, api_key=key)
        if who == "openai-python":
            await client.responses.create(model=self._model, input=question)
        elif who == "agents-python":
            from agents import Agent, OpenAIResponsesModel, RunConfig, Runner

            agent = Agent("one", model=OpenAIResponsesModel(self._model, client))
            await Runner.run(agent, question, run_config=RunConfig(tracing_disabled=True))
        else:
            from openrouter import OpenRouter

            router = OpenRouter(api_key=key, server_url=url, async_client=self._http)
            await router.beta.responses.send_async(model=self._model, input=question)

    async def told(self, who: str, url: str, key: str, question: str, seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                await self.ask(who, url, key, question)
        except TimeoutError:
            return {"status": None, "said": "still trying"}
        except Exception as refused:  # noqa: BLE001 - openai.APIStatusError, openrouter.errors.OpenRouterError
            return {"status": getattr(refused, "status_code", None), "said": str(refused)}
        return {"status": 200, "said": ""}


async def main(model: str) -> None:
    work = json.load(sys.stdin)
    async with openai.AsyncOpenAI(api_key="none") as openai_client, httpx.AsyncClient() as http:
        clients = Clients(model, openai_client, http)
        answers = await asyncio.gather(*(clients.told(*one) for one in work))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
