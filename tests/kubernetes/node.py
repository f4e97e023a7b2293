"""What no Kubernetes API does: to end the process of a pod at once, and to cut a pod off from the API server.

Both need the pod's node to be this machine, and to be its root.
"""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, kubectl


def process_of(pod, program):
    """The process of a pod's program; None where it is not on this machine, or not ours to touch."""
    uid = pod["metadata"]["uid"]
    for process in Path("/proc").glob("[0-9]*"):
        # One may end meanwhile; another user's does not say what it runs.
        with contextlib.suppress(OSError):
            groups = (process / "cgroup").read_text()
            if (uid in groups or uid.replace("-", "_") in groups) and Path(os.readlink(process / "exe")).name == program:
                return int(process.name)
    return None


def kill(pod, program):
    """As a power cut does, without a signal to stop; whether that was possible."""
    process = process_of(pod, program) if os.geteuid() == 0 else None
    if process:
        os.kill(process, signal.SIGKILL)
    return bool(process)


@contextlib.contextmanager
def cut_off(pod, program):
    """A pod that cannot reach the API server, nor be reached from there; all else can go on."""
    process = process_of(pod, program) if os.geteuid() == 0 else None
    if not process:
        pytest.skip("the pod's node is not this machine, or this user is not root")
    service = json.loads(kubectl("--namespace", "default", "get", "service", "kubernetes", "--output=json"))["spec"]["clusterIP"]
    rules = [("OUTPUT", "--destination", service), ("INPUT", "--source", service)]
    # It names the network: the process itself may end before the rules are taken away.
    with open(f"/proc/{process}/ns/net") as network:

        def iptables(action, rule):
            chain, *what = rule
            command = ["nsenter", f"--net=/proc/self/fd/{network.fileno()}", "iptables", "--wait", action, chain, *what, "--jump", "DROP"]
            subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, pass_fds=[network.fileno()])

        with contextlib.ExitStack() as undo:
            for rule in rules:
                iptables("--insert", rule)
                undo.callback(iptables, "--delete", rule)
            yield
