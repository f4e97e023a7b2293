#!/usr/bin/env python3
"""Measures the images that `make images` made, and prints a table.

Each is started in a container by podman where that works here, and else its
program is started as it stands in the image. It is ready when /readyz says so.
Needs nothing but Python; the images' archives are in target/images.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
IMAGES = PROJECT / "target" / "images"
# Each image's program, and what it is told beside its ports: a source and an upstream are there to be found.
PROGRAMS = {
    "tentacle-receiver": ["tentacle-receiver"],
    "tentacle-proxy": ["tentacle-proxy", "--proxy-ip", "127.0.0.1:{source}"],
    "tentacle-sync-puller": ["tentacle-sync-puller", "--incoming-dir", "{folder}", "--sync-address", "127.0.0.1:{source}"],
    "tentacle": ["tentacle_server", "--directory", "{folder}"],
}
STARTS = 5
PATIENCE = 30
# What an image may have at most, in MB, and a start, in ms.
LARGEST = {"tentacle-sync-puller": 12}
LARGEST_OTHERS = 10
SLOWEST = 100


def main():
    archives = {name: IMAGES / f"{name}.tar" for name in PROGRAMS}
    missing = [str(archive) for archive in archives.values() if not archive.is_file()]
    if missing:
        sys.exit(f"error: {', '.join(missing)}: not there: 'make images' makes them")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for archive in archives.values():
            unpack(archive, folder)
        podman = Podman.where_it_works(archives.values(), folder)
        with source(folder) as port:
            rows = [row(name, archives[name], folder, port, podman) for name in PROGRAMS]
    print(f"{'image':<22}{'size, MB':>10}{'program ready, ms':>19}{'container ready, ms':>21}{'memory at rest, MB':>20}")
    for name, size, alone, contained, memory in rows:
        shown = "-" if contained is None else f"{contained:.0f}"
        print(f"{name:<22}{size:>10.2f}{alone:>19.0f}{shown:>21}{memory:>20.1f}")
    how = "the second from 'podman start' on, which costs some itself" if podman else "no podman works here: programs alone"
    print(f"median of {STARTS} starts until /readyz says so; {how}")
    slips = [f"{name}: {size:.2f} MB, allowed are {most(name)}" for name, size, *_ in rows if size > most(name)]
    slips += [f"{name}: ready after {alone:.0f} ms, allowed are {SLOWEST}" for name, _, alone, *_ in rows if alone > SLOWEST]
    sys.exit("\n".join(f"error: {slip}" for slip in slips) or 0)


def most(name):
    return LARGEST.get(name, LARGEST_OTHERS)


def row(name, archive, folder, port, podman):
    size = archive.stat().st_size / 1e6
    alone = [start(Alone(folder), name, port) for _ in range(STARTS)]
    contained = [start(podman, name, port) for _ in range(STARTS)] if podman else []
    milliseconds = [statistics.median(ms for ms, _ in runs) if runs else None for runs in (alone, contained)]
    return name, size, *milliseconds, statistics.median(mb for _, mb in contained or alone)


def start(way, name, port):
    """Milliseconds until it is ready, and megabytes of memory then."""
    program, *arguments = PROGRAMS[name]
    tentacle, http_port = free_port(), free_port()
    variables = {"TENTACLE_HTTP_ADDR": f"127.0.0.1:{http_port}"}
    if name != "tentacle-sync-puller":
        variables |= {"TENTACLE_ADDRESSES": "127.0.0.1", "TENTACLE_PORT": str(tentacle)}
    with way.started(name, program, [part.format(source=port, folder=way.files) for part in arguments], variables) as (begun, pid):
        ready = until_ready(http_port, f"{name}, {way.name}")
        return (ready - begun) * 1000, memory(pid())


class Alone:
    """The program as it stands in the image."""

    name = "its program alone"

    def __init__(self, folder):
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def started(self, _name, program, arguments, variables):
        given = {"TENTACLE_DIRECTORY": str(self.files), **variables}
        if program != "tentacle-receiver":
            del given["TENTACLE_DIRECTORY"]
        begun = time.monotonic()
        process = subprocess.Popen([self.folder / program, *arguments], env=given, stderr=subprocess.DEVNULL)
        try:
            yield begun, lambda: process.pid
        finally:
            process.terminate()
            process.wait(PATIENCE)


class Podman:
    """Containers in a storage of their own, on this machine's network."""

    name = "in a container"
    files = "/var/spool/tentacle"

    def __init__(self, scratch):
        self.base = ["podman", "--root", scratch / "storage", "--runroot", scratch / "run", "--storage-driver", "vfs"]
        self.base += ["--cgroup-manager", "cgroupfs", *(["--runtime", "runc"] if shutil.which("runc") else [])]

    @classmethod
    def where_it_works(cls, archives, folder):
        podman = cls(folder / "podman")
        try:
            for archive in archives:
                podman.call("load", "--quiet", "--input", archive)
            podman.call("run", *podman.options(), "--rm", podman.image("tentacle"), "tentacle_client", "--version")
        except (OSError, subprocess.SubprocessError):
            return None
        return podman

    @contextlib.contextmanager
    def started(self, name, program, arguments, variables):
        told = [f"--env={key}={value}" for key, value in variables.items()]
        command = [program] if name == "tentacle" else []
        made = self.call("create", *self.options(), *told, self.image(name), *command, *arguments).strip()
        try:
            begun = time.monotonic()
            starting = subprocess.Popen([*self.base, "start", made], stdout=subprocess.DEVNULL)
            yield begun, lambda: (starting.wait(PATIENCE), int(self.call("inspect", "--format={{.State.Pid}}", made)))[1]
        finally:
            self.call("rm", "--force", "--volumes", made)

    def options(self):
        # The bounds that a container gets else are more than some machines let podman set.
        return ["--network=host", "--read-only", "--cap-drop=all", f"--volume={self.files}", "--ulimit=nofile=20000:20000", "--ulimit=nproc=1000:1000"]

    def image(self, name):
        tags = json.loads(self.call("images", "--format=json"))
        return next(tag for image in tags for tag in image["Names"] if f"/{name}:" in tag)

    def call(self, *arguments):
        done = subprocess.run([*self.base, *arguments], capture_output=True, text=True, timeout=120, check=True)
        return done.stdout


@contextlib.contextmanager
def source(folder):
    """A buffer that has nothing, for the puller and the proxy."""
    files = folder / "buffer"
    files.mkdir()
    port = free_port()
    command = [folder / "tentacle-receiver", "--insecure", "--directory", files, "--addresses", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env={}, stderr=subprocess.DEVNULL)
    try:
        until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() or True, "the buffer")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def until_ready(port, name):
    def asked():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200

    return until(asked, name)


def until(condition, what):
    """The moment at which it is first true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return time.monotonic()
        time.sleep(0.001)
    sys.exit(f"error: {what}: not ready after {PATIENCE} s")


def memory(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1000


def free_port():
    """Below those that connections get, whose ends may hold one for a minute more."""
    while True:
        with contextlib.closing(socket.socket()) as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", random.randrange(20000, 32000)))
            return free.getsockname()[1]


def unpack(archive, folder):
    """Takes the programs out of an image."""
    with tarfile.open(archive) as image:
        for layer in json.load(image.extractfile("manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                for file in files:
                    if file.isfile():
                        path = folder / Path(file.name).name
                        path.write_bytes(files.extractfile(file).read())
                        os.chmod(path, 0o755)
                    elif file.issym():
                        (folder / Path(file.name).name).symlink_to(file.linkname)


if __name__ == "__main__":
    main()
