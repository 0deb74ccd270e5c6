"""The compose files, up for real: two replicas on PostgreSQL and Valkey behind Caddy with TLS, and Prometheus.

The files are used as they are. What is added: a provider with a certificate of its own (the mock upstream behind
Caddy), ports that are free, and a Prometheus that looks every second.
"""

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import openai
import trustme

from tests.deploy.containers import docker, free_port, inspected
from tests.deploy.manifests import DEPLOY, DOCKER_COMPOSE
from tests.e2e.client import OpenCall, encoded

IMAGES = ("postgres:18.1", "valkey/valkey:8.1.4", "caddy:2.10.2", "prom/prometheus:v3.5.0")
FILES = ("compose.yaml", "compose.cluster.yaml", "compose.monitoring.yaml", "compose.upstream.yaml")
SERVICES = ("weighbridge", "caddy", "prometheus")  # and what they need; no Grafana: there is no making one here
UPSTREAM = """
services:
  weighbridge:
    environment:
      WEIGHBRIDGE_UPSTREAM_URL: https://upstream/api/v1
      WEIGHBRIDGE_UPSTREAM_CA_FILE: /provider/ca.pem
    volumes: ["./provider:/provider:ro"]
    depends_on: {upstream: {condition: service_started}}
  upstream:
    image: caddy:2.10.2
    volumes: ["./provider:/etc/caddy:ro"]
    depends_on: [mock]
  mock:
    image: ${GATEWAY_IMAGE}
    command: [mock-upstream, --host, 0.0.0.0, --pace, "40:0.3"]
    healthcheck: {test: [CMD, python, -c, ""], interval: 1s} # its own asks a gateway
  prometheus:
    ports: !override ["127.0.0.1::9090"]
"""
PROVIDER = """
{
	admin off
	auto_https off
}
https://upstream {
	tls /etc/caddy/cert.pem /etc/caddy/key.pem
	reverse_proxy mock:9797 {
		flush_interval -1
	}
}
"""
METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8787/metrics').read().decode())"


class Stack:
    """In a folder of its own; `down` leaves nothing behind."""

    def __init__(self, image: str, folder: Path, project: str) -> None:
        shutil.copytree(DEPLOY, folder / "deploy")
        self.folder = folder / "deploy/compose"
        ports = {name: str(free_port()) for name in ("GATEWAY_HTTP_PORT", "GATEWAY_HTTPS_PORT")}
        self._env = {**os.environ, **ports, "GATEWAY_IMAGE": image, "COMPOSE_PROJECT_NAME": project}
        self.secrets = {name: os.urandom(16).hex() for name in ("postgres-password", "admin-key", "upstream-key")}
        address = f"postgresql://weighbridge:{self.secrets['postgres-password']}@postgres/weighbridge"
        for name, text in {**self.secrets, "database-url": address}.items():
            (self.folder / "secrets" / name).write_text(text)
        (self.folder / "secrets").chmod(0o700)
        self._write_provider()
        quicker = (folder / "deploy/prometheus/prometheus.yml").read_text().replace("15s", "1s")
        (folder / "deploy/prometheus/prometheus.yml").write_text(quicker)
        self._image = image
        self._trust = ssl.create_default_context()

    def _write_provider(self) -> None:
        provider = self.folder / "provider"
        provider.mkdir()
        authority = trustme.CA()
        certificate = authority.issue_cert("upstream")
        certificate.private_key_pem.write_to_path(provider / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(provider / "cert.pem")
        authority.cert_pem.write_to_path(provider / "ca.pem")
        (provider / "Caddyfile").write_text(PROVIDER)
        (self.folder / "compose.upstream.yaml").write_text(UPSTREAM)

    # -- as an operator ----------------------------------------------------------------------------------------

    def compose(self, *arguments: str, exit_code: int | None = 0) -> str:
        """What a command of docker compose prints on stdout."""
        named = [word for file in FILES for word in ("-f", file)]
        done = subprocess.run(
            [str(DOCKER_COMPOSE), *named, *arguments],
            cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert exit_code in {None, done.returncode}, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", *SERVICES)
        # Caddy's own authority, which it has for localhost, and nobody else
        authority = self.compose("exec", "-T", "caddy", "cat", "/data/caddy/pki/authorities/local/root.crt")
        self._trust = ssl.create_default_context(cadata=authority)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1")

    def containers(self, service: str = "") -> dict[str, str]:
        """Id by name, of those that run and those that do not."""
        listed = self.compose("ps", "--all", "--format", "json", *filter(None, [service])).splitlines()
        return {found["Name"]: found["ID"] for found in map(json.loads, listed)}

    def exec(self, *command: str, index: int = 1) -> str:
        return self.compose("exec", "-T", "--index", str(index), "weighbridge", *command)

    def new_key(self, client: str, index: int = 1) -> str:
        """Made in one of the replicas."""
        made = self.exec("weighbridge", "keys", "create", client, "--json", index=index)
        key: str = json.loads(made)["key"]
        return key

    def records(self, client: str) -> list[dict[str, Any]]:
        command = ("weighbridge", "usage", "--by", "request", "--client", client, "--json")
        return [json.loads(line) for line in self.exec(*command).splitlines()]

    def metrics(self, index: int) -> str:
        """Of one replica, asked in its container."""
        return self.exec("python", "-c", METRICS, index=index)

    def kill(self, container: str) -> None:
        """SIGKILL for its first process, past the engine: to that it is a crash, after which it starts it anew."""
        pid = inspected("container", container)["State"]["Pid"]
        killer = ("--pid", "host", "--user", "0", "--entrypoint", "python", self._image)
        docker("run", "--rm", *killer, "-c", f"import os; os.kill({pid}, 9)")

    def port(self, service: str, port: int) -> int:
        return int(self.compose("port", service, str(port)).rpartition(":")[2])

    def prometheus(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        address = f"http://127.0.0.1:{self.port('prometheus', 9090)}/api/v1/{path}?{urlencode(query)}"
        with urlopen(address, timeout=20) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float:
        """What PromQL makes one number of; 0 while there is none."""
        found = self.prometheus("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else 0.0

    # -- as a client -------------------------------------------------------------------------------------------

    def sdk(self, key: str) -> openai.OpenAI:
        address = f"https://localhost:{self.port('caddy', 443)}/api/v1"
        return openai.OpenAI(base_url=address, api_key=key, http_client=openai.DefaultHttpxClient(verify=self._trust))

    @contextlib.contextmanager
    def calling(self, key: str, asked: Mapping[str, Any], port: int) -> Iterator[OpenCall]:
        """An open call through Caddy, which listens on `port`; leaving the block hangs up."""
        connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=self._trust)
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        try:
            connection.request("POST", "/v1/responses", encoded(asked), headers)
            with contextlib.closing(connection.getresponse()) as response:
                yield OpenCall(response, connection.close)
        finally:
            connection.close()
