"""What lies in deploy/, read and rendered with the tools that users have: Helm, kubectl, docker compose, systemd."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/weighbridge"
KUBERNETES_VERSIONS = ("1.30", "1.34", "1.37")
Document = dict[str, Any]
DOCKER_COMPOSE = Path(sysconfig.get_path("purelib"), "compose/docker-compose")
"""Itself: the wheel's wrapper exits with 0 whatever happens."""

SINGLE: Document = {"secret": {"existing": "keys"}}
CLUSTER: Document = {
    "secret": {"existing": "keys"},
    "replicas": 3,
    "shared": {"database": True, "redis": True, "adminKey": True},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
    "networkPolicy": {"from": [{"namespaceSelector": {}}]},
    "serviceMonitor": {"enabled": True},
    "allowedHosts": ["llm.example.com"],
    "config": '[log]\nlevel = "info"\n',
}
SCALED: Document = {**CLUSTER, "autoscaling": {"enabled": True}}
TRIED_OUT: Document = {"secret": {"upstreamKey": "sk-or-v1-try"}, "upstreamUrl": "https://api.openai.com/v1"}
CHARTS = {"single": SINGLE, "cluster": CLUSTER, "scaled": SCALED, "tried out": TRIED_OUT}
OVERLAYS = ("base", "overlays/single", "overlays/cluster")


def tool(name: str, *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """What a tool of the environment prints on stdout; it must exit with 0."""
    program = DOCKER_COMPOSE if name == "docker-compose" else Path(sys.executable).with_name(name)
    command = [str(program), *arguments]
    given = None if env is None else dict(env)
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=cwd, env=given)
    assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def chart(values: Document, release: str = "wb") -> list[Document]:
    """The chart as Helm renders it with these values; they are checked against the schema first."""
    with helm_python.Chart.load(str(CHART)) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name=release, namespace="team")
    return [found for name, text in rendered.items() if name.endswith(".yaml") for found in documents(text)]


def overlay(name: str) -> list[Document]:
    """A folder of deploy/kustomize as kubectl renders it."""
    return documents(tool("kubectl", "kustomize", str(DEPLOY / "kustomize" / name)))


def compose(folder: Path, *files: str) -> Document:
    """The compose files on top of each other, as docker compose reads them; `folder` is where they lie."""
    named = [word for file in files for word in ("-f", file)]
    config: Document = json.loads(tool("docker-compose", *named, "config", "--format", "json", cwd=folder, env={}))
    return config


def one(kind: str, found: Sequence[Document]) -> Document:
    (document,) = [document for document in found if document["kind"] == kind]
    return document


def containers(found: Sequence[Document]) -> Iterator[Document]:
    """Every container of every pod that the documents ask for."""
    for document in found:
        if document["kind"] in {"Deployment", "Job"}:
            yield from document["spec"]["template"]["spec"]["containers"]
