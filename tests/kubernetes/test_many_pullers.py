"""Three pullers share thirty sources under load: whatever becomes of one, each acknowledged file is at the centre once, and soon."""

import os
import time
from collections import Counter
from types import SimpleNamespace

import node
import pytest
from conftest import eventually
from logs import Arrivals, Logs
from senders import Sender

SOURCES = 30
PULLERS = 3
SHARDS = 32
DURATION = 15
KILLS = int(os.environ.get("KUBERNETES_KILLS") or 20)
# Seconds from one file of a source to the next.
PAUSE = 1
PROGRAM = "tentacle-sync-puller"
LEASES = "tentacle.dev/role=shard,tentacle.dev/lease=centre-tentacle-sync-puller"
SITE = {
    "replicas": SOURCES,
    "insecure": True,
    "persistence": {"size": "10Mi"},
    # All of them are to fit on one small node.
    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
}


@pytest.fixture(scope="module")
def network(namespace, tmp_path_factory):
    """Installed, with an agent at each source and a consumer at the centre, which go on until the last test."""
    space = namespace("pullers")
    space.install("site", {"receiver": SITE})
    headless = f"site-tentacle-receiver-headless.{space.name}.svc"
    puller = {
        "enabled": True,
        "sync_address": [f"site-tentacle-receiver-{number}.{headless}" for number in range(SOURCES)],
        "interval": 1,
        "sync_timeout": 2,
        "replicaCount": PULLERS,
        "leases": {"enabled": True, "shards": SHARDS, "durationSeconds": DURATION},
        "incoming": {"size": "1Gi", "accessModes": ["ReadWriteMany"]},
        "resources": {"requests": {"cpu": "1m"}},
    }
    space.install("centre", {"receiver": {"enabled": False}, "syncPuller": puller})
    # The consumer takes what is in the centre's folder out of it, so that it would take again what came again.
    space.install("reader", {"receiver": reader("centre")})
    consumer = {"enabled": True, "sync_address": ["reader-tentacle-receiver"], "interval": 1, "incoming": {"size": "1Gi"}}
    space.install("consumer", {"receiver": {"enabled": False}, "syncPuller": consumer})

    senders = [Sender(space, f"pod/site-tentacle-receiver-{number}", number, PAUSE) for number in range(SOURCES)]
    logs = Logs(space, tmp_path_factory.mktemp("logs"))
    logs.follow(pods_of(space, "consumer"))
    arrivals = Arrivals(next(logs.folder.iterdir()))
    logs.follow(pullers(space))
    for sender in senders:
        sender.start()
    yield SimpleNamespace(space=space, senders=senders, arrivals=arrivals, logs=logs, fetched={})
    for thread in (*senders, logs):
        thread.stop()


def test_each_puller_has_its_share_and_each_source_is_pulled(network):
    eventually(lambda: is_even(network.space), lambda: f"even shares: {holders(network.space)}")
    assert len(leases(network.space)) == SHARDS
    all_pulled(network, since=first_receipt(network))


def test_a_drain_hands_over_all_shards_within_two_seconds(network, capsys):
    for grace in (5, 10):
        pod = settled(network)
        name = pod["metadata"]["name"]
        shards = shards_of(network.space, name)
        network.space.kubectl("delete", "pod", name, f"--grace-period={grace}")
        taken = eventually(lambda: taken_from(network.logs, name, shards), f"others to take {shards} from {name}")
        begun = next(line["at"] for line in network.logs.of(name) if line["message"].startswith("draining;"))
        given = {line["shard"]: line["at"] for line in network.logs.of(name, "shard given back", why="drain")}
        assert given.keys() == shards
        for shard, line in taken.items():
            assert line["after"] == "free", line
            # The two may read their clocks in this order and write in the other.
            assert line["at"] >= given[shard] - 0.1, f"shard {shard}"
        took = max(line["at"] for line in taken.values()) - begun
        say(capsys, f"a drain handed over {len(shards)} shards in {took:.2f} s")
        assert took <= 2


def test_a_holder_that_is_cut_off_from_the_api_server_stops_before_another_starts(network, capsys):
    pod = settled(network)
    name = pod["metadata"]["name"]
    shards = shards_of(network.space, name)
    with node.cut_off(pod, PROGRAM):
        taken = eventually(lambda: taken_from(network.logs, name, shards), f"others to take {shards} from {name}")
        # One that was on its way to another member is left, as ever.
        ends = [line for line in network.logs.of(name) if line["message"] in ("shard lost", "shard left")]
    lost = {line["shard"]: line for line in ends if line["shard"] in shards}
    assert lost.keys() == shards
    for line in lost.values():
        assert line["message"] == "shard left" or "could not be renewed in time" in line["why"], line
    ahead = {shard: taken[shard]["at"] - lost[shard]["at"] for shard in shards}
    say(capsys, f"a holder that was cut off stopped {min(ahead.values()):.2f} to {max(ahead.values()):.2f} s before the next one took over")
    assert min(ahead.values()) > 0, ahead
    assert {(line["after"], line["was"]) for line in taken.values()} == {("expired", name)}
    # It is the same process that takes part again.
    eventually(lambda: is_even(network.space) and name in holders(network.space), f"{name} to take part again")
    assert restarts(network.space)[name] == restarts_of(pod)


def test_a_holder_is_killed_again_and_again_and_each_source_is_pulled_again_in_time(network, capsys):
    took = []
    for number in range(KILLS):
        pod = most_laden(network)
        name = pod["metadata"]["name"]
        begun = time.time()
        # A pod that is deleted by force may still be told to stop, and hand over. Every other one has no time for that.
        if number % 2:
            node.kill(pod, PROGRAM)
        network.space.kubectl("delete", "pod", name, "--force", "--grace-period=0")
        took.append(all_pulled(network, since=begun) - begun)
        eventually(lambda: all_ready(network), "the next pod")
    say(capsys, f"after each of {KILLS} kills, all sources were pulled again within {sorted(round(seconds, 1) for seconds in took)} s")
    assert max(took) <= DURATION + 5, took


def test_a_puller_that_dies_in_its_pod_comes_back_and_pulls_again(network, capsys):
    pod = settled(network)
    begun = time.time()
    if not node.kill(pod, PROGRAM):
        pytest.skip("the pod's node is not this machine, or this user is not root")
    took = all_pulled(network, since=begun) - begun
    say(capsys, f"after a crash within its pod, all sources were pulled again within {took:.1f} s")
    assert took <= DURATION + 5
    eventually(lambda: restarts(network.space)[pod["metadata"]["name"]] == restarts_of(pod) + 1 and all_ready(network), "it to run again")


def test_every_acknowledged_file_is_at_the_centre_exactly_once(network, here, capsys):
    for sender in network.senders:
        sender.stop()
    acknowledged = {name for sender in network.senders for name in sender.receipts}

    def missing():
        return acknowledged - network.arrivals.read().keys()

    eventually(lambda: not missing(), lambda: f"{len(missing())} of {len(acknowledged)} files: {sorted(missing())[:20]}")
    assert network.arrivals.again == []
    # What the consumer has is whole, also where the sender was not told so; and nothing came under a name beside its own.
    network.space.helm.uninstall("consumer", timeout=180)
    network.space.install("end", {"receiver": reader("consumer")})
    with network.space.way_in("service/end-tentacle-receiver") as port:
        texts = here.empty(port)
    sent = {name: text for sender in network.senders for name, text in sender.sent.items()}
    assert texts == {name: sent.get(name) for name in network.arrivals.read()}
    say(capsys, f"{len(acknowledged)} acknowledged files arrived, each once")


def reader(release):
    """A receiver that hands out what a puller fetched."""
    return {"insecure": True, "persistence": {"existingClaim": f"{release}-tentacle-sync-puller-incoming"}}


def pods_of(space, release):
    found = space.get("pods", "--selector", f"app.kubernetes.io/component=sync-puller,app.kubernetes.io/instance={release}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def pullers(space):
    return pods_of(space, "centre")


def all_ready(network):
    """The pods, once all of them are ready; each is followed from then on."""
    living = pullers(network.space)
    ready = [pod for pod in living if network.space.is_ready(pod["metadata"]["name"], other_than=None)]
    network.logs.follow(ready)
    return ready if len(ready) == len(living) == PULLERS else []


def leases(space):
    """Each shard, and who holds it."""
    found = space.get("leases", "--selector", LEASES)["items"]
    return {int(one["metadata"]["name"].rpartition("-")[2]): one["spec"].get("holderIdentity") for one in found}


def holders(space):
    """How many shards each has."""
    return Counter(holder for holder in leases(space).values() if holder)


def shards_of(space, name):
    return {shard for shard, holder in leases(space).items() if holder == name}


def is_even(space):
    """Whether each of the pods has its share, and all shards have a holder."""
    counts = holders(space)
    names = {pod["metadata"]["name"] for pod in pullers(space)}
    return counts.keys() == names and len(names) == PULLERS and max(counts.values()) <= -(-SHARDS // PULLERS) and counts.total() == SHARDS


def settled(network):
    """The pod with most shards, once all is shared evenly."""
    eventually(lambda: all_ready(network) and is_even(network.space), lambda: f"even shares: {holders(network.space)}")
    return most_laden(network)


def most_laden(network):
    def found():
        pods = {pod["metadata"]["name"]: pod for pod in all_ready(network)}
        counts = [(count, name) for name, count in holders(network.space).items() if name in pods]
        return pods[max(counts)[1]] if counts else None

    return eventually(found, "a holder")


def taken_from(logs, name, shards):
    """The line of each shard that another took after that pod had; nothing until all of them were."""
    had = {line["shard"]: line["at"] for line in logs.of(name, "shard taken")}
    later = [line for line in logs.others(name, "shard taken") if line["at"] > had.get(line["shard"], float("inf"))]
    # A shard may go on to a third one.
    taken = {line["shard"]: line for line in sorted(later, key=lambda line: line["at"], reverse=True)}
    return {shard: taken[shard] for shard in shards} if shards <= taken.keys() else None


def first_receipt(network):
    return min(eventually(lambda: [when for sender in network.senders for when in list(sender.receipts.values())], "a receipt"))


def all_pulled(network, since):
    """When the last of the sources was pulled again, as shown by a file that it got after that time."""

    def firsts():
        """When each source was, as far as it was."""
        fetched = fetched_by_all(network)
        came = {}
        for sender in network.senders:
            after = [fetched[name] for name, when in list(sender.receipts.items()) if when >= since and name in fetched]
            if after:
                came[sender.number] = min(after)
        return came

    def last():
        came = firsts()
        return max(came.values()) if len(came) == SOURCES else None

    return eventually(last, lambda: f"files of the sources {set(range(SOURCES)) - firsts().keys()}")


def fetched_by_all(network):
    """When each file was fetched from its source, whichever puller did."""
    all_ready(network)
    fetched = {}
    for name in network.logs.followed:
        if name.startswith("centre-"):
            if name not in network.fetched:
                network.fetched[name] = Arrivals(network.logs.folder / name)
            fetched |= network.fetched[name].read()
    return fetched


def restarts(space):
    return {pod["metadata"]["name"]: restarts_of(pod) for pod in pullers(space)}


def restarts_of(pod):
    return pod["status"]["containerStatuses"][0]["restartCount"]


def say(capsys, what):
    with capsys.disabled():
        print(f"\n  {what}")
