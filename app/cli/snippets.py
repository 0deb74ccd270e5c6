"""Text that points client programs at this gateway. docs/clients.md shows the same blocks, and tests run each."""

from dataclasses import dataclass
from enum import StrEnum
from string import Template

from app.cli import codex


class Program(StrEnum):
    """The client programs that we know."""

    CODEX = "codex"
    OPENAI_PYTHON = "openai-python"
    OPENAI_NODE = "openai-node"
    AGENTS = "agents"
    AI_SDK = "ai-sdk"
    OPENROUTER = "openrouter"
    LANGCHAIN = "langchain"
    LLM = "llm"
    CURL = "curl"
    ENV = "env"


@dataclass(slots=True, frozen=True)
class Block:
    """One text to paste. `where` tells the place; `language` is sh, toml, python or javascript."""

    where: str
    language: str
    text: str

    @property
    def shown(self) -> str:
        """The text below a comment with its place."""
        mark = "//" if self.language == "javascript" else "#"
        return f"{mark} {self.where}:\n{self.text}\n"


@dataclass(slots=True, frozen=True)
class SnippetValues:
    """The values of a snippet. `base_url` ends before `/responses`."""

    base_url: str
    key: str
    model: str

    def fill(self, text: str) -> str:
        """The text with address, key and model in it."""
        return Template(text.strip("\n")).safe_substitute(url=self.base_url, key=self.key, model=self.model)


def blocks(program: Program, target: SnippetValues) -> tuple[Block, ...]:
    """The blocks for a program, in order."""
    shell = Block("In your shell", "sh", target.fill(_ENVIRONMENT))
    match program:
        case Program.ENV:
            return (shell,)
        case Program.CODEX:
            settings = codex.settings(target.base_url, target.model)
            return (
                Block("At the top of ~/.codex/config.toml", "toml", codex.toml(settings)),
                Block("In the shell that starts codex", "sh", f"export {codex.KEY_VARIABLE}={target.key}"),
            )
    where, language, text = _PROGRAMS[program]
    return shell, Block(where, language, target.fill(text))


_ENVIRONMENT = """
export OPENAI_BASE_URL=$url
export OPENAI_API_KEY=$key
"""

_PROGRAMS = {
    Program.CURL: (
        "In the same shell",
        "sh",
        """
curl -N "$OPENAI_BASE_URL/responses" -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\
  -d '{"model": "$model", "input": "Say hello.", "stream": true}'
""",
    ),
    Program.OPENAI_PYTHON: (
        "hello.py, after `pip install openai`",
        "python",
        """
from openai import OpenAI

client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY
with client.responses.stream(model="$model", input="Say hello.") as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
""",
    ),
    Program.OPENAI_NODE: (
        "hello.mjs, after `npm install openai`",
        "javascript",
        """
import OpenAI from "openai";

const client = new OpenAI(); // reads OPENAI_BASE_URL and OPENAI_API_KEY
const stream = await client.responses.create({ model: "$model", input: "Say hello.", stream: true });
for await (const event of stream) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}
""",
    ),
    Program.AGENTS: (
        "hello.py, after `pip install openai-agents`",
        "python",
        """
from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)  # its trace exporter would send this key to OpenAI
# AsyncOpenAI reads OPENAI_BASE_URL and OPENAI_API_KEY. A bare model name would lose its "openai/".
model = OpenAIResponsesModel(model="$model", openai_client=AsyncOpenAI())
print(Runner.run_sync(Agent(name="Hello", model=model), "Say hello.").final_output)
""",
    ),
    Program.AI_SDK: (
        "hello.mjs, after `npm install ai @ai-sdk/openai` (Node 22 or newer)",
        "javascript",
        """
import { openai } from "@ai-sdk/openai"; // reads OPENAI_BASE_URL and OPENAI_API_KEY
import { streamText } from "ai";

const { textStream } = streamText({
  model: openai("$model"),
  prompt: "Say hello.",
  providerOptions: { openai: { store: false } }, // OpenRouter stores nothing
});
for await (const text of textStream) process.stdout.write(text);
""",
    ),
    Program.OPENROUTER: (
        "hello.py, after `pip install openrouter`",
        "python",
        """
import os

from openrouter import OpenRouter

client = OpenRouter(
    api_key=os.environ["OPENAI_API_KEY"],
    server_url=os.environ["OPENAI_BASE_URL"],
    timeout_ms=600_000,  # by itself it gives up after 5 s of silence and sends the call again
)
for event in client.responses.send(model="$model", input="Say hello.", stream=True):
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
""",
    ),
    Program.LANGCHAIN: (
        "hello.py, after `pip install langchain-openai`",
        "python",
        """
import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="$model", base_url=os.environ["OPENAI_BASE_URL"], use_responses_api=True)
for chunk in model.stream("Say hello."):
    print(chunk.text, end="", flush=True)
""",
    ),
    Program.LLM: (
        "In the same shell, after `pip install llm`",
        "sh",
        """
cat >> "$(dirname "$(llm logs path)")/extra-openai-models.yaml" <<'END'
- model_id: weighbridge
  model_name: $model
  api_base: $url
  api_key_name: weighbridge
  responses: true
  supports_tools: true
END
llm -m weighbridge "Say hello."  # without a key of that name it takes OPENAI_API_KEY
""",
    ),
}
