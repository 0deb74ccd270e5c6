"""Each alert rule fires on its fault and is quiet when something less happens: judged by promtool."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.containers import docker
from tests.deploy.manifests import DEPLOY
from tests.deploy.stand_ins import given, taken

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

PROMETHEUS = "prom/prometheus:v3.5.0"
RULES = DEPLOY / "prometheus/alerts.yml"
Series = Mapping[str, str]
A = 'instance="a"'


def of(name: str, values: str, labels: str = "") -> Series:
    return {f"weighbridge_{name}{{{','.join(filter(None, (A, labels)))}}}": values}


def of_refusals(reason: str, values: str) -> Series:
    return of("refusals_total", values, f'reason="{reason}"')


def of_calls(outcome: str, values: str) -> Series:
    return of("requests_total", values, f'outcome="{outcome}"')


def of_histogram(name: str, until_100_ms: str, until_400_ms: str) -> Series:
    """So many a minute, and all of them within 400 ms."""
    buckets = (("0.1", until_100_ms), ("0.4", until_400_ms), ("+Inf", until_400_ms))
    return {key: text for le, values in buckets for key, text in of(f"{name}_bucket", values, f'le="{le}"').items()}


@dataclass(frozen=True)
class Case:
    """Series of one sample a minute, as promtool writes them. At `at` the alert fires on `fault` and on no `quiet`."""

    alert: str
    at: str
    fault: Series
    quiet: tuple[Series, ...]
    summary: str
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=lambda: {"instance": "a"})
    judged_every: str = "1m"


CASES = (
    Case(
        "WeighbridgeDown", "5m", {'up{job="weighbridge",instance="a"}': "1 1 0x10"},
        ({'up{job="weighbridge",instance="a"}': "1 0 1x10"}, {'up{job="other",instance="a"}': "0x10"}),
        "a does not answer", "critical", {"instance": "a", "job": "weighbridge"},
    ),
    Case(
        "WeighbridgeRecordsLost", "8m", of("ledger_dropped_total", "0x5 3x10"), (of("ledger_dropped_total", "3x20"),),
        "a lost records for good: neither database nor spool could be written", "critical",
    ),
    Case(
        "WeighbridgeRecordsAtRisk", "5m", of("ledger_keeps", "1x3 0x10"), (of("ledger_keeps", "1x20"),),
        "a can write neither its database nor its spool; new records are in memory only", "critical",
    ),
    Case(
        "WeighbridgeLedgerBehind", "5m", of("ledger_queue_depth", "0 2000x10"),
        (of("ledger_queue_depth", "0 0 0 0 2000 2000 0x10"), of("ledger_queue_depth", "900x20")),
        "2000 records of a wait for the database", "critical",
    ),
    Case(
        "WeighbridgeLedgerSpooling", "12m", of("ledger_spooled_total", "0x4 7x20"),
        (of("ledger_spooled_total", "7x20"),),
        "The database does not take the records of a; they go to its spool",
    ),
    Case(
        "WeighbridgeSlowCommits", "20m", of_histogram("ledger_commit_seconds", "0x30", "0+60x30"),
        (of_histogram("ledger_commit_seconds", "0+60x30", "0+60x30"),),
        "Commits of a take 397ms, and the end of every answer waits for one",
    ),
    Case(
        "WeighbridgeUpstreamFailing", "12m", {**of_calls("timeout", "0+6x30"), **of_calls("completed", "0+60x30")},
        (
            {**of_calls("timeout", "0+3x30"), **of_calls("completed", "0+60x30")},
            {**of_calls("rejected", "0+60x30"), **of_calls("completed", "0+60x30")},
        ),
        "More than 5 % of the calls fail upstream", labels={},
    ),
    Case(
        "WeighbridgeUpstreamKeyRefused", "6m", of_refusals("upstream_auth", "0x3 1x10"),
        (of_refusals("upstream_auth", "1x20"), of_refusals("authentication", "0+1x20")),
        "Upstream refuses the server's key", "critical", {},
    ),
    Case(
        "WeighbridgeTurningAway", "12m", of_refusals("overloaded", "0+1x20"), (of_refusals("overloaded", "0x3 1x20"),),
        "a has as many calls as it may and refuses more",
    ),
    Case(
        "WeighbridgeEventLoopLate", "15m", of_histogram("event_loop_lag_seconds", "0x30", "0+60x30"),
        (of_histogram("event_loop_lag_seconds", "0+60x30", "0+60x30"),),
        "a is short of CPU: its timers fire 397ms late",
    ),
    Case(
        "WeighbridgeKeyGuessing", "20m", of_refusals("authentication", "0+120x30"),
        (of_refusals("authentication", "0+50x30"), of_refusals("not_found", "0+120x30")),
        "More than one call a second comes with a key that is not one", labels={},
    ),
    Case(
        "WeighbridgeUnsettled", "40m", of("unsettled_records", "150x60"), (of("unsettled_records", "150x20 0x40"),),
        "Upstream's books have not told the usage of 150 calls of a",
    ),
    Case(
        "WeighbridgeUnsettledGrowing", "75m", of("unsettled_records", "20+1x120"),
        (of("unsettled_records", "60x120"), of("unsettled_records", "0+0.1x120"), of("unsettled_records", "200-1x120")),
        "More calls of a end without a usage than upstream's books tell of",
    ),
    Case(
        "WeighbridgeLimitsRefuse", "40m",
        {
            **of_refusals("rate_limited", "0+10x60"),
            **of_calls("completed", "0+20x60"),
            **of_calls("rejected", "0+90x60"),
        },
        (
            {**of_refusals("rate_limited", "0+3x60"), **of_calls("completed", "0+20x60")},
            {**of_refusals("insufficient_quota", "0+1x60"), **of_calls("completed", "0x60")},
            {**of_refusals("overloaded", "0+10x60"), **of_calls("completed", "0+20x60")},
        ),
        "Limits refuse a fifth as many calls as are served, or more (rate_limited)", labels={"reason": "rate_limited"},
    ),
    Case(
        "WeighbridgeLimiterAway", "12m", of("limiter_errors_total", "0+30x30", 'kind="connect"'),
        (of("limiter_errors_total", "0x8 1x30", 'kind="timeout"'),),
        "a keeps losing Redis, which holds the limits of all replicas",
    ),
    Case(
        "WeighbridgeLimitsUnjudged", "5m", of("limiter_unjudged_total", "0x3 4x30", 'result="admitted"'),
        (of("limiter_unjudged_total", "4x30", 'result="admitted"'),),
        "Without Redis 4 calls of limited clients were admitted by a", "critical",
        {"instance": "a", "result": "admitted"},
    ),
    Case(
        "WeighbridgeMeterBlind", "9m", of("meter_failures_total", "0x5 1x10"), (of("meter_failures_total", "1x20"),),
        "a passed answers on that it could not read: their usage is unknown",
    ),
    Case(
        "WeighbridgeSpendingJumped", "1500m", of("cost_usd_total", "0+0.01x1440 15.4+1x60"),
        (
            of("cost_usd_total", "0+1x1500"),
            of("cost_usd_total", "0+0.001x1440 1.6+0.1x60"),  # six dollars
            of("cost_usd_total", "_x1430 0+1x70"),  # the first hour of its life
        ),
        "60 US dollars in the last hour, over five times the mean of the day before", labels={}, judged_every="30m",
    ),
)  # fmt: skip


def trials(cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """As promtool reads them."""
    for case in cases:
        labels = {**case.labels, "severity": case.severity}
        firing = [{"exp_labels": labels, "exp_annotations": {"summary": case.summary}}]
        for series, expected in [(case.fault, firing), *((quiet, []) for quiet in case.quiet)]:
            yield {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}],
            }


def write(path: Path, cases: Sequence[Case], interval: str) -> None:
    content = {"rule_files": ["alerts.yml"], "evaluation_interval": interval, "tests": list(trials(cases))}
    path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def prometheus() -> Iterator[str]:
    stand_in = given(PROMETHEUS)
    yield PROMETHEUS
    if stand_in:
        taken(PROMETHEUS)


def promtool(folder: Path, *arguments: str, exit_code: int | None = 0) -> str:
    folder.chmod(0o755)
    mounted = ("-v", f"{folder}:/work:ro", "-w", "/work", "--network", "none", "--entrypoint", "promtool")
    done = docker("run", "--rm", *mounted, PROMETHEUS, *arguments, exit_code=exit_code, seconds=120)
    return done.stdout + done.stderr


def test_every_rule_is_tried_on_its_fault_and_on_less() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert [case.alert for case in CASES] == [rule["alert"] for rule in group["rules"]]
    assert all(case.quiet for case in CASES)


def test_the_rules_fire_on_faults_and_on_nothing_else(prometheus: str, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    files = []
    for interval in sorted({case.judged_every for case in CASES}):
        files.append(f"every-{interval}.yml")
        write(tmp_path / files[-1], [case for case in CASES if case.judged_every == interval], interval)
    assert "SUCCESS" in promtool(tmp_path, "check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", *files)


def test_promtool_would_see_a_rule_that_never_fires(prometheus: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(RULES.read_text().replace("> 1000", "> 5000"))
    write(tmp_path / "test.yml", [case for case in CASES if case.alert == "WeighbridgeLedgerBehind"], "1m")
    assert "WeighbridgeLedgerBehind" in promtool(tmp_path, "test", "rules", "test.yml", exit_code=1)
