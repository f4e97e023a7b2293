"""The isolated network of deploy/compose: it is one, and its programs understand what they are told."""

import os
import shutil
import socket
import subprocess
import time

import pytest
import yaml
from conftest import BUILT, DEPLOY, IMAGES, SECONDS, VERSION, schema_errors, unknown

FOLDER = DEPLOY / "compose"
PROGRAMS = {"receiver": "tentacle-receiver", "agent": "tentacle_client", "puller": "tentacle-sync-puller"}
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def test_it_is_a_compose_file():
    assert not schema_errors("vendor.compose-spec", FOLDER / "compose.yaml")


def test_the_sites_network_reaches_nothing_and_nothing_listens_in_the_centre():
    assert COMPOSE["networks"]["site"] == {"internal": True}
    assert {name: service["networks"] for name, service in SERVICES.items()} == {
        "receiver": ["site"],
        "agent": ["site"],
        "puller": ["site", "centre"],
    }
    assert not any("ports" in service or "network_mode" in service for service in SERVICES.values())
    assert SERVICES["puller"]["environment"]["TENTACLE_HTTP_ADDR"].startswith("127.0.0.1:")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_container_has_what_it_needs_and_no_more(name):
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["pull_policy"] == "never"
    repository, _, tag = service["image"].partition(":")
    assert repository in IMAGES and tag == "${TENTACLE_TAG:-" + VERSION + "}"
    assert not unknown(PROGRAMS[name], service["environment"])
    told = {value.removeprefix("/run/secrets/") for value in service["environment"].values() if value.startswith("/run/secrets/")}
    assert told == set(service["secrets"]) <= set(COMPOSE["secrets"])


@pytest.fixture
def folder(tmp_path):
    """A copy of it, with secrets, for this machine too."""
    shutil.copytree(FOLDER, tmp_path / "compose", ignore=shutil.ignore_patterns("secrets"))
    assert make_secrets(tmp_path / "compose").returncode == 0
    return tmp_path / "compose"


def make_secrets(folder):
    return subprocess.run([folder / "secrets.sh", "127.0.0.1"], capture_output=True, text=True, timeout=SECONDS)


def test_the_secrets_are_those_that_the_file_names_and_are_made_once(folder):
    assert {f"./secrets/{path.name}" for path in (folder / "secrets").iterdir()} == {s["file"] for s in COMPOSE["secrets"].values()}
    assert (folder / "secrets").stat().st_mode & 0o77 == 0
    again = make_secrets(folder)
    assert again.returncode == 1
    assert again.stderr == f"error: {folder}/secrets is there: remove it to have new ones\n"


def test_a_file_goes_from_the_agent_to_the_centre(folder, tmp_path):
    buffer, incoming = tmp_path / "buffer", tmp_path / "incoming"
    buffer.mkdir()
    incoming.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def started(name, *arguments, **instead):
        # Without the names of the networks, and with this machine's paths.
        told = SERVICES[name]["environment"] | {"TENTACLE_PORT": str(port)} | instead
        told = {key: value.replace("/run/secrets", str(folder / "secrets")) for key, value in told.items() if key != "TENTACLE_HTTP_ADDR"}
        return subprocess.Popen([BUILT / PROGRAMS[name], *arguments], env=os.environ | told, stderr=subprocess.PIPE, text=True)

    receiver = started("receiver", "-a", "127.0.0.1", TENTACLE_DIRECTORY=str(buffer))
    try:
        until_listening(port)
        agent = started("agent", str(folder / "web01.1.data"), TENTACLE_ADDRESS="127.0.0.1")
        said = agent.communicate(timeout=SECONDS)[1]
        assert agent.returncode == 0, said
        source = {"TENTACLE_SYNC_ADDRESS": "127.0.0.1", "TENTACLE_SYNC_PORT": str(port)}
        puller = started("puller", "--once", TENTACLE_INCOMING_DIR=str(incoming), **source)
        said = puller.communicate(timeout=SECONDS)[1]
        assert puller.returncode == 0, said
    finally:
        receiver.terminate()
        receiver.communicate(timeout=SECONDS)
    assert (incoming / "web01.1.data").read_bytes() == (folder / "web01.1.data").read_bytes()
    assert not [path for path in buffer.iterdir() if path.name.endswith(".data")]


def until_listening(port):
    end = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, "the receiver does not listen"
            time.sleep(0.01)
