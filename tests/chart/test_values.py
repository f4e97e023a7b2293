"""What a values author may write, and what is said where it is wrong."""

import json

import pytest
import yaml
from conftest import CHART, CHART_LOADED, render, values_of
from helm_python.errors import HelmError

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def refusal(values):
    with pytest.raises(HelmError) as refused:
        render(yaml.safe_load(values))
    return str(refused.value)


def test_the_cases_are_taken(case):
    CHART_LOADED.validate_schema(values_of(case))


@pytest.mark.parametrize(
    ("values", "path", "why"),
    [
        ("recevier: {enabled: true}", "", "'recevier' not allowed"),
        ("receiver: {replica: 2}", "/receiver", "'replica' not allowed"),
        ("receiver: {max_size: 1}", "/receiver", "'max_size' not allowed"),
        ("receiver: {insecure: 'yes'}", "/receiver/insecure", "got string, want boolean"),
        ("receiver: {maxSize: 2 megabytes}", "/receiver/maxSize", "does not match pattern"),
        ("receiver: {maxSize: 0}", "/receiver/maxSize", "minimum: got 0, want 1"),
        ("receiver: {timeout: 0}", "/receiver/timeout", "minimum: got 0, want 1"),
        ("receiver: {timeout: 1s}", "/receiver/timeout", "got string, want integer"),
        ("receiver: {retries: 1.5}", "/receiver/retries", "got number, want integer"),
        ("receiver: {maxConnections: 0}", "/receiver/maxConnections", "minimum"),
        ("receiver: {spoolMaxBytes: 1 megabyte}", "/receiver/spoolMaxBytes", "does not match pattern"),
        ("receiver: {spoolMaxFiles: -1}", "/receiver/spoolMaxFiles", "minimum"),
        ("receiver: {expire: [conf=week]}", "/receiver/expire/0", "does not match pattern"),
        ("receiver: {maxConnectionsPerAddress: -1}", "/receiver/maxConnectionsPerAddress", "minimum"),
        ("receiver: {filters: [conf]}", "/receiver/filters/0", "does not match pattern"),
        ("receiver: {filters: 'a:b'}", "/receiver/filters", "got string, want array"),
        ("receiver: {password: hush}", "/receiver/password", "got string, want object"),
        ("receiver: {password: {value: hush}}", "/receiver/password", "'value' not allowed"),
        ("receiver: {tls: {keys: {certificate: a}}}", "/receiver/tls/keys", "'certificate' not allowed"),
        ("receiver: {allow: [centre.example]}", "/receiver/allow/0", "does not match pattern"),
        ("receiver: {service: {type: ExternalName}}", "/receiver/service/type", "must be one of"),
        ("receiver: {service: {port: 70000}}", "/receiver/service/port", "maximum"),
        ("receiver: {persistence: {size: big}}", "/receiver/persistence/size", "does not match pattern"),
        ("receiver: {log: {verbosity: loud}}", "/receiver/log/verbosity", "must be one of"),
        ("receiver: {image: {digest: latest}}", "/receiver/image/digest", "does not match pattern"),
        ("receiver: {terminationGracePeriodSeconds: 5}", "/receiver/terminationGracePeriodSeconds", "minimum"),
        ("receiver: {livenessProbe: {}}", "/receiver", "'livenessProbe' not allowed"),
        ("livenessProbe: {httpGet: {path: /}}", "/livenessProbe", "'httpGet' not allowed"),
        ("image: {pullPolicy: Sometimes}", "/image/pullPolicy", "must be one of"),
        ("imagePullSecrets: [registry]", "/imagePullSecrets/0", "got string, want object"),
        ("commonLabels: {a: 1}", "/commonLabels/a", "got number, want string"),
        ("proxy: {upstreams: central.example}", "/proxy/upstreams", "got string, want array"),
        ("proxy: {upstreams: ['a,b']}", "/proxy/upstreams/0", "does not match pattern"),
        ("proxy: {proxyPort: 0}", "/proxy/proxyPort", "minimum"),
        ("syncPuller: {sync_adress: [a]}", "/syncPuller", "'sync_adress' not allowed"),
        ("syncPuller: {sync_address: 'a,b'}", "/syncPuller/sync_address", "got string, want array"),
        ("syncPuller: {sync_mode: slow}", "/syncPuller/sync_mode", "must be one of"),
        ("syncPuller: {replicaCount: two}", "/syncPuller/replicaCount", "got string, want integer"),
        ("syncPuller: {replicaCount: -1}", "/syncPuller/replicaCount", "minimum"),
        ("syncPuller: {leases: true}", "/syncPuller/leases", "got boolean, want object"),
        ("syncPuller: {leases: {duration: 5}}", "/syncPuller/leases", "'duration' not allowed"),
        ("syncPuller: {leases: {shards: 0}}", "/syncPuller/leases/shards", "minimum: got 0, want 1"),
        ("syncPuller: {leases: {shards: 1025}}", "/syncPuller/leases/shards", "maximum"),
        ("syncPuller: {leases: {durationSeconds: 2}}", "/syncPuller/leases/durationSeconds", "minimum: got 2, want 3"),
        ("syncPuller: {leases: {durationSeconds: 15s}}", "/syncPuller/leases/durationSeconds", "got string, want integer"),
        ("syncPuller: {customResources: {enabled: 'yes'}}", "/syncPuller/customResources/enabled", "got string, want boolean"),
        ("syncPuller: {customResources: {secretNames: a}}", "/syncPuller/customResources/secretNames", "got string, want array"),
        ("syncPuller: {customResources: {secretNames: ['']}}", "/syncPuller/customResources/secretNames/0", "minLength"),
        ("syncPuller: {maxConnections: 0}", "/syncPuller/maxConnections", "minimum: got 0, want 1"),
        ("syncPuller: {maxConnections: 65537}", "/syncPuller/maxConnections", "maximum"),
        ("syncPuller: {forward: {to: 'a,b'}}", "/syncPuller/forward/to", "does not match pattern"),
        ("syncPuller: {forward: {to: [a, '']}}", "/syncPuller/forward/to/1", "does not match pattern"),
        ("syncPuller: {networkPolicy: {apiServer: {ports: []}}}", "/syncPuller/networkPolicy/apiServer/ports", "minItems"),
        ("syncPuller: {networkPolicy: {apiServer: {ports: [0]}}}", "/syncPuller/networkPolicy/apiServer/ports/0", "minimum"),
        ("syncPuller: {networkPolicy: {apiServer: {to: 10.0.0.1}}}", "/syncPuller/networkPolicy/apiServer/to", "want array"),
        ("syncPuller: {rbac: {create: 'no'}}", "/syncPuller/rbac/create", "got string, want boolean"),
        ("syncPuller: {podDisruptionBudget: {maxUnavailable: half}}", "/syncPuller/podDisruptionBudget/maxUnavailable", "does not match pattern"),
        ("syncPuller: {replicas: 2}", "/syncPuller", "'replicas' not allowed"),
        ("syncPuller: {sources: [{port: 1}]}", "/syncPuller/sources/0", "missing property 'address'"),
        ("syncPuller: {sources: [{address: a, password: x}]}", "/syncPuller/sources/0/password", "want object"),
        ("syncPuller: {sources: [{address: a, overwrite: 1}]}", "/syncPuller/sources/0/overwrite", "want boolean"),
        ("syncPuller: {sources: [{address: a, forward: b}]}", "/syncPuller/sources/0/forward", "want object"),
        ("syncPuller: {sources: [{address: a, forward: {}}]}", "/syncPuller/sources/0/forward", "missing property 'to'"),
        ("syncPuller: {sources: [{address: a, forward: {to: ''}}]}", "/syncPuller/sources/0/forward/to", "minLength"),
        ("syncPuller: {sources: [{address: a, forward: {to: []}}]}", "/syncPuller/sources/0/forward/to", "minItems"),
        ("syncPuller: {sources: [{address: a, forward: {to: b, tls: {certManager: {}}}}]}", "/syncPuller/sources/0/forward/tls", "'certManager' not allowed"),
        ("syncPuller: {sources: [{address: a, folders: [1]}]}", "/syncPuller/sources/0/folders/0", "got number"),
        ("syncPuller: {tls: {pinSha256: abc}}", "/syncPuller/tls/pinSha256", "does not match pattern"),
        ("syncPuller: {incoming: {accessModes: []}}", "/syncPuller/incoming/accessModes", "minItems"),
        ("otel: {endpoint: collector}", "/otel/endpoint", "does not match pattern"),
        ("otel: {endpoint: 'http://collector.example'}", "/otel/endpoint", "does not match pattern"),
        ("otel: {endpoint: 'http://user:hush@collector:1'}", "/otel/endpoint", "does not match pattern"),
        ("otel: {protocol: http/json}", "/otel/protocol", "must be one of"),
        ("otel: {sampler: xray}", "/otel/sampler", "must be one of"),
        ("otel: {samplerArg: '1.5'}", "/otel/samplerArg", "does not match pattern"),
        ("otel: {samplerArg: 0.1}", "/otel/samplerArg", "got number, want string"),
        ("otel: {headers: {authorization: hush}}", "/otel/headers", "'authorization' not allowed"),
        ("otel: {resourceAttributes: {a: 'b,c'}}", "/otel/resourceAttributes/a", "does not match pattern"),
        ("metrics: {podMonitor: {enabled: 'yes'}}", "/metrics/podMonitor/enabled", "must be one of"),
        ("metrics: {podMonitor: {interval: often}}", "/metrics/podMonitor/interval", "does not match pattern"),
        ("metrics: {prometheusRule: {runbook: ''}}", "/metrics/prometheusRule/runbook", "minLength"),
        ("metrics: {dashboards: {enabled: auto}}", "/metrics/dashboards/enabled", "got string, want boolean"),
        ("extraObjects: {a: b}", "/extraObjects", "got object, want array"),
    ],
)
def test_a_wrong_key_or_type_is_refused_with_its_path(values, path, why):
    said = refusal(values)
    assert f"at '{path}'" in said and why in said, said


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ("proxy: {enabled: true}", "proxy.upstreams: is empty (name at least one"),
        ("proxy: {enabled: true, upstreams: [a], strict: true}", "proxy.strict: only goes with proxy.inspect"),
        ("syncPuller: {enabled: true}", "syncPuller.sync_address: is empty, and so is syncPuller.sources (name at least one buffer"),
        ("receiver: {tls: {enabled: true}}", "receiver.tls.existingSecret: is needed"),
        ("receiver: {tls: {existingSecret: a}}", "receiver.tls.enabled: is off, and certificates are given"),
        ("receiver: {tls: {enabled: true, existingSecret: a, keys: {cert: ''}}}", "receiver.tls.keys.cert: must not be empty"),
        ("receiver: {tls: {enabled: true, certManager: {enabled: true}}}", "receiver.tls.certManager.issuerRef: is empty"),
        ("receiver: {allowName: [a]}", "receiver.allowName: only goes with receiver.tls.enabled"),
        ("receiver: {acceptProxy: true}", "receiver.acceptProxy: only goes with receiver.allow"),
        ("receiver: {replicas: 2, persistence: {existingClaim: a}}", "receiver.replicas: 2 pods cannot share the claim"),
        ("proxy: {enabled: true, upstreams: [a], upstreamTls: {existingSecret: a}}", "proxy.upstreamTls.enabled: is off"),
        ("otel: {logs: true}", "otel.logs: only goes with otel.endpoint"),
        ("otel: {headers: {existingSecret: a}}", "otel.headers.existingSecret: only goes with otel.endpoint"),
        ("otel: {endpoint: 'http://a:1', tls: {enabled: true, existingSecret: a}}", "otel.tls.enabled: only goes with an otel.endpoint of https://"),
        ("otel: {endpoint: 'https://a:1', tls: {enabled: true}}", "otel.tls.existingSecret: is needed"),
        ("otel: {samplerArg: '0.1'}", "otel.samplerArg: only goes with otel.sampler traceidratio"),
        ("metrics: {podMonitor: {enabled: true}, serviceMonitor: {enabled: auto}}", "metrics.serviceMonitor.enabled: only goes without metrics.podMonitor"),
        ("metrics: {prometheusRule: {disabled: [TentacleSlow]}}", "metrics.prometheusRule.disabled: there is no alert TentacleSlow (there are TentacleNot"),
        (
            "syncPuller: {enabled: true, sync_address: [a], forward: {to: b, tls: {existingSecret: a}}}",
            "syncPuller.forward.tls.enabled: is off",
        ),
        (
            "syncPuller: {enabled: true, sync_address: [a], forward: {to: b}, incoming: {existingClaim: c}}",
            "syncPuller.forward.to: files go there, or to the claim",
        ),
        ("syncPuller: {enabled: true, sync_address: [a], replicaCount: 2}", "syncPuller.replicaCount: 2 pods would all fetch from the same buffers"),
        (
            "syncPuller: {enabled: true, sync_address: [a], replicaCount: 2, leases: {enabled: true}}",
            "syncPuller.incoming.accessModes: 2 pods write to the claim, perhaps on several nodes (set [ReadWriteMany]",
        ),
        (
            "syncPuller: {enabled: true, sync_address: [a], customResources: {secretNames: [b]}}",
            "syncPuller.customResources.secretNames: only goes with syncPuller.customResources.enabled",
        ),
        (
            "syncPuller: {enabled: true, sync_address: [a], leases: {enabled: true}, serviceAccount: {create: false}}",
            "syncPuller.serviceAccount.name: is empty, and serviceAccount.create is off",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_to_do(values, answer):
    assert answer in refusal(values)


def test_the_schema_knows_every_value_and_no_more():
    def compare(values, schema, path):
        schema = resolved(schema)
        if "properties" not in schema:
            return
        # A subchart is handed `global`, whether it has it or not.
        known = set(schema["properties"]) - {"global", "initialDelaySeconds", "successThreshold", "group"}
        assert set(values) == known or not path, path
        assert schema["additionalProperties"] is False, path
        for key, value in values.items():
            if isinstance(value, dict) and value:
                compare(value, schema["properties"][key], f"{path}/{key}")

    compare(DEFAULTS, SCHEMA, "")


def resolved(schema):
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_secrets_have_no_place_in_the_values():
    def leaves(values, path=""):
        for key, value in values.items():
            yield from leaves(value, f"{path}/{key}") if isinstance(value, dict) else [(f"{path}/{key}", value)]

    for path, value in leaves(DEFAULTS):
        if "password" in path.lower():
            assert path.rpartition("/")[2] in ("existingSecret", "key", "keyPassword"), path
