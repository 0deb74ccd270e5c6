import asyncio
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import structlog
import uvicorn
from starlette.types import Receive, Scope, Send

from app.telemetry.lines import Cleaner
from app.telemetry.logging import log_uncaught
from app.telemetry.redaction import Redactor

Configure = Callable[..., Any]
FORMS = pytest.mark.parametrize("form", ["json", "console"])


def stumble(secret: str) -> None:
    held = {"authorization": f"Bearer {secret}"}
    try:
        raise ValueError(f"upstream said: bad key {secret}")  # noqa: TRY301 - the chain is what is tested
    except ValueError as error:
        error.add_note(f"headers were {held!r}")
        raise RuntimeError([secret, secret.encode()]) from error


@FORMS
def test_no_key_gets_through_a_traceback(log: Configure, canary_key: str, form: str) -> None:
    out = log(form)
    for logger in (logging.getLogger("app.x"), structlog.get_logger("app.x")):
        try:
            stumble(canary_key)
        except RuntimeError:
            logger.exception("call failed")
    text = out.text()
    assert canary_key not in text
    assert text.count("in stumble") == 4
    assert "upstream said: bad key ***" in text
    assert "headers were {'authorization': 'Bearer ***'}" in text


@FORMS
def test_no_key_gets_through_a_value(log: Configure, canary_key: str, form: str) -> None:
    class Odd:
        def __repr__(self) -> str:
            return f"<Odd {canary_key}>"

    out = log(form)
    held: dict[str, Any] = {
        "text": f"key={canary_key}",
        "bytes": canary_key.encode(),
        "nested": {canary_key: [{"k": (canary_key,)}]},
        "odd": Odd(),
        canary_key: 1,
    }
    structlog.get_logger("app").warning(f"using {canary_key}", **held)
    logging.getLogger("app").warning("using %s and %r", canary_key, Odd(), extra={"more": held})
    assert canary_key not in out.text()
    assert out.text().count("***") >= 10


@FORMS
def test_nothing_forges_a_line(log: Configure, form: str) -> None:
    out = log(form)
    forged = 'a\n{"event":"exchange"}\r\n20:58:44 alice\x1b[31m\u2028\x85 end'
    logging.getLogger("app").warning("odd %s", forged)
    structlog.get_logger("app").warning(forged, value=forged)
    assert len(out.lines()) == 2
    assert all(line.isprintable() for line in out.lines())


def test_half_a_surrogate_is_shown_as_text() -> None:
    """Apart from the lines above: pytest keeps what is logged, and xdist cannot send half a surrogate."""
    assert Cleaner(Redactor(())).text("a\ud800b").isprintable()


def test_an_exceptions_text_cannot_pass_for_a_line_on_the_console(log: Configure) -> None:
    out = log("console")
    logging.getLogger("app").error("failed", exc_info=ValueError("x\n20:58:44 alice forged\x1b[2J"))
    first, *rest = out.lines()
    assert first.endswith(" error failed")
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_json_lines_are_stamped_and_named(log: Configure) -> None:
    out = log("json")
    logging.getLogger("app.store").warning("slow commit", extra={"seconds": 1.5, "level": "forged", "when": None})
    structlog.get_logger("app.web").info("hello", port=8787, names=["a"], big=2**80)
    first, second = (json.loads(line) for line in out.lines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "warning", "logger": "app.store", "event": "slow commit", "seconds": 1.5, "when": None}
    assert second["logger"] == "app.web"
    assert (second["port"], second["names"], second["big"]) == (8787, ["a"], str(2**80))


def test_console_lines_are_short(log: Configure) -> None:
    out = log("console")
    structlog.get_logger("app").warning("spool is in use", records=3, path="/data/spool", why="no space", more={"a": 1})
    assert out.text()[8:] == (' warning spool is in use records=3 path=/data/spool why="no space" more={"a":1}\n')


def test_levels(log: Configure) -> None:
    out = log("json", "warning")
    for logger in (logging.getLogger("app"), structlog.get_logger("app")):
        logger.info("quiet")
        logger.warning("loud")
    assert [json.loads(line)["event"] for line in out.lines()] == ["loud", "loud"]


def test_libraries_that_tell_of_headers_are_not_heard_in_debug(log: Configure) -> None:
    out = log("json", "debug")
    logging.getLogger("uvicorn.access").info("GET / 200")
    logging.getLogger("httpx2").info("HTTP Request: POST")
    logging.getLogger("httpcore2.http11").debug("send_request_headers")
    logging.getLogger("app").debug("ours")
    assert [json.loads(line)["event"] for line in out.lines()] == ["ours"]


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_wrong_settings_are_refused(log: Configure, form: str, level: str) -> None:
    with pytest.raises(ValueError, match=r"xml|loud"):
        log(form, level)


def test_auto_is_json_where_there_is_no_terminal(log: Configure) -> None:
    out = log("auto")
    logging.getLogger("app").warning("x")
    assert json.loads(out.text())["event"] == "x"


def test_a_second_configuration_takes_the_place_of_the_first(log: Configure) -> None:
    first, second = log("json"), log("console")
    logging.getLogger("app").warning("once")
    assert not first.text()
    assert len(second.lines()) == 1


@FORMS
def test_values_are_cut(log: Configure, canary_key: str, form: str) -> None:
    out = log(form)
    structlog.get_logger("app").warning("x" * 5000_000, value="y" * 2040 + canary_key, many=list(range(5000)))
    assert len(out.text()) < 6000
    assert canary_key[:6] not in out.text()


def test_a_long_traceback_keeps_its_end(log: Configure) -> None:
    out = log("json")
    logging.getLogger("app").error("failed", exc_info=ValueError("z" * 100_000 + " the point"))
    trace = json.loads(out.text())["exception"]
    assert len(trace) < 17_000
    assert trace.startswith("ValueError: zzz")
    assert trace.endswith(" the point")


def test_a_line_that_cannot_be_made_harms_nobody(
    log: Configure, canary_key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(canary_key)

        __repr__ = __str__

    out = log("json")
    handler = next(one for one in logging.getLogger().handlers if type(one).__name__ == "LineHandler")
    handler.handle(logging.makeLogRecord({"name": "app.x", "msg": "odd", "value": Broken()}))
    handler.handle(logging.makeLogRecord({"name": "app.x", "levelname": "ERROR", "msg": "%d", "args": (canary_key,)}))
    first, second = out.lines()
    assert "<Broken without repr>" in first
    assert second == "a log line of app.x (level ERROR) could not be formatted"
    assert canary_key not in out.text() + "".join(capfd.readouterr())


def test_what_nobody_caught_is_logged_and_redacted(log: Configure, canary_key: str) -> None:
    out = log("json")
    log_uncaught()
    dying = threading.Thread(target=stumble, args=(canary_key,))
    dying.start()
    dying.join()
    error = ValueError(canary_key)
    sys.excepthook(ValueError, error, None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(f"old key {canary_key}", stacklevel=1)
    events = [json.loads(line) for line in out.lines()]
    assert [event["event"] for event in events][:2] == ["a thread died", "crashed"]
    assert events[2]["logger"] == "py.warnings"
    assert canary_key not in out.text()


def test_the_last_lines_are_out_when_the_program_ends() -> None:
    program = (
        "import logging; from app.telemetry.logging import configure_logging; configure_logging('json', 'info', []);"
        "[logging.getLogger('app').warning('line %d', n) for n in range(200)]; raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 3
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == [f"line {n}" for n in range(200)]


async def answer_in_part(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/raise":
        raise RuntimeError(scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})


async def ask(port: int, target: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_uvicorn_is_heard_but_not_about_what_we_do_on_purpose(log: Configure, canary_key: str) -> None:
    out = log("json")
    config = uvicorn.Config(
        answer_in_part, port=0, ws="none", lifespan="off", log_config=None, log_level=None, access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    assert (await ask(port, "/")).endswith(b"part\r\n")
    assert b"500" in await ask(port, f"/raise?{canary_key}")
    server.should_exit = True
    await serving
    events = [json.loads(line)["event"] for line in out.lines()]
    assert "Exception in ASGI application" in events
    assert not [event for event in events if "without completing" in event or "pgrade" in event or "GET /" in event]
    assert "RuntimeError: ***" in out.text()
    assert canary_key not in out.text()
