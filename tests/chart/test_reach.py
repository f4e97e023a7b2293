"""Every value has an effect: one that is changed changes what is rendered."""

import json
from functools import cache

import pytest
from conftest import laid_over, texts, values_of
from helm_python.errors import HelmRenderError
from test_values import DEFAULTS

# What a value is changed to, by the end of its path; else by its type.
OTHER = {
    "upstreams": ["other.example"],
    "addresses": ["::"],
    "allow": ["10.9.0.0/16"],
    "hosts/allow": "tentacle_server: ALL",
    "acceptProxy": True,
    "filters": ["other:other"],
    "maxSize": 7,
    "spoolMaxBytes": 7,
    "expire": ["other=7d"],
    "digest": "sha256:" + "0f" * 32,
    "pullPolicy": "Always",
    "verbosity": "quiet",
    "format": "human",
    "sync_mode": "safe",
    "verifyName": "strict",
    "pinSha256": "0f" * 32,
    "size": "77Gi",
    "accessModes": ["ReadWriteOncePod"],
    "service/type": "NodePort",
    "nodePort": 30777,
    "externalTrafficPolicy": "Cluster",
    "internalTrafficPolicy": "Local",
    "sessionAffinity": "ClientIP",
    "ipFamilyPolicy": "PreferDualStack",
    "ipFamilies": ["IPv6"],
    "dnsPolicy": "Default",
    "interval": "77s",
    "syncPuller/interval": 77,
    "issuerRef": {"name": "other"},
    "minAvailable": "50%",
    "podSecurityContext": {"runAsUser": 77},
    "securityContext": {"procMount": "Default"},
    "topologySpreadConstraints": [{"topologyKey": "other"}],
    "tolerations": [{"key": "other"}],
    "imagePullSecrets": [{"name": "other"}],
    "sources": [{"address": "other.example"}],
    "from": [{"ipBlock": {"cidr": "10.77.0.0/16"}}],
    "to": [{"ipBlock": {"cidr": "10.77.0.0/16"}}],
    "forward/to": ["other.example", "another.example"],
    "apiServer/ports": [7443],
    "endpoint": "https://other.example:4317",
    "protocol": "http/protobuf",
    "sampler": "parentbased_traceidratio",
    "samplerArg": "0.77",
    "disabled": ["TentacleFlushSlow"],
}
OTHER_MAP = {"other": "other"}
OTHER_LIST = [{"name": "other"}]
TEXTS = ("folders", "sync_address", "dnsNames", "ipAddresses", "externalIPs", "loadBalancerSourceRanges", "allowName", "secretNames")

# What must be said for a value to count at all.
CERT_MANAGER = {"existingSecret": "", "enabled": True, "certManager": {"enabled": True, "issuerRef": {"name": "a"}}}
NAMED = {"existingSecret": "a", "enabled": True}
GIVEN = {
    "receiver/persistence/emptyDir": {"receiver": {"persistence": {"enabled": False}}},
    "receiver/persistence/existingClaim": {"receiver": {"replicas": 1}},
    "receiver/tls/certManager": {"receiver": {"tls": CERT_MANAGER}},
    "proxy/inspect": {"proxy": {"strict": False}},
    "proxy/acceptProxy": {"proxy": {"allow": ["10.0.0.1"]}},
    "proxy/tls/certManager": {"proxy": {"tls": CERT_MANAGER}},
    "syncPuller/forward/password": {"syncPuller": {"forward": {"to": "a", "password": {"existingSecret": "a"}}}},
    "syncPuller/forward/tls": {"syncPuller": {"forward": {"to": "a", "tls": NAMED}}},
    "syncPuller/forward/tls/certManager": {"syncPuller": {"forward": {"to": "a", "tls": CERT_MANAGER}}},
    "image/tag": {"image": {"tag": ""}},
    "metrics/serviceMonitor": {"metrics": {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
    "metrics/prometheusRule": {"metrics": {"prometheusRule": {"enabled": True}}},
    "metrics/dashboards": {"metrics": {"dashboards": {"enabled": True}}},
}


def paths(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from paths(value, (*path, key))
        else:
            yield (*path, key)


def end_of(path, table):
    """What the table says of the longest of its keys that the path ends in."""
    ends = ["/".join(path[start:]) for start in range(len(path))]
    return next((table[end] for end in ends if end in table), None)


def beginning_of(path, table):
    beginnings = ["/".join(path[:end]) for end in range(len(path), 0, -1)]
    return next((table[beginning] for beginning in beginnings if beginning in table), {})


def other(path, value):
    sample = end_of(path, OTHER)
    if sample is not None:
        return sample
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return "other"
        case list():
            return ["other.example"] if path[-1] in TEXTS else OTHER_LIST
        case _:
            return OTHER_MAP


@pytest.mark.parametrize("path", [pytest.param(path, id="/".join(path)) for path in paths(DEFAULTS)])
def test_a_value_has_an_effect(path):
    before = laid_over(values_of("all"), beginning_of(path, GIVEN))
    value = laid_over(DEFAULTS, before)
    for key in path:
        value = value[key]
    changed = other(path, value)
    for key in reversed(path):
        changed = {key: changed}
    assert show(before) != show(laid_over(before, changed)), "it changes nothing"


def show(values):
    return shown(json.dumps(values))


@cache
def shown(values):
    try:
        return texts(json.loads(values))
    except HelmRenderError as refused:
        # That it does not go with the rest is an effect, too.
        return str(refused)
