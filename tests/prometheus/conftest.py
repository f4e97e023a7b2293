"""What these tests share: a centre and a site that are at work, and a Prometheus that scrapes them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BUILT = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / os.environ.get("PROFILE", "debug")
AGENT_FILES = sorted((PROJECT / "tests" / "data" / "agent").glob("*.data"))
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
GRAFANA = PROJECT / "deploy" / "grafana"
ALERTS = PROJECT / "deploy" / "prometheus"
# A bound on waiting for a condition; nothing waits for time.
SECONDS = 30

sys.path.insert(0, str(GRAFANA))


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write the dashboards anew")


def promtool(*arguments, **more):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=SECONDS, **more)
    return done.returncode, done.stdout + done.stderr


def until(condition, why):
    """What `condition` says, once it says something."""
    ends = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {SECONDS} s: {why() if callable(why) else why}"
        time.sleep(0.05)
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Service:
    """A program that is at work, with what its log says."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def said(self, message, pattern):
        """What stands in the log after a line's message."""

        def look():
            assert self.process.poll() is None, self.log.read_text()
            for line in self.log.read_text().splitlines():
                if message in line and (found := re.search(pattern, line)):
                    return found[1]

        return until(look, lambda: f"{message}: {self.log.read_text()}")

    def page(self, media_type="text/plain"):
        asked = Request(f"http://{self.http}/metrics", headers={"Accept": media_type})
        with urlopen(asked, timeout=SECONDS) as answer:
            assert answer.headers["Content-Type"].startswith(media_type)
            return answer.read().decode()


@contextmanager
def service(place, program, *options):
    log = place / f"{program}.log"
    # A collector that nobody is: what is dropped is counted.
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    command = [BUILT / program, *map(str, options), "--http-addr", "127.0.0.1:0", "--log-format", "json"]
    with open(log, "w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        one = Service(process, log)
        one.name, one.http = program, one.said("answering HTTP", ADDRESS)
        if program != "tentacle-sync-puller":
            one.address = one.said("listening", ADDRESS)
        yield one
    finally:
        process.terminate()
        process.wait(SECONDS)


ADDRESS = r'"address":"([^"]+)"'


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="session")
def services(place):
    """
    A receiver, a proxy before it, and a puller, by TLS, while an agent sends
    without an end, and others come that are refused. One source is dead.
    """
    certificate, key = place / "own.pem", place / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]
        + ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key],
        check=True, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    listens = ["-a", "127.0.0.1", "-e", certificate, "-k", key, "--allow", "127.0.0.1"]
    bounded = ["-i", ".*old:old", "--expire", "old=1s", "--spool-max-files", 9999, "--spool-max-bytes", 999999]
    (place / "spool").mkdir()
    (place / "incoming").mkdir()
    with ExitStack() as stack:
        start = lambda *command: stack.enter_context(service(place, *command))
        receiver = start("tentacle-receiver", *listens, "-p", free_port(), "-I", "-o", "-s", place / "spool", *bounded)
        proxy = start("tentacle-proxy", *listens, "-p", free_port(), "-b", receiver.address, "--upstream-tls", "--upstream-ca", certificate, "--inspect")
        dead = f"127.0.0.12:{receiver.address.rpartition(':')[2]}"
        puller = start(
            "tentacle-sync-puller", "--sync-address", f"{receiver.address},{dead}", "--sync-ca", certificate, "--sync-timeout", 1,
            "--sync-retries", 0, "--server-name", "127.0.0.1", "--incoming-dir", place / "incoming", "--interval", 1,
        )  # fmt: skip
        ended = threading.Event()
        agents = stack.enter_context(ThreadPoolExecutor(1)).submit(send, ended, place, receiver.address, proxy.address)
        # Whatever stopped them is told.
        stack.callback(lambda: agents.result(SECONDS))
        stack.callback(ended.set)
        yield {one.name.removeprefix("tentacle-"): one for one in (receiver, proxy, puller)}


def send(ended, place, receiver, proxy):
    """Agents' files, and connections that no one lets in, until it is told to end."""
    number = 0
    (place / "soon.old").write_text("old")
    (place / "too.much").write_bytes(bytes(1000000))
    while not ended.wait(0.1):
        for address in (receiver, proxy):
            number += 1
            for agent_file in AGENT_FILES:
                shutil.copy(agent_file, place / f"web01.{number}{agent_file.name.split('.')[1]}.data")
            files = list(place.glob("web01.*.data"))
            host, port = address.split(":")
            command = [BUILT / "tentacle_client", "-a", host, "-p", port, "-c", *files]
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
            # One that expires, and one that there is no room for.
            for more in ("soon.old", "too.much"):
                subprocess.run([*command[:6], place / more], capture_output=True, timeout=SECONDS)
            for sent in files:
                sent.unlink()
            with suppress(OSError), socket.create_connection((host, port), SECONDS, ("127.0.0.2", 0)) as stranger:
                stranger.recv(1)
            with suppress(OSError), socket.create_connection((host, port), SECONDS) as plain:
                plain.sendall(b"QUIT\n")
                plain.recv(1)


class Prometheus:
    def __init__(self, address):
        self.address = address

    def ask(self, what, **parameters):
        with urlopen(f"http://{self.address}/api/v1/{what}?{urlencode(parameters, doseq=True)}", timeout=SECONDS) as answer:
            return json.load(answer)["data"]

    def series(self, query):
        return self.ask("query", query=query)["result"]


@pytest.fixture(scope="session")
def prometheus(place, services):
    jobs = [{"job_name": name, "static_configs": [{"targets": [one.http]}]} for name, one in services.items()]
    # JSON is YAML.
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": [str(ALERTS / "alerts.yaml")], "scrape_configs": jobs}
    (place / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file", place / "prometheus.yml", "--storage.tsdb.path", place / "tsdb", "--web.listen-address", address]
    with open(place / "prometheus.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    one = Prometheus(address)

    def scraped():
        assert process.poll() is None, (place / "prometheus.log").read_text()
        with suppress(OSError):
            # Two of each, so that there are rates, and a round of the puller between.
            counts = one.series("count_over_time(up[1m]) > 4 and on (instance) up == 1")
            fetched = one.series("rate(tentacle_source_files_total[5s]) > 0")
            return len(counts) == len(jobs) and fetched

    try:
        until(scraped, lambda: one.series("up"))
        yield one
    finally:
        process.terminate()
        process.wait(SECONDS)
