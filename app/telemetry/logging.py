"""Log lines: of our own code, of uvicorn and of every library, through one redacting formatter into one sink.

    logging / structlog -> root logger -> LineHandler -> stamp, redact, escape, cut -> JSON or console text -> LogSink
    ledger's writer     -> ExchangeLog --------------------------------------------------------------------^

Start uvicorn with `log_config=None, log_level=None, access_log=False`, so that it leaves this in place.
"""

import logging
import sys
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter

from app.telemetry.lines import Cleaner, render_console, render_json, stamp
from app.telemetry.redaction import Redactor
from app.telemetry.sink import LogSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from structlog.typing import Processor

NOISE = (
    # A stream that upstream broke off is broken off by returning without an end: on purpose, and in the ledger.
    "ASGI callable returned without completing response.",
    # GET /responses with Upgrade is answered 426: clients probe for it on every start.
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
    "Waiting for application ",
    "Application startup complete.",
    "Application shutdown complete.",
    "Started server process",
    "Shutting down",
    "Finished server process",
)
"""How lines begin that uvicorn says in the ordinary course of things."""

TALKATIVE = ("httpx2", "httpcore2", "alembic", "asyncio")
"""Libraries whose debug and info lines tell of their own insides, headers among them: heard from warning up."""


class LogForm(StrEnum):
    """What a line looks like: for people, or one JSON object."""

    CONSOLE = "console"
    JSON = "json"


@dataclass(slots=True, frozen=True)
class LogOutput:
    """Where lines go and in what form, for those who write lines of their own."""

    form: LogForm
    level: int
    redact: Redactor
    sink: LogSink

    def hears(self, level: int) -> bool:
        """Whether a line of this level is wanted."""
        return level >= self.level

    def close(self) -> None:
        """Write out what is queued."""
        self.sink.close()


class LineHandler(logging.Handler):
    """Formats in the caller's thread, so that a traceback is read while it is true, and queues the line."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self.sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.sink.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a line that cannot be made must not break its caller
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that a line was lost; the standard form prints its arguments, unredacted."""
        self.sink.write(f"a log line of {record.name} (level {record.levelname}) could not be formatted\n")

    def flush(self) -> None:
        self.sink.flush()

    def close(self) -> None:
        self.sink.close()
        super().close()


def configure_logging(
    format: Literal["console", "json", "auto"],  # noqa: A002 - the setting's name
    level: str,
    secrets: "Sequence[str]",
    stream: TextIO | None = None,
) -> LogOutput:
    """Send all logging to `stream` (stderr), once a process; a second call takes the place of the first.

    `auto` is console on a terminal, else JSON. Raises ValueError for a level or form there is none of.
    """
    target = sys.stderr if stream is None else stream
    form = LogForm("console" if target.isatty() else "json") if format == "auto" else LogForm(format)
    output = LogOutput(form, _level_number(level), Redactor(secrets), LogSink(target))
    handler = LineHandler(output.sink)
    handler.setFormatter(_formatter(form, output.redact))
    handler.addFilter(lambda record: not (isinstance(record.msg, str) and record.msg.startswith(NOISE)))
    output.sink.announce_losses(lambda lost: handler.format(_losses(lost)) + "\n")
    _install(handler, output.level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return output


def log_uncaught() -> None:
    """Send what Python would print by itself (a crash, a dying thread, a warning) through the log, redacted."""
    logger = logging.getLogger("app")

    def crashed(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            logger.critical("crashed", exc_info=(kind, error, trace))

    def thread_died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            logger.critical("a thread died", exc_info=args.exc_value)

    sys.excepthook = crashed
    threading.excepthook = thread_died
    logging.captureWarnings(capture=True)


def _level_number(level: str) -> int:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"no such log level: {level!r}")
    return number


def _formatter(form: LogForm, redact: Redactor) -> ProcessorFormatter:
    render: Processor = render_json if form is LogForm.JSON else render_console
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            stamp,
            structlog.processors.format_exc_info,
            ProcessorFormatter.remove_processors_meta,
            Cleaner(redact),
            render,
        ],
    )


def _losses(lost: int) -> logging.LogRecord:
    message = "log lines were lost: nobody read them"
    record = logging.LogRecord("app.telemetry", logging.WARNING, __file__, 0, message, None, None)
    record.lost = lost
    return record


def _install(handler: LineHandler, level: int) -> None:
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = name != "uvicorn.access"  # the exchange line says it, and once only
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
