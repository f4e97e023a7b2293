"""What is rendered for a few releases, whole, so that a change of it is seen."""

import pytest
import yaml
from conftest import CASES, HERE, render, values_of

SNAPSHOTS = HERE / "snapshots"
HELD = [case for case, path in CASES.items() if path.parent == HERE / "values"]


@pytest.mark.parametrize("held", HELD)
def test_it_is_rendered_as_before(held, update):
    snapshot = SNAPSHOTS / f"{held}.yaml"
    rendered = written(render(values_of(held)))
    if update:
        snapshot.write_text(rendered)
    assert snapshot.read_text() == rendered, "if that is meant: tests/chart/run --update"


def test_each_snapshot_has_its_case():
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(HELD)


def written(manifests):
    ordered = sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))
    notes = "".join(f"# {line}".rstrip() + "\n" for line in manifests.notes.strip().splitlines())
    return notes + yaml.dump_all(ordered, Dumper=Readable, sort_keys=False, width=140, allow_unicode=True, explicit_start=True)


class Readable(yaml.SafeDumper):
    """Writes a text of several lines as lines."""

    def represent_str(self, text):
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Readable.add_representer(str, Readable.represent_str)
