import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog

from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.telemetry.logging import TALKATIVE, LineHandler, LogOutput, configure_logging

UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")

Form = Literal["console", "json", "auto"]


class Log:
    """Logging configured for a test, and what came out of it."""

    def __init__(self, form: Form, level: str, secrets: list[str]) -> None:
        self.stream = io.StringIO()
        self.output: LogOutput = configure_logging(form, level, secrets, self.stream)

    def text(self) -> str:
        assert self.output.sink.flush(10)
        return self.stream.getvalue()

    def lines(self) -> list[str]:
        return self.text().splitlines()


@pytest.fixture
def log(canary_key: str) -> Iterator[Callable[..., Log]]:
    """Configures logging; the canary is among the secrets. Everything global is as before afterwards."""
    loggers = [logging.getLogger(name) for name in (None, *UVICORN, *TALKATIVE)]
    before = [(each.level, each.propagate) for each in loggers]
    hooks = sys.excepthook, threading.excepthook, warnings.showwarning

    def configure(form: Form = "json", level: str = "info", secrets: list[str] | None = None) -> Log:
        return Log(form, level, [canary_key, *(secrets or [])])

    yield configure
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook, warnings.showwarning = hooks
    structlog.reset_defaults()
    for each, (level, propagate) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.propagate = propagate
        for handler in [known for known in each.handlers if isinstance(known, LineHandler)]:
            each.removeHandler(handler)
            handler.close()


@pytest.fixture
def record() -> Record:
    """An ordinary stream, settled."""
    return Record(
        request_id="req_1",
        started_at=1_795_381_123_456_789,
        finished_at=1_795_381_124_691_356,
        client="alice",
        key_id="k123456789",
        upstream="openrouter",
        path="/responses",
        model_requested="openai/gpt-5.5",
        model_served="openai/gpt-5.5",
        stream=True,
        http_status=200,
        outcome=Outcome.COMPLETED,
        usage_source=UsageSource.REPORTED,
        input_tokens=1523,
        cached_input_tokens=1024,
        output_tokens=87,
        total_tokens=1610,
        cost_nanousd=1_234_567,
        cost_source=CostSource.REPORTED,
        response_id="resp_1",
        generation_id="gen-1",
        bytes_in=2000,
        bytes_out=12345,
        time_to_first_byte_ms=310.123456,
        duration_ms=1234.5678,
    )
