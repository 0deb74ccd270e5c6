"""The samples of tests/wire: what each says, as a record has it."""

from dataclasses import dataclass
from pathlib import Path

from tests.record_fields import TOKENS

WIRE = Path(__file__).parents[1] / "wire"
UNKNOWN = "-/-/-/-/-/-"


@dataclass(frozen=True)
class Sample:
    """`usage` as the README of the samples writes it; `cost_usd` only where upstream reports one.

    What was `cut` off after upstream began to work is estimated; what ended properly without telling is unknown.
    """

    outcome: str
    usage: str = UNKNOWN
    cost_usd: str | None = None
    cut: bool = False

    @property
    def tokens(self) -> dict[str, int | None]:
        counts = [None if part == "-" else int(part) for part in self.usage.split("/")]
        return dict(zip(TOKENS, counts, strict=True))

    @property
    def usage_source(self) -> str:
        if self.cut:
            return "estimated"
        return "none" if self.usage == UNKNOWN else "reported"


OPENAI = Sample("completed", "1523/1024/256/87/64/1610")
BACKGROUND = Sample("completed", "77/0/0/1203/1152/1280")
LEGACY = Sample("completed", "12/-/-/45/-/57")
FRAMED = Sample("completed", "5/0/-/2/0/7")

SAMPLES = {
    "01-openai-completed": OPENAI,
    "02-openresponses-completed-done": OPENAI,
    "03-openai-toolcalls": Sample("completed", "412/0/0/58/0/470"),
    "04-openai-incomplete": Sample("incomplete", "301/0/0/16/10/317"),
    "05-openai-error-then-failed": Sample("failed"),
    "06-openai-error-flat-only": Sample("failed"),
    "07-openai-failed-with-usage": Sample("failed", "900/512/0/21/0/921"),
    "08-openai-background-queued": BACKGROUND,
    "09-openai-background-resume-after-5": BACKGROUND,
    "20-openrouter-current": Sample("completed", "2310/2048/0/141/96/2451", "0.00123456"),
    "21-openrouter-named-events": Sample("completed", "2310/2048/0/141/96/2451", "0.0004"),
    "22-openrouter-docs-legacy": LEGACY,
    "22b-openrouter-docs-example": LEGACY,
    "23-openrouter-failed-error_type": Sample("failed"),
    "24-openrouter-response.error": Sample("failed"),
    "25-openrouter-chat-style-error": Sample("failed"),
    "26-openrouter-cache-hit-zero-usage": Sample("completed", "0/0/-/0/0/0", "0"),
    "30-azure": Sample("completed", "64/0/-/9/0/73"),
    "31-vllm": Sample("completed", "33/16/-/120/111/153"),
    "32-llamacpp": Sample("completed", "21/-/-/6/-/27"),
    "33-ollama": Sample("completed", "68/0/-/40/0/108"),
    "34-lmstudio": Sample("completed", "70/-/-/22/11/92"),
    "40-framing-crlf": FRAMED,
    "41-framing-cr-only": FRAMED,
    "42-framing-bom": FRAMED,
    "43-framing-multiline-data": FRAMED,
    "44-framing-no-space-after-colon": FRAMED,
    "45-framing-no-final-blank-line": FRAMED,
    "46-framing-id-retry-comments": FRAMED,
    "46b-framing-comments-only": FRAMED,
    "46c-framing-event-without-data": FRAMED,
    "47-cut-before-terminal": Sample("truncated", cut=True),
    "48-cut-mid-event": Sample("truncated", cut=True),
    "49-unknown-events": FRAMED,
    "50-usage-null-details": Sample("completed", "5/-/-/2/-/7"),
    "51-usage-missing": Sample("completed"),
}


def wire(name: str) -> bytes:
    return (WIRE / f"{name}.sse").read_bytes()
