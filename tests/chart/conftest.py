"""What the tests of the chart share: Helm's own engine, and the cases."""

import json
import os
from pathlib import Path

import pytest
import yaml
from helm_python import Chart, _native

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "charts" / "tentacle"
HERE = Path(__file__).resolve().parent

# Each file of values is a case; those of HERE are held as snapshots too.
CASES = {path.stem: path for folder in (HERE / "values", PROJECT / "deploy" / "examples") for path in sorted(folder.glob("*.yaml"))}

OLDEST, NEWEST = "v1.20.2", "v1.28.0"


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write the snapshots and the chart's README anew")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES)


@pytest.fixture
def update(request):
    return request.config.getoption("--update")


def values_of(case):
    return yaml.safe_load(CASES[case].read_text()) or {}


def laid_over(below, above):
    """`above` over `below`, as Helm lays values over values."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}


class Manifests(list):
    """What a chart renders to: one dict an object, and the notes."""

    notes = ""

    def one(self, kind, name=None):
        found = [m for m in self if m["kind"] == kind and name in (None, m["metadata"]["name"])]
        assert len(found) == 1, f"{kind} {name or ''}: {[(m['kind'], m['metadata']['name']) for m in self]}"
        return found[0]

    def of(self, *kinds):
        return [m for m in self if m["kind"] in kinds]

    def pods(self):
        """Metadata and specification of each pod, by the name of what makes it."""
        for m in self:
            if m["kind"] == "Pod":
                yield m["metadata"]["name"], m["metadata"], m["spec"]
            elif "template" in m.get("spec", {}):
                template = m["spec"]["template"]
                yield m["metadata"]["name"], template["metadata"], template["spec"]


CHART_LOADED = Chart.load(os.fspath(CHART))


def texts(values=None, kube=NEWEST, name="site", namespace="edge", kinds=()):
    """By template. Called a step below `Chart.render`, which cannot say for which Kubernetes, and what it knows of operators."""
    options = {"name": name, "namespace": namespace, "kube_version": kube, "api_versions": list(kinds)}
    given = json.dumps(values or {}), json.dumps(options)
    return json.loads(_native.call_string("helm_render", CHART_LOADED._raw(), *given))


def render(values=None, kube=NEWEST, name="site", namespace="edge", kinds=()):
    """What `helm template` says, in objects."""
    manifests = Manifests()
    for path, text in sorted(texts(values, kube, name, namespace, kinds).items()):
        if path.endswith("NOTES.txt"):
            manifests.notes = text
        else:
            manifests += [m for m in yaml.load_all(text, Loader=Strict) if m]
    return manifests


class Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Refuses a key that stands twice in a map, of which one would be lost."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: {twice} twice"
        return super().construct_mapping(node, deep)


def environment(container):
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}
