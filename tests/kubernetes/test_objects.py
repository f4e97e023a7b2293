"""Sites that are objects: they come, rest and go by `kubectl`, a wrong one disturbs no other, and the list says how each one stands."""

import json
import time
from types import SimpleNamespace

import pytest
from conftest import eventually

SITES = 8
# Seconds from `kubectl apply` until a source is pulled.
PROMPT = 10
SITE = {"insecure": True, "persistence": {"size": "10Mi"}, "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}}}
WRONG = "ship9"
LOCKED = "ship8"


@pytest.fixture(scope="module")
def network(namespace, kind):
    """Receivers with a file each, one of them with a password, and two pullers that know of none of them."""
    space = namespace("objects")
    space.secret("locked", password="correct horse")
    space.install("site", {"receiver": {**SITE, "replicas": SITES}})
    space.install("locked", {"receiver": {**SITE, "password": {"existingSecret": "locked"}}})
    puller = {
        "enabled": True,
        "interval": 1,
        "sync_timeout": 2,
        "sync_retries": 0,
        "replicaCount": 2,
        "leases": {"enabled": True},
        "customResources": {"enabled": True, "secretNames": ["locked", "absent"]},
        "incoming": {"size": "100Mi", "accessModes": ["ReadWriteMany"]},
    }
    space.install("centre", {"receiver": {"enabled": False}, "syncPuller": puller})
    claim = "centre-tentacle-sync-puller-incoming"
    space.install("reader", {"receiver": {"insecure": True, "persistence": {"existingClaim": claim}}})
    return SimpleNamespace(space=space, kind=kind, have={})


def test_ten_are_applied_and_nine_are_pulled_while_the_list_says_why_the_tenth_is_not(network, here, tmp_path):
    for number in range(SITES):
        send(network, here, number, "first")
    send_locked(network, here, tmp_path, "first", "correct horse")
    begun = time.monotonic()
    apply(network, *(source(network, number) for number in range(SITES)), locked(network), wrong(network))
    good = {name(number) for number in range(SITES)} | {LOCKED}
    eventually(lambda: good == {one for one, state in ready(network).items() if state[0] == "True"}, lambda: f"nine: {ready(network)}")
    took = time.monotonic() - begun
    assert took <= PROMPT, f"{took:.1f} s"

    arrived(network, here, {f"site-{number}-first.data" for number in range(SITES)} | {"locked-first.data"})
    assert ready(network)[WRONG] == ("False", "NotAccepted")
    assert condition(network, WRONG, "Accepted")["reason"] == "SecretNotFound"
    # The list is for people: one line says it all.
    listed = {line.split()[0]: line for line in network.space.kubectl("get", "tsrc").splitlines()}
    assert "False" in listed[WRONG] and "absent" in listed[WRONG]
    assert "centre-tentacle-sync-puller-" in listed[LOCKED] and " True " in listed[LOCKED]
    assert ("Warning", "NotAccepted") in events(network, WRONG)

    def counted():
        status = network.space.get("tsrc", LOCKED)["status"]
        return (status.get("files"), status.get("backlog")) == (1, 0) and status.get("lastSuccess")

    eventually(counted, lambda: network.space.get("tsrc", LOCKED)["status"])


def test_one_that_cannot_be_reached_says_so_and_disturbs_no_other(network, here):
    apply(network, made(network, "nobody", address="nobody.invalid"))
    eventually(lambda: ready(network)["nobody"] == ("False", "Failing"), lambda: f"it to fail: {ready(network)}")
    assert "nobody.invalid" in network.space.get("tsrc", "nobody")["status"]["message"]
    eventually(lambda: ("Warning", "PullFailed") in events(network, "nobody"), "an event")
    network.space.kubectl("delete", "tsrc", "nobody")
    send(network, here, 0, "beside")
    arrived(network, here, {"site-0-beside.data"})


def test_a_field_that_is_wrong_is_refused_by_kubernetes(network):
    for field, value in [("port", 70000), ("interval", 0), ("mode", "slow"), ("paused", "yes"), ("address", "")]:
        with pytest.raises(AssertionError, match=rf"spec\.{field}"):
            apply(network, made(network, "refused", **{"address": "a.example", field: value}))


def test_one_that_is_paused_keeps_its_files_until_it_is_resumed(network, here):
    change(network, 1, paused=True)
    eventually(lambda: ready(network)[name(1)] == ("False", "Paused"), lambda: f"it to rest: {ready(network)}")
    stays(network, here, 1, "paused")
    change(network, 1, paused=None)
    arrived(network, here, {"site-1-paused.data"})
    eventually(lambda: ready(network)[name(1)] == ("True", "Pulled"), lambda: f"it to go on: {ready(network)}")
    eventually(lambda: {("Normal", "Paused"), ("Normal", "Resumed")} <= events(network, name(1)), lambda: f"events: {events(network, name(1))}")


def test_one_that_leads_elsewhere_is_pulled_there(network, here):
    send(network, here, 2, "before")
    arrived(network, here, {"site-2-before.data"})
    # Of two with one address, the older one has it.
    change(network, 3, address=address(network, 2))
    eventually(lambda: condition(network, name(3), "Accepted")["reason"] == "Duplicate", "it to be a duplicate")
    assert name(2) in condition(network, name(3), "Accepted")["message"]
    stays(network, here, 3, "elsewhere")
    change(network, 3, address=address(network, 3))
    arrived(network, here, {"site-3-elsewhere.data"})


def test_a_password_that_changes_is_followed(network, here, tmp_path):
    network.space.secret("locked", password="battery staple")
    eventually(lambda: send_locked(network, here, tmp_path, "changed", "battery staple"), "the receiver to take the new password")
    arrived(network, here, {"locked-changed.data"})


def test_a_secret_that_comes_is_found(network):
    # Its buffer is that of the other one, which is not to be pulled by two.
    network.space.kubectl("delete", "tsrc", LOCKED)
    network.space.secret("absent", password="battery staple")
    eventually(lambda: ready(network)[WRONG] == ("True", "Pulled"), lambda: f"it to be pulled: {ready(network)}")


def test_one_that_is_deleted_is_pulled_no_more(network, here):
    network.space.kubectl("delete", "tsrc", name(4))
    stays(network, here, 4, "deleted")
    apply(network, source(network, 4))
    arrived(network, here, {"site-4-deleted.data"})


def test_no_password_is_in_a_status_an_event_or_a_log(network):
    said = network.space.kubectl("get", "tsrc,events", "--output=json")
    for pod in network.space.get("pods", "--selector", "app.kubernetes.io/component=sync-puller")["items"]:
        said += network.space.kubectl("logs", pod["metadata"]["name"])
    for password in ("correct horse", "battery staple"):
        assert password not in said


def name(number):
    return f"ship{number}"


def address(network, number):
    return f"site-tentacle-receiver-{number}.site-tentacle-receiver-headless.{network.space.name}.svc"


def made(network, name, **spec):
    return {"apiVersion": network.kind, "kind": "TentacleSource", "metadata": {"name": name}, "spec": spec}


def source(network, number):
    return made(network, name(number), address=address(network, number))


def locked(network):
    return made(network, LOCKED, address=f"locked-tentacle-receiver.{network.space.name}.svc", passwordSecret={"name": "locked"})


def wrong(network):
    """By another name, as one address would be one source."""
    address = f"locked-tentacle-receiver-headless.{network.space.name}.svc"
    return made(network, WRONG, address=address, passwordSecret={"name": "absent"})


def apply(network, *objects):
    network.space.kubectl("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def change(network, number, **spec):
    network.space.kubectl("patch", "tsrc", name(number), "--type=merge", f"--patch={json.dumps({'spec': spec})}")


def condition(network, name, kind):
    found = network.space.get("tsrc", name).get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {"status": None, "reason": None, "message": None})


def ready(network):
    """Each object's condition: the status and the reason."""

    def of(one):
        found = [one for one in one.get("status", {}).get("conditions", []) if one["type"] == "Ready"]
        return (found[0]["status"], found[0]["reason"]) if found else (None, None)

    return {one["metadata"]["name"]: of(one) for one in network.space.get("tsrc")["items"]}


def events(network, name):
    found = network.space.get("events", f"--field-selector=involvedObject.kind=TentacleSource,involvedObject.name={name}")["items"]
    return {(one["type"], one["reason"]) for one in found}


def send(network, here, number, what):
    with network.space.way_in(f"pod/site-tentacle-receiver-{number}") as port:
        here.send(port, {f"site-{number}-{what}.data": f"{what}\n"})


def send_locked(network, here, folder, what, password):
    (folder / "password").write_text(password)
    with network.space.way_in("service/locked-tentacle-receiver") as port:
        try:
            here.send(port, {f"locked-{what}.data": f"{what}\n"}, "--password-file", str(folder / "password"))
        except AssertionError:
            return False
    return True


def arrived(network, here, names):
    """Waits until these came to the centre's folder."""

    def all_came():
        with network.space.way_in("service/reader-tentacle-receiver") as port:
            taken = here.empty(port)
        assert not network.have.keys() & taken.keys(), "a file came twice"
        network.have.update(taken)
        return names <= network.have.keys()

    eventually(all_came, lambda: f"{names - network.have.keys()}")


def stays(network, here, number, what):
    """A file of a source that is not pulled is still there when others' later ones have come, twice."""
    send(network, here, number, what)
    for when in ("then", "again"):
        send(network, here, 0, f"{what}-{when}")
        arrived(network, here, {f"site-0-{what}-{when}.data"})
    file = f"site-{number}-{what}.data"
    assert file not in network.have
    with network.space.way_in(f"pod/site-tentacle-receiver-{number}") as port:
        assert here.has(port, file)
