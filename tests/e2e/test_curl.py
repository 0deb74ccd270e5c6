"""curl: the client that everyone has, and the ways of sending a body that only it makes easy."""

import gzip
import json
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.e2e.client import ASK_STREAM, dial, encoded, raw_request, receive
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, Script, document, stream
from tests.e2e.samples import wire

LARGE = json.dumps({"model": "m", "input": "x" * 2_000_000}).encode()


def curl(
    gateway: Gateway, *arguments: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """POST what comes on standard input."""
    lines = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json", **(headers or {})}
    options = [part for name, value in lines.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "--fail-with-body", "--max-time", "30", "--noproxy", "*", *options, *arguments]
    return subprocess.run(
        [*command, f"{gateway.url}/api/v1/responses"], input=body, capture_output=True, timeout=50, check=False
    )


def play(replay: ReplayUpstream, script: Script | None = None) -> tuple[Script, dict[str, str]]:
    script = script or document(b'{"id":"resp_1","object":"response","status":"completed"}')
    return script, replay.play(script)


def test_a_stream(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("20-openrouter-current")
    _, headers = play(replay, stream(body, [100, 1000]))
    done = curl(gateway, "-N", "--data-binary", "@-", body=encoded(ASK_STREAM), headers=headers)
    assert (done.returncode, done.stdout) == (0, body)


def test_a_cut_stream_is_no_success(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("47-cut-before-terminal")
    _, headers = play(replay, stream(body, ending="close"))
    done = curl(gateway, "-N", "--data-binary", "@-", body=encoded(ASK_STREAM), headers=headers)
    assert (done.returncode, done.stdout) == (18, body)  # 18: partial file


@pytest.mark.parametrize("expect", ["100-continue", ""])
def test_a_large_body(gateway: Gateway, replay: ReplayUpstream, expect: str) -> None:
    script, headers = play(replay)
    done = curl(gateway, "-v", "--data-binary", "@-", body=LARGE, headers={**headers, "Expect": expect})
    assert done.returncode == 0, done.stderr
    assert (b"HTTP/1.1 100 " in done.stderr) == bool(expect)
    (seen,) = script.seen
    assert seen.body == LARGE
    assert seen.value("expect") is None


def test_a_body_in_chunks(gateway: Gateway, replay: ReplayUpstream) -> None:
    script, headers = play(replay)
    done = curl(gateway, "-X", "POST", "-T", "-", body=LARGE, headers=headers)
    assert done.returncode == 0, done.stderr
    (seen,) = script.seen
    assert (seen.body, seen.value("content-length")) == (LARGE, str(len(LARGE)))
    assert seen.value("transfer-encoding") is None


def test_http_1_0(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("01-openai-completed")
    _, headers = play(replay, stream(body))
    done = curl(gateway, "-0", "--data-binary", "@-", body=encoded(ASK_STREAM), headers=headers)
    assert (done.returncode, done.stdout) == (0, body)


def test_http_1_0_knows_no_chunks(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("01-openai-completed")
    ask = raw_request(gateway.key, ASK_STREAM, headers=replay.play(stream(body)), version="1.0")
    with dial(gateway.url) as connection:
        connection.sendall(ask)
        head, _, got = receive(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert got == body


def test_a_client_that_takes_compressed_answers(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("01-openai-completed")
    script, headers = play(replay, stream(body))
    done = curl(gateway, "--compressed", "--data-binary", "@-", body=encoded(ASK_STREAM), headers=headers)
    assert (done.returncode, done.stdout) == (0, body)
    assert script.seen[0].value("accept-encoding") in (None, "identity")


def raw_deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("zstd", zstandard.compress),
        ("identity", bytes),
    ],
)
def test_a_coded_body_goes_on_decoded(
    gateway: Gateway, replay: ReplayUpstream, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    script, headers = play(replay)
    headers |= {"Content-Encoding": coding}
    done = curl(gateway, "--data-binary", "@-", body=encode(LARGE), headers=headers)
    assert done.returncode == 0, done.stdout
    (seen,) = script.seen
    assert (seen.body, seen.value("content-length")) == (LARGE, str(len(LARGE)))
    assert seen.value("content-encoding") is None


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress"])
def test_another_coding_is_refused(gateway: Gateway, replay: ReplayUpstream, coding: str) -> None:
    script, headers = play(replay)
    done = curl(gateway, "--data-binary", "@-", body=LARGE, headers={**headers, "Content-Encoding": coding})
    assert json.loads(done.stdout)["error"]["metadata"]["error_type"] == "unsupported_media_type"
    assert script.seen == []


def test_a_bomb_is_refused(start_gateway: Callable[..., Gateway], replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_MAX_BODY_BYTES="1MiB")
    script, headers = play(replay)
    done = curl(
        gateway, "--data-binary", "@-", body=gzip.compress(LARGE), headers={**headers, "Content-Encoding": "gzip"}
    )
    assert json.loads(done.stdout)["error"]["code"] == 413
    assert script.seen == []


def test_a_file_as_the_body(gateway: Gateway, replay: ReplayUpstream, tmp_path: Path) -> None:
    script, headers = play(replay)
    path = tmp_path / "body.json"
    path.write_bytes(encoded(ASK_STREAM))
    assert curl(gateway, "-d", f"@{path}", headers=headers).returncode == 0
    assert script.seen[0].body == path.read_bytes()
