"""A receiver whose pod is torn away keeps every file whose sender was told that it has it."""

import socket
import threading

import pytest
from conftest import eventually

VALUES = {"receiver": {"insecure": True, "persistence": {"size": "100Mi"}}}
SERVICE = "service/site-tentacle-receiver"
POD = "site-tentacle-receiver-0"
SENDERS = 4
DELETIONS = 3
# Receipts of each sender between one deletion and the next.
RECEIPTS = 20


class Sender(threading.Thread):
    """Sends file after file over one connection, and over a new one when that breaks."""

    def __init__(self, site, number):
        super().__init__()
        self.site = site
        self.number = number
        self.sent = {}
        self.receipts = set()
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            try:
                with self.site.way_in(SERVICE) as port, socket.create_connection(("127.0.0.1", port), 10) as stream:
                    self.send_on(stream, stream.makefile("rb"))
            except OSError:
                self.done.wait(0.2)

    def send_on(self, stream, replies):
        while not self.done.is_set():
            name = f"sender-{self.number}-{len(self.sent)}.data"
            text = self.sent[name] = f"{name}\n" * 200
            for given in (f"SEND <{name}> SIZE {len(text)}\n", text):
                stream.sendall(given.encode())
                if replies.readline() != b"SEND OK\n":
                    return
            self.receipts.add(name)


@pytest.fixture
def site(namespace):
    return namespace("crash")


def test_a_pod_that_is_deleted_by_force_under_load_loses_no_file_with_a_receipt(site, here):
    site.install("site", VALUES)
    senders = [Sender(site, number) for number in range(SENDERS)]
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
            sender.done.set()
        for sender in senders:
            sender.join()

    with site.way_in(SERVICE) as port:
        taken = here.empty(port)
    for sender in senders:
        assert sender.receipts <= taken.keys()
    sent = {name: text for sender in senders for name, text in sender.sent.items()}
    # Of those without a receipt too, none is torn.
    assert taken == {name: sent[name] for name in taken}


def under_load(senders):
    begun = [len(sender.receipts) for sender in senders]

    def all_went_on():
        return all(len(sender.receipts) >= count + RECEIPTS for sender, count in zip(senders, begun))

    eventually(all_went_on, "receipts for every sender")
