"""A release is upgraded, rolled back and removed, and loses no file."""

import pytest
from conftest import eventually

FILE = {"waiting.data": "it waits through all of this\n"}
VALUES = {"receiver": {"insecure": True, "persistence": {"size": "100Mi"}}}
SERVICE = "service/site-tentacle-receiver"
THREE = {
    "receiver": {"insecure": True, "replicas": 3, "persistence": {"size": "100Mi"}},
    "syncPuller": {"enabled": True, "interval": 1, "incoming": {"size": "100Mi"}},
}


@pytest.fixture(scope="module")
def site(namespace):
    return namespace("lifecycle")


def test_upgrade_rollback_and_uninstall_leave_the_claim_and_its_file(site, here):
    site.install("site", VALUES)
    with site.way_in(SERVICE) as port:
        here.send(port, FILE)
    first = pod(site)

    site.upgrade("site", {**VALUES, "receiver": {**VALUES["receiver"], "maxSize": 1000}})
    second = pod(site)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert {"name": "TENTACLE_MAX_SIZE", "value": "1000"} in second["spec"]["containers"][0]["env"]
    kept(site, here)

    site.helm.rollback("site", timeout=180, wait="watcher")
    assert {"name": "TENTACLE_MAX_SIZE", "value": "2000000"} in pod(site)["spec"]["containers"][0]["env"]
    kept(site, here)

    site.helm.uninstall("site", timeout=180)
    claim = {"persistentvolumeclaim/files-site-tentacle-receiver-0"}
    eventually(lambda: site.objects() == claim, "all but the claim to be gone")

    site.install("site", VALUES)
    kept(site, here)
    site.helm.uninstall("site", timeout=180)


def test_the_same_values_again_replace_no_pod(site):
    site.install("again", VALUES)
    before = pod(site, "again")["metadata"]["uid"]
    site.upgrade("again", VALUES)
    assert pod(site, "again")["metadata"]["uid"] == before
    site.helm.uninstall("again", timeout=180)


def test_a_puller_on_the_headless_name_empties_three_receivers(site, here):
    headless = f"many-tentacle-receiver-headless.{site.name}.svc"
    without = {**THREE, "syncPuller": {"enabled": False}}
    site.install("many", without)
    sent = {}
    for number in range(3):
        files = {f"receiver-{number}-{file}.data": f"{number} {file}\n" for file in range(20)}
        with site.way_in(f"pod/many-tentacle-receiver-{number}") as port:
            here.send(port, files)
        sent |= files
    site.upgrade("many", {**THREE, "syncPuller": {**THREE["syncPuller"], "sync_address": [headless]}})
    consumer = {"insecure": True, "persistence": {"existingClaim": "many-tentacle-sync-puller-incoming"}}
    site.install("reader", {"receiver": consumer})
    have = {}

    def all_came():
        with site.way_in("service/reader-tentacle-receiver") as port:
            taken = here.empty(port)
        assert not have.keys() & taken.keys(), "a file came twice"
        have.update(taken)
        return len(have) >= len(sent)

    eventually(all_came, "the files of three receivers")
    assert have == sent
    for number in range(3):
        with site.way_in(f"pod/many-tentacle-receiver-{number}") as port:
            assert here.empty(port) == {}


def pod(site, release="site"):
    found = site.get("pods", "--selector", f"app.kubernetes.io/instance={release}")["items"]
    living = [one for one in found if "deletionTimestamp" not in one["metadata"]]
    assert len(living) == 1, [one["metadata"]["name"] for one in found]
    return living[0]


def kept(site, here):
    with site.way_in(SERVICE) as port:
        assert here.has(port, "waiting.data") == FILE["waiting.data"]
