"""Every setting, port, path, metric, label and file that deploy/ names is one of the program's."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.settings.environment import (
    ADMIN_KEY_VARIABLE,
    CONFIG_VARIABLE,
    FILE_VARIABLES,
    UPSTREAM_KEY_VARIABLES,
    VARIABLES,
)
from app.settings.model import ServerSettings
from app.telemetry.labels import OUTCOMES, ROUTES, reasons
from tests.conftest import GatewayStarter
from tests.deploy.manifests import CHARTS, DEPLOY, OVERLAYS, ROOT, chart, containers, one, overlay
from tests.e2e.program import Gateway

FILES = sorted(path for path in [*DEPLOY.rglob("*"), ROOT / "Dockerfile"] if path.is_file() and path.suffix != ".pyc")
SETTINGS = {*VARIABLES, *UPSTREAM_KEY_VARIABLES, ADMIN_KEY_VARIABLE, *FILE_VARIABLES, CONFIG_VARIABLE}
SETTING = re.compile(r"\b(?:WEIGHBRIDGE|OPENROUTER)_[A-Z_]*[A-Z]\b")
METRIC = re.compile(r"\b(?:weighbridge|process)_[a-z_]+\b")
MATCHER = re.compile(r"\b(outcome|reason|kind|route|state)\s*(?:=~?|!=~?)\s*\\?\"([^\"\\]*)")
LABELS = {
    "outcome": set(OUTCOMES),
    "reason": set(reasons()),
    "route": set(ROUTES),
    "kind": {"input", "cached_input", "cache_write", "output", "reasoning"},
}
PORT = ServerSettings.model_fields["port"].default


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def expressions() -> Iterator[str]:
    """Every PromQL expression of the rules and the dashboard."""
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
    dashboard = json.loads((DEPLOY / "grafana/dashboards/weighbridge.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
    yield from (v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query")


@pytest.fixture
def exposed(start_gateway: GatewayStarter) -> set[str]:
    """The names of all samples that /metrics can show: counters and histograms with no value yet among them."""
    names = set()
    shared = start_gateway(WEIGHBRIDGE_REDIS_URL="redis://127.0.0.1:1/0")  # some are there with a Redis only
    for family in text_string_to_metric_families(shared.get("/metrics").body.decode()):
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + ending for ending in endings}
    return names


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_settings(path: Path) -> None:
    assert set(SETTING.findall(path.read_text(encoding="utf-8"))) <= SETTINGS


def test_settings_are_named_at_all() -> None:
    used = {name for path in FILES for name in SETTING.findall(path.read_text(encoding="utf-8"))}
    assert {"WEIGHBRIDGE_ALLOWED_HOSTS", "OPENROUTER_API_KEY_FILE", "WEIGHBRIDGE_DATABASE_URL_FILE"} <= used


def test_metrics(exposed: set[str]) -> None:
    named = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(named) > 15
    assert named - exposed == set()


def test_values_of_labels() -> None:
    found = [match for expression in expressions() for match in MATCHER.findall(expression)]
    assert len(found) > 5
    named = {(label, value) for label, values in found for value in values.split("|")}
    assert {(label, value) for label, value in named if value not in LABELS[label]} == set()


def test_every_rule_has_a_severity_a_summary_and_a_line_in_the_docs() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in page


def test_ports() -> None:
    for name in CHARTS:
        for container in containers(chart(CHARTS[name])):
            assert [port["containerPort"] for port in container.get("ports", [])] in ([PORT], [])
    for name in OVERLAYS:
        for container in containers(overlay(name)):
            assert [port["containerPort"] for port in container["ports"]] == [PORT]
    texts = {relative(path): path.read_text() for path in FILES}
    assert f"EXPOSE {PORT}" in texts["Dockerfile"]
    assert f"port: {PORT}" in texts["deploy/prometheus/prometheus.yml"]
    for proxy in ("deploy/proxy/nginx.conf", "deploy/proxy/Caddyfile"):
        assert re.findall(r"127\.0\.0\.1\D{0,40}?(\d{4,5})", texts[proxy]) == [str(PORT)]


def test_paths(gateway: Gateway) -> None:
    """Those that something asks for. What is not a route answers 404 to whoever may ask at all."""
    asked = set()
    for found in [*map(chart, CHARTS.values()), *map(overlay, OVERLAYS)]:
        for container in containers(found):
            asked |= {p["httpGet"]["path"] for kind, p in container.items() if kind.endswith("Probe")}
        asked |= {e["path"] for d in found if d["kind"] == "ServiceMonitor" for e in d["spec"]["endpoints"]}
    assert asked == {"/healthz", "/readyz", "/metrics"}
    assert {gateway.get(path).status for path in asked} == {200}
    (rule,) = one("Ingress", chart(CHARTS["cluster"]))["spec"]["rules"]
    bases = [path["path"] for path in rule["http"]["paths"]]
    assert bases
    assert {gateway.get(f"{base}/key", gateway.key).status for base in bases} == {200}


def test_the_files_of_the_state_directory(gateway: Gateway) -> None:
    named = set(re.findall(r'"([a-z.-]+\.(?:json|sock|db))"', (DEPLOY / "docker/healthcheck.py").read_text()))
    assert named == {"server.json"}
    assert all((gateway.state_dir / name).exists() for name in named)
