"""What these tests share: where things are, and what the programs can be told."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILT = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / os.environ.get("PROFILE", "debug")
DEPLOY = PROJECT / "deploy"
VERSION = re.search(r'^version = "(.*)"', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]
# A bound on waiting for a condition; nothing waits for time.
SECONDS = 30

# Each image that is a service, with its program.
SERVICES = {"tentacle-receiver", "tentacle-proxy", "tentacle-sync-puller"}
IMAGES = {*SERVICES, "tentacle"}


@functools.cache
def options(program):
    shown = subprocess.run([BUILT / program, "--help"], capture_output=True, text=True, timeout=SECONDS, check=True)
    return set(re.findall(r"--[a-z0-9-]+", shown.stdout))


def unknown(program, variables):
    """Variables that no option of the program has."""
    told = {"--" + name.removeprefix("TENTACLE_").lower().replace("_", "-") for name in variables}
    return told - options(program)


def schema_errors(schema, *paths):
    """What a published schema says against files, if anything."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    return "" if done.returncode == 0 else done.stdout + done.stderr
