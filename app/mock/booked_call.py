"""One call in the mock's usage records."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from app.mock.models import MockModel
from app.mock.usage import MockUsage

_INNER = ("price", "full", "usage")


@dataclass(slots=True)
class BookedCall:
    """One call. `usage` is what is owed so far; times are seconds since 1970."""

    id: str
    generation_id: str
    path: str
    dialect: str
    model_requested: str
    model: str
    stream: bool
    created_at: float
    price: MockModel
    full: MockUsage | None  # owed for the whole answer
    status: str = "in_progress"
    usage: MockUsage = field(default_factory=MockUsage)
    cost_nanousd: int = 0
    reported: bool = False  # the caller was told the usage
    terminal_sent: bool = False
    events: int = 0  # sent whole; a JSON answer counts as two
    tokens: int = 0
    aborted_at_event: int | None = None
    finished_at: float | None = None
    faults: str = ""

    def json(self) -> dict[str, Any]:
        """As GET /_mock/books shows it."""
        shown = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _INNER}
        return shown | asdict(self.usage) | {"total_tokens": self.usage.total_tokens, "finished": self.terminal_sent}
