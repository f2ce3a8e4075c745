"""What operators start from: Grafana's queries name metrics that exist, the Kubernetes example fits schema and server."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from stimcore.serve import __main__ as serve
from stimcore.serve.http.middleware import OPEN_PATHS
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import Metrics
from stimcore.serve.tokens import ADMIN_VARIABLE, READ_VARIABLE
from stimcore.serve.types import JobState
from tests.serve.gauges import idle

ROOT = Path(__file__).parents[1]
GRAFANA = json.loads((ROOT / "deploy" / "grafana" / "stimcore.json").read_text(encoding="utf-8"))
KUBERNETES = ROOT / "deploy" / "kubernetes" / "stimcore.yaml"
CACHES = ("statistics_bytes", "statistics_hits", "statistics_misses")
"""As engines name what they keep."""
TEMPLATE = {"job", "instance"}
"""Labels that Prometheus itself adds."""


def exposed() -> dict[str, set[str]]:
    """The names of all samples that a server has after every kind of event, with the names of their labels."""
    metrics = Metrics(model_labels=5)
    metrics.requests.labels("/v2", "200").inc()
    metrics.seconds.labels("/v2").observe(0.1)
    metrics.refused.labels("busy").inc()
    metrics.inferences.labels("tiny.common", "done").inc()
    metrics.images.labels("tiny.common").inc()
    metrics.infer_seconds.observe(0.1)
    samples: dict[str, set[str]] = {}
    for line in metrics.text(idle(dict.fromkeys(CACHES, 1.0))).decode().splitlines():
        if match := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            samples.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return {name: labels for name, labels in samples.items() if not name.endswith("_created")}


def expressions() -> list[str]:
    return [target["expr"] for panel in GRAFANA["panels"] for target in panel["targets"]]


def test_every_query_names_metrics_and_labels_that_the_server_has() -> None:
    samples = exposed()
    used = set()
    for expression in expressions():
        for name, selectors in re.findall(r"\b(stim_\w+)(?:\{([^}]*)\})?", expression):
            assert name in samples, f"{name} in {expression}"
            used.add(name)
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) <= samples[name] | TEMPLATE, expression
        names = re.findall(r"\b(stim_\w+)", expression)
        grouped = {label for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.replace(" ", "").split(",")}
        assert grouped <= set.union(*(samples[name] for name in names)) | TEMPLATE, expression
        for name in names:
            if name.endswith(("_total", "_bucket")):
                assert re.search(rf"(rate|increase)\({name}\b", expression), f"a counter without a rate: {expression}"
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in samples}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used} == families, "metrics that no panel shows"


def test_labels_have_the_values_that_queries_ask_for() -> None:
    for expression in expressions():
        for states in re.findall(r'state=~"([^"]*)"', expression):
            assert set(states.split("|")) <= set(get_args(JobState))
        for what in re.findall(r'what="([^"]*)"', expression):
            assert any(name.endswith(f"_{what}") for name in CACHES), expression


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert GRAFANA["uid"]
    assert GRAFANA["schemaVersion"] >= 36
    assert {variable["name"] for variable in GRAFANA["templating"]["list"]} == {"datasource", "job"}
    panels = GRAFANA["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & covered, panel["title"]
        covered |= cells
        assert panel["datasource"]["uid"] == "${datasource}", "no data source of somebody else's installation"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return {value["kind"]: value for value in yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))}


def test_kubernetes_resources_fit_their_schema(resources: dict[str, Any]) -> None:
    import kubernetes_validate  # it builds grammars for a second: not when every process collects the tests

    assert set(resources) == {"Deployment", "Service"}
    for value in resources.values():
        kubernetes_validate.validate(value, kubernetes_validate.latest_version(), strict=True)


def test_the_deployment_is_confined_and_bounded(resources: dict[str, Any]) -> None:
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert pod["terminationGracePeriodSeconds"] > Limits().drain_s + 2
    names = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == names
    assert all(mounts[name]["readOnly"] for name in names - {"tmp"})


def test_the_deployment_starts_the_server_that_there_is(resources: dict[str, Any]) -> None:
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = serve.parser().parse_args(container["args"][3:])
    limits = Limits().with_texts(options.limit)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options.port, "metrics": options.metrics_port}
    assert options.threads == int(container["resources"]["limits"]["cpu"])
    assert limits.keep_bytes < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS, "probes carry no token"
        assert container[probe]["httpGet"]["port"] == "http"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= limits.start_s
    assert {entry["name"] for entry in container["env"]} == {f"{ADMIN_VARIABLE}_FILE", f"{READ_VARIABLE}_FILE"}
    service, labels = resources["Service"]["spec"], resources["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] in ports
    assert resources["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])


def test_what_is_unproven_says_so() -> None:
    assert "Unproven: no cluster ran this" in KUBERNETES.read_text(encoding="utf-8")
