"""The workflows of the public repository: they are of the right form, and use what was looked at."""

import re

import pytest
import yaml
from conftest import PROJECT, schema_errors

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]


def test_each_is_a_workflow():
    assert not schema_errors("vendor.github-workflows", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_actions_are_named_by_their_commit(path):
    for line in path.read_text().splitlines():
        used = re.search(r"uses: (\S+)(.*)", line)
        if used and not used[1].startswith("./"):
            assert re.fullmatch(r"[^@]+@[0-9a-f]{40}", used[1]) and re.fullmatch(r" # v\d+\.\d+\.\d+", used[2]), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_job_may_do_what_it_is_given_alone_and_has_a_bound(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, job in workflow["jobs"].items():
        assert "uses" in job or "timeout-minutes" in job, name
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
