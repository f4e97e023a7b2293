"""The programs that were built understand what the chart tells them."""

import contextlib
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT, environment, render, values_of

BUILT = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / os.environ.get("PROFILE", "debug")
PROGRAMS = {
    "receiver": "tentacle-receiver",
    "proxy": "tentacle-proxy",
    "sync-puller": "tentacle-sync-puller",
    "check": "tentacle_client",
}
SECONDS = 30
# What needs a cluster, which is not in reach here.
OF_KUBERNETES = {f"TENTACLE_{name}" for name in ("COORDINATION", "LEASE_NAME", "SHARDS", "LEASE_DURATION", "IDENTITY", "CUSTOM_RESOURCES")}


def containers(case):
    for _, _, pod in render(values_of(case)).pods():
        yield pod["containers"][0]


@pytest.mark.parametrize("program", PROGRAMS.values())
def test_the_programs_are_built(program):
    assert (BUILT / program).is_file(), "build them first: cargo build --workspace --bins"


def test_each_variable_is_an_option_of_the_program(case):
    for container in containers(case):
        # OpenTelemetry's are its specification's.
        own = [name for name in environment(container) if not name.startswith(("OTEL_", "K8S_"))]
        told = {"--" + name.removeprefix("TENTACLE_").lower().replace("_", "-") for name in own}
        told |= {word for word in container.get("command", []) if word.startswith("--")}
        assert told - options(container["name"]) == set()


def options(name):
    shown = subprocess.run([BUILT / PROGRAMS[name], "--help"], capture_output=True, text=True, timeout=SECONDS, check=True)
    return set(re.findall(r"--[a-z0-9-]+", shown.stdout))


@pytest.mark.parametrize("chosen", ["all", "locked-down-site", "no-persistence", "values-isolated-site"])
def test_the_receiver_and_the_proxy_start_with_the_environment(chosen, mounted):
    for container in containers(chosen):
        if container["name"] not in ("receiver", "proxy"):
            continue
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = mounted(environment(container)) | {"TENTACLE_PORT": str(port)}
        with started(container["name"], variables) as process:
            lines = []
            while not any("listening" in line for line in lines):
                line = process.stderr.readline()
                assert line, f"{container['name']} ended: {lines}"
                lines.append(line)
            process.terminate()
            assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("chosen", ["all", "ten-sources", "values-centre", "values-forward"])
def test_the_puller_takes_the_file_of_its_sources(chosen, mounted):
    manifests = render(values_of(chosen))
    file = next(m["data"]["sources.yaml"] for m in manifests.of("ConfigMap") if "sources.yaml" in m.get("data", {}))
    # No name is looked up and no network is reached: each source is a port of this machine that nobody listens on.
    numbers = iter(range(1, 100))
    file = re.sub(r"(?m)^(- |  )address: .*$", lambda found: f"{found[1]}address: 127.0.0.1:{next(numbers)}", file)
    variables = mounted(environment(next(c for c in containers(chosen) if c["name"] == "sync-puller")), file)
    variables = {name: value for name, value in variables.items() if name not in OF_KUBERNETES}
    with started("sync-puller", variables, "--once") as process:
        _, said = process.communicate(timeout=SECONDS)
    assert '"message":"pulling","sources":' in said, said
    # Tried, and nobody was there.
    assert process.returncode == 1 and said.count('"round failed"') == file.count("address: "), said


@contextlib.contextmanager
def started(name, variables, *arguments):
    process = subprocess.Popen(
        [BUILT / PROGRAMS[name], *arguments], env=variables, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def mounted(tmp_path):
    """Puts in a folder what a pod has mounted, and has variables point there."""

    def here(text):
        return text.replace("/etc/tentacle", f"{tmp_path}/etc").replace("/var/spool/tentacle", f"{tmp_path}/spool")

    def mount(variables, sources=""):
        variables = {name: here(value.replace("$$", "$")) for name, value in variables.items() if value is not None}
        # No more than this machine may have.
        variables["TENTACLE_ADDRESSES"] = "127.0.0.1"
        variables["TENTACLE_HTTP_ADDR"] = "127.0.0.1:0"
        said = "\n".join([*variables.values(), sources and here(sources)])
        (tmp_path / "spool").mkdir(exist_ok=True)
        for name in set(re.findall(re.escape(str(tmp_path)) + r"/etc/[\w./-]+", said)):
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content(path, here(sources)))
        return variables

    return mount


def content(path, sources):
    match path.name:
        case "tls.crt" | "ca.crt":
            return PAIR[0]
        case "tls.key":
            return PAIR[1]
        case "sources.yaml":
            return sources
        case "hosts.allow" | "hosts.deny":
            return "tentacle_server: 10.9.\n"
        case _:
            return "hush\n"


def pair():
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=buffer", "-addext", "subjectAltName=DNS:buffer", "-keyout", "-", "-out", "-"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout
    blocks = {found[1]: found[0] for found in re.finditer(r"-----BEGIN (.*?)-----.*?-----END \1-----\n", made, re.DOTALL)}
    return blocks["CERTIFICATE"], blocks["PRIVATE KEY"]


PAIR = pair()
