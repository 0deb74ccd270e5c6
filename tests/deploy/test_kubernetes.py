"""The Helm chart and the Kustomize folders: valid for Kubernetes, and saying the same of what matters."""

import re
from pathlib import Path

import helm_python
import pytest
import yaml

from app import __version__
from tests.deploy.manifests import (
    CHART,
    CHARTS,
    CLUSTER,
    KUBERNETES_VERSIONS,
    OVERLAYS,
    SCALED,
    SINGLE,
    Document,
    chart,
    containers,
    one,
    overlay,
    tool,
)

RENDERINGS = {**{name: (chart, values) for name, values in CHARTS.items()}, **{n: (overlay, n) for n in OVERLAYS}}
PRODUCTION = [name for name in RENDERINGS if name != "tried out"]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Document]]:
    return {name: render(given) for name, (render, given) in RENDERINGS.items()}  # type: ignore[operator]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_takes_every_document(rendered: dict[str, list[Document]], version: str, tmp_path: Path) -> None:
    known = [d for found in rendered.values() for d in found if not d["apiVersion"].startswith("monitoring.coreos.com")]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(known))
    tool("kubernetes-validate", "--strict", "--kubernetes-version", version, str(file))
    assert len(known) > 30


def test_the_check_sees_a_mistake(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": 1}}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(service))
    with pytest.raises(AssertionError, match="port"):
        tool("kubernetes-validate", "--strict", str(tmp_path / "bad.yaml"))


def test_helm_finds_nothing_wrong() -> None:
    messages = helm_python.lint(str(CHART))["messages"]
    assert [message for message in messages if "icon" not in message["error"]] == []


@pytest.mark.parametrize("name", RENDERINGS)
def test_every_pod_may_do_little(rendered: dict[str, list[Document]], name: str) -> None:
    pods = [d["spec"]["template"]["spec"] for d in rendered[name] if d["kind"] in {"Deployment", "Job"}]
    for pod in pods:
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 10001, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
    for container in containers(rendered[name]):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        named = {e["name"] for e in container["env"] if e["name"].endswith(("_KEY", "_URL"))}
        assert named <= {"WEIGHBRIDGE_UPSTREAM_URL", "WEIGHBRIDGE_PUBLIC_URL"}


@pytest.mark.parametrize("name", RENDERINGS)
def test_there_is_time_to_drain(rendered: dict[str, list[Document]], name: str) -> None:
    pod = one("Deployment", rendered[name])["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (drain,) = [float(e["value"]) for e in container["env"] if e["name"] == "WEIGHBRIDGE_DRAIN_TIMEOUT"]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= asleep + drain + 5


@pytest.mark.parametrize("name", RENDERINGS)
def test_sqlite_has_one_writer_and_a_volume_and_replicas_have_neither(
    rendered: dict[str, list[Document]], name: str
) -> None:
    found = rendered[name]
    deployment = one("Deployment", found)["spec"]
    (data,) = [v for v in deployment["template"]["spec"]["volumes"] if v["name"] == "data"]
    env = {e["name"] for e in deployment["template"]["spec"]["containers"][0]["env"]}
    if name in {"cluster", "scaled", "overlays/cluster"}:
        assert deployment["strategy"]["type"] == "RollingUpdate"
        assert data == {"name": "data", "emptyDir": {}}
        assert {"WEIGHBRIDGE_DATABASE_URL_FILE", "WEIGHBRIDGE_REDIS_URL_FILE", "WEIGHBRIDGE_ADMIN_KEY_FILE"} <= env
        assert one("PodDisruptionBudget", found)["spec"]["maxUnavailable"] == 1
        assert not [d for d in found if d["kind"] == "PersistentVolumeClaim"]
    else:
        assert deployment["strategy"] == {"type": "Recreate"}
        assert deployment["replicas"] == 1
        claim = one("PersistentVolumeClaim", found)
        assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize("name", RENDERINGS)
def test_selectors_find_the_pods_of_the_deployment_alone(rendered: dict[str, list[Document]], name: str) -> None:
    found = rendered[name]
    deployment = one("Deployment", found)
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    job_labels = [d["spec"]["template"]["metadata"]["labels"].items() for d in found if d["kind"] == "Job"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], one("Service", found)["spec"]["selector"]]
    selectors += [d["spec"]["podSelector"]["matchLabels"] for d in found if d["kind"] == "NetworkPolicy"]
    selectors += [d["spec"]["selector"]["matchLabels"] for d in found if d["kind"] == "PodDisruptionBudget"]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
        assert not any(selector.items() <= other for other in job_labels)


def test_the_cluster_is_upgraded_watched_and_scaled(rendered: dict[str, list[Document]]) -> None:
    job = one("Job", rendered["cluster"])
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert [c["args"] for c in containers([job])] == [["db", "upgrade"]]
    (endpoint,) = one("ServiceMonitor", rendered["cluster"])["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "keys", "key": "admin-key"}
    assert "replicas" not in one("Deployment", rendered["scaled"])["spec"]
    (metric,) = one("HorizontalPodAutoscaler", rendered["scaled"])["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "weighbridge_streams_in_flight"


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (SINGLE, "http://wb-weighbridge.team:8787"),
        (CLUSTER, "https://gateway.example.com"),
        ({**SINGLE, "ingress": {"enabled": True, "host": "wb.example.com"}}, "http://wb.example.com"),
    ],
    ids=["service", "tls", "plain"],
)
def test_the_first_words_name_the_address_that_clients_use(values: Document, address: str) -> None:
    (container,) = containers([one("Deployment", chart(values))])
    assert {"name": "WEIGHBRIDGE_PUBLIC_URL", "value": address} in container["env"]


@pytest.mark.parametrize(
    "release", ["wb", "a" * 53, "weighbridge-of-the-team-that-has-the-longest-name-of-all", "a" * 40]
)
def test_every_name_is_one_that_kubernetes_takes(release: str) -> None:
    names = [document["metadata"]["name"] for document in chart(CLUSTER, release)]
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9-]{0,61}[a-z0-9]", name)] == []
    assert [name for name in names if not name.startswith(release[:40])] == []


def test_the_chart_is_of_this_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == __version__


@pytest.mark.parametrize(
    "wrong",
    [
        {**SINGLE, "replicas": 2},
        {**SINGLE, "autoscaling": {"enabled": True}},
        {**SINGLE, "serviceMonitor": {"enabled": True}},
        {"shared": {"database": True}},
        {**SINGLE, "replica": 1},
        {**SINGLE, "upstreamUrl": "http://api.example.com"},
        {**CLUSTER, "allowedHosts": ["https://llm.example.com"]},
        {**SCALED, "service": {"port": 0}},
        {**SINGLE, "networkPolicy": {"egressPorts": []}},  # an empty list of ports would open all of them
    ],
    ids=str,
)
def test_values_that_cannot_work_are_refused(wrong: Document) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        chart(wrong)


def test_without_a_key_the_chart_says_what_to_give() -> None:
    with pytest.raises(helm_python.HelmRenderError, match=r"secret\.existing"):
        chart({})
