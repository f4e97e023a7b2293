"""The units of deploy/systemd: systemd takes them, and finds little to hold against them."""

import re
import shutil
import subprocess

import pytest
from conftest import BUILT, DEPLOY, SECONDS, SERVICES, unknown

FOLDER = DEPLOY / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
# systemd's own measure: 0 is nothing to hold against a unit, 10 is everything.
MOST_EXPOSED = 1.3

analyse = shutil.which("systemd-analyze")
with_systemd = pytest.mark.skipif(analyse is None, reason="systemd-analyze is not installed")


def test_each_service_has_a_unit():
    assert set(UNITS) == {f"{name}.service" for name in SERVICES}
    assert {path.parent.name for path in FOLDER.glob("*.d/mutual-tls.conf")} == {f"{name}.service.d" for name in SERVICES}


@pytest.fixture
def folder(tmp_path):
    """The units with their drop-ins, and with the programs that were built."""
    for path in FOLDER.rglob("*.*"):
        if path.suffix in (".service", ".conf"):
            copy = tmp_path / path.relative_to(FOLDER)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(path.read_text().replace("/usr/bin/", f"{BUILT}/"))
    return tmp_path


def systemd(folder, *arguments):
    command = [analyse, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder, env={"SYSTEMD_UNIT_PATH": f"{folder}:"})


@with_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_it(unit, folder):
    done = systemd(folder, "verify", f"./{unit}")
    # It warns of a word that it does not know and passes over it.
    assert (done.returncode, done.stderr) == (0, "")


@with_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_it_is_not_exposed(unit, folder):
    done = systemd(folder, "security", "--offline=true", f"./{unit}")
    exposed = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposed and float(exposed[1]) <= MOST_EXPOSED, done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_hardened_as_the_others_are(unit):
    hardening = (FOLDER / unit).read_text().partition("\n\n# The service sees")[2]
    first = (FOLDER / UNITS[0]).read_text().partition("\n\n# The service sees")[2]
    # The data server is of the group of the incoming folder.
    assert hardening.replace("UMask=0027", "UMask=0077") == first != ""


@pytest.mark.parametrize("unit", UNITS)
def test_its_program_understands_what_it_is_told(unit):
    program = unit.removesuffix(".service")
    told = (FOLDER / unit).read_text() + (FOLDER / f"{unit}.d" / "mutual-tls.conf").read_text()
    assert f"\nExecStart=/usr/bin/{program}\n" in told
    variables = re.findall(r"(?m)^Environment=(TENTACLE_\w+)=", told)
    assert variables and not unknown(program, variables)
    # Each credential is used, and there is none that is not.
    assert set(re.findall(r"%d/(\S+)", told)) == set(re.findall(r"LoadCredential=([^:]+):", told))


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_stopped_later_than_it_cuts_transfers(unit):
    program = unit.removesuffix(".service")
    shown = subprocess.run([BUILT / program, "--help"], capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    drain = re.search(r"--drain-timeout.*?\[default: (\d+)\]", shown, re.DOTALL)
    assert int(re.search(r"TimeoutStopSec=(\d+)", (FOLDER / unit).read_text())[1]) > int(drain[1])
