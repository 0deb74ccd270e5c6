"""compose.monitoring.yaml, up for real: Prometheus finds both replicas, takes the rules, and fills every panel.

Grafana is not among it: no registry, and nothing here that it could be made of. What it would ask is asked instead.
"""

import json
import re
from collections.abc import Iterator

import openai
import pytest
import yaml

from tests.deploy.manifests import DEPLOY
from tests.deploy.stack import Stack
from tests.e2e.program import eventually

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

VARIABLES = {"$__rate_interval": "2m", "$instance": ".*", "${datasource}": "prometheus"}


def queries() -> Iterator[tuple[str, str]]:
    """Title and PromQL of everything the dashboard asks."""
    dashboard = json.loads((DEPLOY / "grafana/dashboards/weighbridge.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query: str = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


@pytest.fixture(scope="module")
def watched(stack: Stack) -> Stack:
    """After calls that were served, and some that a limit refused, have been seen by Prometheus."""
    key = stack.new_key("watched")
    with stack.sdk(key) as client:
        for _ in range(5):
            client.responses.create(model="openai/gpt-5.1", input="Say hello.")
    stack.exec("weighbridge", "clients", "set", "watched", "--rpm", "1")
    with stack.sdk(key).with_options(max_retries=0) as client:
        client.responses.create(model="openai/gpt-5.1", input="Say hello.")
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="openai/gpt-5.1", input="Say hello.")
    eventually(
        lambda: stack.value('sum(increase(weighbridge_refusals_total{reason="rate_limited"}[2m]))') > 0,
        "the refusal in Prometheus",
    )
    return stack


def test_both_replicas_are_found_and_scraped_with_the_admin_key(watched: Stack) -> None:
    def states() -> list[tuple[str, str]]:
        targets = watched.prometheus("targets", state="active")["activeTargets"]
        return [(target["health"], target["lastError"]) for target in targets]

    assert eventually(lambda: states() == [("up", "")] * 2, "both replicas")


def test_configuration_and_rules_are_taken(watched: Stack) -> None:
    checked = watched.compose(
        "exec", "-T", "prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml"
    )
    assert "SUCCESS" in checked
    named = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    (group,) = eventually(lambda: watched.prometheus("rules")["groups"], "the rules")
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in named]

    def judged() -> bool:
        (group,) = watched.prometheus("rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
        return {rule["health"] for rule in group["rules"]} == {"ok"}

    assert eventually(judged, "the first judgement of all rules")


@pytest.mark.parametrize(("title", "query"), list(queries()), ids=lambda text: re.sub(r"\W+", "-", text)[:60])
def test_every_panel_shows_something(watched: Stack, title: str, query: str) -> None:
    found = watched.prometheus("query", query=query)["result"]
    assert found
    assert [series for series in found if series["value"][1] == "NaN"] == []


def test_the_data_source_is_where_prometheus_is(watched: Stack) -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    asked = f"import urllib.request as u; print(u.urlopen('{source['url']}/api/v1/status/buildinfo').status)"
    assert watched.exec("python", "-c", asked) == "200\n"


def test_an_alert_fires_when_limits_cannot_be_judged_and_all_recovers(watched: Stack) -> None:
    key = watched.new_key("budgeted")
    watched.exec("weighbridge", "clients", "set", "budgeted", "--budget-usd", "5/day")
    with watched.sdk(key).with_options(max_retries=0) as client:

        def served() -> bool:
            try:
                return bool(client.responses.create(model="openai/gpt-5.1", input="Say hello.").output_text)
            except openai.InternalServerError:
                return False

        assert eventually(served, "an answer")
        watched.compose("stop", "valkey")
        eventually(lambda: not served(), "a refusal")
        alerts = 'ALERTS{alertname="WeighbridgeLimitsUnjudged",alertstate="firing",result="refused"}'
        assert eventually(lambda: watched.value(alerts) == 1, "the alert")
        watched.compose("start", "valkey")
        assert eventually(served, "an answer")
