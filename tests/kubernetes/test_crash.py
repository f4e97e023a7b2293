"""A receiver whose pod is torn away keeps every file whose sender was told that it has it."""

import pytest
from conftest import eventually
from senders import Sender

VALUES = {"receiver": {"insecure": True, "persistence": {"size": "100Mi"}}}
SERVICE = "service/site-tentacle-receiver"
POD = "site-tentacle-receiver-0"
SENDERS = 4
DELETIONS = 3
# Receipts of each sender between one deletion and the next.
RECEIPTS = 20


@pytest.fixture
def site(namespace):
    return namespace("crash")


def test_a_pod_that_is_deleted_by_force_under_load_loses_no_file_with_a_receipt(site, here):
    site.install("site", VALUES)
    senders = [Sender(site, SERVICE, number) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(DELETIONS):
            under_load(senders)
            before = site.get("pod", POD)["metadata"]["uid"]
            site.kubectl("delete", "pod", POD, "--force", "--grace-period=0")
            eventually(lambda: site.is_ready(POD, other_than=before), "the next pod")
        under_load(senders)
    finally:
        for sender in senders:
            sender.stop()

    with site.way_in(SERVICE) as port:
        taken = here.empty(port)
    for sender in senders:
        assert sender.receipts.keys() <= taken.keys()
    sent = {name: text for sender in senders for name, text in sender.sent.items()}
    # Of those without a receipt too, none is torn.
    assert taken == {name: sent[name] for name in taken}


def under_load(senders):
    begun = [len(sender.receipts) for sender in senders]

    def all_went_on():
        return all(len(sender.receipts) >= count + RECEIPTS for sender, count in zip(senders, begun))

    eventually(all_went_on, "receipts for every sender")
