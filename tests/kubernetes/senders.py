"""Agents that send all the time."""

import contextlib
import socket
import threading
import time

SECONDS = 10


class Sender(threading.Thread):
    """Sends file after file over one connection, and over a new one when that breaks."""

    def __init__(self, site, target, number, pause=0):
        super().__init__(daemon=True)
        self.site = site
        self.target = target
        self.number = number
        # Seconds from one file to the next.
        self.pause = pause
        self.sent = {}
        # When each one came, by the clock that logs have: of these, none may be lost.
        self.receipts = {}
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            with contextlib.suppress(OSError), self.site.way_in(self.target) as port:
                with socket.create_connection(("127.0.0.1", port), SECONDS) as stream:
                    self.send_on(stream, stream.makefile("rb"))
            self.done.wait(0.2)

    def send_on(self, stream, replies):
        while not self.done.wait(self.pause):
            name = f"sender-{self.number}-{len(self.sent)}.data"
            text = self.sent[name] = f"{name}\n" * 200
            for given in (f"SEND <{name}> SIZE {len(text)}\n", text):
                stream.sendall(given.encode())
                if replies.readline() != b"SEND OK\n":
                    return
            self.receipts[name] = time.time()

    def stop(self):
        self.done.set()
        self.join()
