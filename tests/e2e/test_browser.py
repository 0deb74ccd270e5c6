"""Chromium: a page of another origin cannot spend, read or even ask; a named origin can; a rebound name can not."""

import contextlib
import http.server
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import SECONDS
from tests.e2e.program import Gateway, Mock, clean_environment
from tests.tools import needed

BROWSER_SECONDS = 50
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1, MAP localhost 127.0.0.1",
)
ATTEMPTS = """
const url = GATEWAY + "/api/v1/responses";
const ask = JSON.stringify({ model: "openai/gpt-5.1", input: "Say hello.", stream: true });
const bearer = { authorization: "Bearer " + KEY };
const json = { "content-type": "application/json" };
const text = async (promise) => { const r = await promise; return [r.type, r.status, await r.text()]; };
const loaded = (element, name, value) => new Promise((resolve) => {
  element.onload = () => resolve("loaded");
  element.onerror = () => resolve("error");
  element[name] = value;
  document.body.append(element);
});
const attempts = {
  async with_key() { return text(fetch(url, { method: "POST", headers: { ...bearer, ...json }, body: ask })); },
  async with_json() { return text(fetch(url, { method: "POST", headers: json, body: ask })); },
  async simple() { return text(fetch(url, { method: "POST", body: ask })); },
  async no_cors() { return text(fetch(url, { method: "POST", mode: "no-cors", body: ask })); },
  async cookies() { return text(fetch(url, { method: "POST", credentials: "include", body: ask })); },
  async account() { return text(fetch(GATEWAY + "/v1/key", { headers: bearer })); },
  async metrics() { return text(fetch(GATEWAY + "/metrics")); },
  async health() { return text(fetch(GATEWAY + "/healthz")); },
  async beacon() { return navigator.sendBeacon(url, new Blob([ask], { type: "text/plain" })) && "sent"; },
  async script() { return loaded(document.createElement("script"), "src", GATEWAY + "/metrics"); },
  async image() { return loaded(document.createElement("img"), "src", GATEWAY + "/healthz"); },
  async events() {
    return new Promise((resolve) => {
      const source = new EventSource(url);
      source.onopen = () => resolve("open");
      source.onerror = () => resolve("error");
    });
  },
  async socket() {
    return new Promise((resolve) => {
      const socket = new WebSocket(url.replace("http", "ws"));
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("error");
    });
  },
  async form() {
    const frame = document.createElement("iframe");
    frame.name = "frame";
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", action: url, enctype: "text/plain", target: "frame" });
    const input = document.createElement("input");
    Object.assign(input, { name: ask.slice(0, -1) + ', "x": "', value: '"}' });
    form.append(input);
    document.body.append(form);
    const done = new Promise((resolve) => { frame.onload = () => resolve("loaded"); });
    form.submit();
    return done;
  },
};
const told = {};
for (const name of WANTED) {
  try { told[name] = await Promise.race([attempts[name](), new Promise((r) => setTimeout(r, 5000, "silence"))]); }
  catch (error) { told[name] = error.constructor.name; }
}
await fetch("/told", { method: "POST", body: JSON.stringify(told) });
"""


class Site(http.server.ThreadingHTTPServer):
    """A web server with one page. What the page is not asked for goes on to `rebound`, as when a name is rebound."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SiteRequest)
        self.page = ""
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.rebound: tuple[str, int] | None = None


class _SiteRequest(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        if self.path == "/page":
            self._answer(self.server.page.encode(), "text/html")
        else:
            self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/told":
            self._answer(b"", "text/plain")
            self.server.told.put(json.loads(body))
        else:
            self._pass_on(body)

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pass_on(self, body: bytes) -> None:
        self.close_connection = True
        if self.server.rebound is None:
            self.send_error(404)
            return
        with socket.create_connection(self.server.rebound, SECONDS) as there:
            lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
            there.sendall("\r\n".join(lines).encode() + body)
            there.shutdown(socket.SHUT_WR)
            while piece := there.recv(65_536):
                self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


Browse = Callable[..., dict[str, Any]]


@pytest.fixture
def browse(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Opens the page under a host's name in Chromium and returns what came of each attempt."""
    chromium = needed("chromium", "google-chrome")

    def browse(host: str, gateway_url: str, key: str, *wanted: str) -> dict[str, Any]:
        given = f"const GATEWAY = {json.dumps(gateway_url)}, KEY = {json.dumps(key)}, WANTED = {json.dumps(wanted)};"
        site.page = f"<!doctype html><body><script type=module>{given}{ATTEMPTS}</script></body>"
        folder: Path = tmp_path_factory.mktemp("chromium")
        url = f"http://{host}:{site.server_address[1]}/page"
        command = [chromium, *FLAGS, f"--user-data-dir={folder}", url]
        with _running(command, folder):
            return site.told.get(timeout=BROWSER_SECONDS)

    return browse


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    env = clean_environment(folder)
    with (folder / "log").open("wb") as log:
        browser = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    except queue.Empty:
        pytest.fail(f"the page told nothing: {(folder / 'log').read_text()[-2000:]}")
    finally:
        browser.terminate()
        try:
            browser.wait(SECONDS)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()


READS = ("with_key", "with_json", "simple", "cookies", "account", "metrics", "health")
OTHERS = ("no_cors", "beacon", "script", "image", "events", "socket", "form")


@pytest.mark.timeout(180)
def test_pages(site: Site, browse: Browse, start_gateway: Callable[..., Gateway], mock_process: Mock) -> None:
    """One gateway, which names one origin, and that page's visitors with a good key: the worst case."""
    port = site.server_address[1]
    gateway = start_gateway(
        WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1",
        WEIGHBRIDGE_ALLOWED_ORIGINS=f"http://localhost:{port}",
    )
    site.rebound = (str(urlsplit(gateway.url).hostname), urlsplit(gateway.url).port or 0)

    # A page of another site, and one of the same machine on another port: both hold a good key.
    for host in ("evil.example", "127.0.0.1"):
        told = browse(host, gateway.url, gateway.key, *READS, *OTHERS)
        assert {name: told[name] for name in READS} == dict.fromkeys(READS, "TypeError"), "nothing was readable"
        assert told["no_cors"] == ["opaque", 0, ""]
        assert (told["script"], told["image"], told["events"], told["socket"]) == ("error",) * 4
    assert gateway.records() == [], "nothing was called"
    assert gateway.metric("weighbridge_refusals_total", reason="origin_not_allowed") >= 2 * len(READS)

    # A name that was the page's own and now leads to us: same origin for the browser, a foreign Host for us.
    told = browse("rebind.example", f"http://rebind.example:{port}", gateway.key, *READS)
    assert told.pop("health")[2] == '{"status":"ok"}', "probes are asked by any name, and tell nothing"
    assert {status for _, status, _ in told.values()} == {421}
    assert gateway.records() == []

    # The origin that is named: it calls, streams and reads, by its key and not by cookies.
    told = browse("localhost", gateway.url, gateway.key, "with_key", "with_json", "account", "cookies", "metrics")
    kind, status, body = told["with_key"]
    assert (kind, status) == ("cors", 200)
    assert "response.completed" in body
    assert told["with_json"][1] == 401, "without a key it may read that it has none"
    assert told["account"][1] == 200
    assert (told["cookies"], told["metrics"]) == ("TypeError", "TypeError")
    assert [record["outcome"] for record in gateway.records()] == ["completed"]
