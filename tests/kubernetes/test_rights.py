"""The puller's account can do what it needs, and nothing else."""

import json
from types import SimpleNamespace

import pytest
from account import Account

NAMED = "site-password"
RIGHTS = {
    *(("coordination.k8s.io", "leases", verb, ()) for verb in ("get", "list", "watch", "create", "update", "delete")),
    *(("tentacle.dev", "tentaclesources", verb, ()) for verb in ("list", "watch")),
    ("tentacle.dev", "tentaclesources/status", "patch", ()),
    ("", "secrets", "get", (NAMED,)),
    *(("events.k8s.io", "events", verb, ()) for verb in ("create", "patch")),
}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
SOURCES = "/apis/tentacle.dev/v1alpha1/namespaces/{space}/tentaclesources"
EVENTS = "/apis/events.k8s.io/v1/namespaces/{space}/events"
SECRETS = "/api/v1/namespaces/{space}/secrets"
PODS = "/api/v1/namespaces/{space}/pods"
# It names what its pod could be made to do, were it taken over.
FORBIDDEN = {
    "list secrets": ("GET", SECRETS),
    "watch secrets": ("GET", f"{SECRETS}?watch=true&timeoutSeconds=1"),
    "get a secret that is not named": ("GET", f"{SECRETS}/other"),
    "get a secret elsewhere": ("GET", "/api/v1/namespaces/kube-system/secrets/" + NAMED),
    "change a secret": ("PATCH", f"{SECRETS}/{NAMED}", {"stringData": {"password": "x"}}),
    "make a pod": ("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}),
    "list pods": ("GET", PODS),
    "run a program in a pod": ("POST", PODS + "/any/exec?command=id&stdout=true"),
    "get a source": ("GET", f"{SOURCES}/site"),
    "make a source": ("POST", SOURCES, {"apiVersion": "tentacle.dev/v1alpha1", "kind": "TentacleSource", "metadata": {"name": "own"}, "spec": {"address": "a"}}),
    "change a source": ("PATCH", f"{SOURCES}/site", {"spec": {"address": "elsewhere.example"}}),
    "delete a source": ("DELETE", f"{SOURCES}/site"),
    "list the sources of all namespaces": ("GET", "/apis/tentacle.dev/v1alpha1/tentaclesources"),
    "get configuration": ("GET", "/api/v1/namespaces/{space}/configmaps"),
    "list nodes": ("GET", "/api/v1/nodes"),
    "delete all leases at once": ("DELETE", LEASES),
    "delete a node's lease": ("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/any"),
    "list events": ("GET", EVENTS),
    "give rights": (
        "POST",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "own"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        },
    ),
    "make a token": ("POST", "/api/v1/namespaces/{space}/serviceaccounts/default/token", {"spec": {}}),
    "change the kind of the sources": ("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tentaclesources.tentacle.dev"),
}


@pytest.fixture(scope="module")
def centre(namespace, kind):
    space = namespace("rights")
    space.secret(NAMED, password="correct horse")
    space.secret("other", password="battery staple")
    source = {"apiVersion": kind, "kind": "TentacleSource", "metadata": {"name": "site"}, "spec": {"address": "nobody.invalid"}}
    space.kubectl("create", "--filename=-", given=json.dumps(source))
    # No pod: what the account may do is asked here.
    puller = {"enabled": True, "replicaCount": 0, "leases": {"enabled": True}, "customResources": {"enabled": True, "secretNames": [NAMED]}}
    space.install("centre", {"receiver": {"enabled": False}, "syncPuller": {**puller, "forward": {"to": "nobody.invalid"}}})
    return SimpleNamespace(space=space, account=Account(space.name, "centre-tentacle-sync-puller"), any=Account(space.name, "default"))


def test_its_rights_are_those_of_any_account_and_these_alone(centre):
    assert centre.account.rules(centre.space.name) - centre.any.rules(centre.space.name) == RIGHTS
    for elsewhere in ("default", "kube-system", "kube-node-lease"):
        assert centre.account.rules(elsewhere) == centre.any.rules(elsewhere)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_it_is_forbidden_to(centre, what):
    method, path, *body = FORBIDDEN[what]
    status, answer = centre.account.ask(method, path.format(space=centre.space.name), *body)
    assert (status, answer["reason"]) == (403, "Forbidden"), answer


def test_it_can_share_shards(centre):
    def lease(version=None, holder="a"):
        metadata = {"name": "tried", **({"resourceVersion": version} if version else {})}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": holder}}

    path = LEASES.format(space=centre.space.name)
    made = taken(centre, "POST", path, lease())
    assert "tried" in [one["metadata"]["name"] for one in taken(centre, "GET", path)["items"]]
    assert taken(centre, "GET", f"{path}/tried")["spec"]["holderIdentity"] == "a"
    assert taken(centre, "PUT", f"{path}/tried", lease(made["metadata"]["resourceVersion"], "b"))["spec"]["holderIdentity"] == "b"
    # Who comes too late is told so.
    status, _ = centre.account.ask("PUT", f"{path}/tried", lease(made["metadata"]["resourceVersion"], "c"))
    assert status == 409
    taken(centre, "DELETE", f"{path}/tried")


def test_it_can_pull_objects_and_say_how_they_stand(centre):
    space = centre.space.name
    (source,) = taken(centre, "GET", SOURCES.format(space=space))["items"]
    taken(centre, "PATCH", f"{SOURCES.format(space=space)}/site/status", {"status": {"message": "tried"}})
    assert centre.space.get("tentaclesources", "site")["status"]["message"] == "tried"
    # By that way, nothing but the status changes.
    taken(centre, "PATCH", f"{SOURCES.format(space=space)}/site/status", {"spec": {"address": "elsewhere.example"}})
    assert centre.space.get("tentaclesources", "site")["spec"] == source["spec"]
    assert taken(centre, "GET", f"{SECRETS.format(space=space)}/{NAMED}")["data"]
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "tried"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "tentacle.dev/sync-puller",
        "reportingInstance": "tried",
        "action": "Pull",
        "reason": "Tried",
        "type": "Normal",
        "regarding": {"apiVersion": source["apiVersion"], "kind": "TentacleSource", "namespace": space, "name": "site"},
    }
    taken(centre, "POST", EVENTS.format(space=space), event)
    taken(centre, "PATCH", f"{EVENTS.format(space=space)}/tried", {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}})


def taken(centre, method, path, body=None):
    status, answer = centre.account.ask(method, path, body)
    assert status in (200, 201), answer
    return answer
