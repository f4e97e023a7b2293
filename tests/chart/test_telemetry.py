"""What the chart brings for Prometheus and Grafana, and what it tells OpenTelemetry."""

import json
import tarfile

import pytest
import yaml
from conftest import CHART, CHART_LOADED, PROJECT, environment, render

KINDS = ("PodMonitor", "ServiceMonitor", "PrometheusRule")
ALERTS = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yaml").read_text())
ALL = {
    "proxy": {"enabled": True, "upstreams": ["a"]},
    "syncPuller": {"enabled": True, "sync_address": ["b"]},
}


def switched(kind, enabled):
    return {"metrics": {kind[0].lower() + kind[1:]: {"enabled": enabled}}}


def traced(**otel):
    return {**ALL, "otel": {"endpoint": "http://collector.example:4318", **otel}}


def told(values):
    """The variables of each component, by its name."""
    return {name: environment(pod["containers"][0]) for name, _, pod in render(values).pods()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_the_operator_is_there_when_asked_for_or_where_it_is_known(kind):
    known = [f"monitoring.coreos.com/v1/{kind}"]
    assert render(kinds=known).of(kind) == []
    assert render(switched(kind, "auto")).of(kind) == []
    assert len(render(switched(kind, "auto"), kinds=known).of(kind)) == 1
    assert len(render(switched(kind, True)).of(kind)) == 1


def test_nothing_of_it_is_there_by_itself():
    manifests = render(ALL)
    assert manifests.of(*KINDS) == [] and not any("dashboards" in m["metadata"]["name"] for m in manifests)
    for variables in told(ALL).values():
        assert not any(name.startswith(("OTEL_", "K8S_")) for name in variables)


def test_a_service_monitor_finds_every_component():
    manifests = render({**ALL, **switched("ServiceMonitor", True)})
    (port,) = [one["port"] for one in manifests.one("ServiceMonitor")["spec"]["endpoints"]]
    with_it = [m for m in manifests.of("Service") if port in [one["name"] for one in m["spec"]["ports"]]]
    components = {m["metadata"]["labels"]["app.kubernetes.io/component"] for m in with_it}
    assert components == {"receiver", "proxy", "sync-puller"}
    # One that is not ready has most to tell.
    assert all(m["spec"]["publishNotReadyAddresses"] for m in with_it)


def test_the_alerts_are_those_of_deploy():
    assert render(switched("PrometheusRule", True)).one("PrometheusRule")["spec"] == ALERTS


def test_alerts_can_be_left_out_labelled_and_lead_elsewhere():
    page = "https://wiki.example/tentacle"
    given = {"enabled": True, "disabled": ["TentacleFlushSlow"], "alertLabels": {"team": "a"}, "runbook": page}
    rules = render({"metrics": {"prometheusRule": given}}).one("PrometheusRule")["spec"]["groups"][0]["rules"]
    assert {rule["alert"] for rule in ALERTS["groups"][0]["rules"]} - {rule["alert"] for rule in rules} == {"TentacleFlushSlow"}
    for rule in rules:
        assert rule["labels"]["team"] == "a" and rule["labels"]["severity"]
        assert rule["annotations"]["runbook_url"].startswith(f"{page}#tentacle")


def test_the_dashboards_are_those_of_deploy():
    config = render({"metrics": {"dashboards": {"enabled": True}}}).one("ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    boards = {name.removeprefix("tentacle-"): json.loads(text) for name, text in config["data"].items()}
    assert boards == {path.name: json.loads(path.read_text()) for path in (PROJECT / "deploy" / "grafana").glob("*.json")}
    # What a ConfigMap and a release can hold.
    assert sum(map(len, config["data"].values())) < 500_000


def test_a_package_holds_them(tmp_path):
    with tarfile.open(CHART_LOADED.save(tmp_path)) as package:
        names = package.getnames()
    for path in (CHART / "files").rglob("*.*"):
        assert f"tentacle/{path.relative_to(CHART)}" in names


def test_each_component_is_traced_and_says_where_it_runs():
    for name, variables in told(traced()).items():
        assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.example:4318"
        assert variables["OTEL_TRACES_EXPORTER"] == "otlp"
        # What is not asked for is not sent.
        assert variables["OTEL_METRICS_EXPORTER"] == variables["OTEL_LOGS_EXPORTER"] == "none"
        attributes = dict(one.split("=") for one in variables["OTEL_RESOURCE_ATTRIBUTES"].split(","))
        kind = "statefulset" if name.endswith("receiver") else "deployment"
        assert attributes[f"k8s.{kind}.name"] == name and attributes["k8s.namespace.name"] == "edge"
        names = list(variables)
        for attribute in ("pod.name", "pod.uid", "node.name"):
            variable = "K8S_" + attribute.replace(".", "_").upper()
            assert attributes[f"k8s.{attribute}"] == f"$({variable})"
            # Kubernetes fills in what stands before.
            assert names.index(variable) < names.index("OTEL_RESOURCE_ATTRIBUTES")


def test_headers_and_authorities_come_from_secrets():
    tls = {"enabled": True, "existingSecret": "collector"}
    values = traced(endpoint="https://collector.example:4317", protocol="grpc", tls=tls, headers={"existingSecret": "token"})
    for name, _, pod in render(values).pods():
        container = pod["containers"][0]
        (headers,) = [one for one in container["env"] if one["name"] == "OTEL_EXPORTER_OTLP_HEADERS"]
        assert headers["valueFrom"] == {"secretKeyRef": {"name": "token", "key": "headers"}}
        assert environment(container)["OTEL_EXPORTER_OTLP_CERTIFICATE"] == "/etc/tentacle/secrets/otel/ca.crt", name


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://collector.example:4318", 4318), ("https://10.0.0.9:443/otlp", 443), ("http://[2001:db8::1]:4317", 4317)],
)
def test_a_network_policy_lets_out_what_is_sent_to_the_collector(endpoint, port):
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    values = {"receiver": {"networkPolicy": {"enabled": True}}, "otel": {"endpoint": endpoint, "to": peers}}
    dns, collector = render(values).one("NetworkPolicy")["spec"]["egress"]
    assert {one["port"] for one in dns["ports"]} == {53}
    assert collector == {"ports": [{"port": port, "protocol": "TCP"}], "to": peers}
