"""Each dashboard shows something, in a Grafana that has what these tests have."""

import json
import re

import dashboards
import pytest
from conftest import GRAFANA, PROJECT, until

BOARDS = {path.name: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*.json"))}
GROUPS = {"stat", "timeseries", "table"}


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] in GROUPS]


def test_they_are_what_their_program_writes(request):
    for name, text in dashboards.all_texts().items():
        if request.config.getoption("--update"):
            (dashboards.PLACE / name).write_text(text)
        assert (dashboards.PLACE / name).read_text() == text, "write them anew: tests/prometheus/run --update"
    assert {path.name for path in dashboards.PLACE.iterdir()} == set(dashboards.all_texts()) == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_each_query_returns_something(name, prometheus):
    board = BOARDS[name]
    chosen = choices(board, prometheus)
    for panel in panels(board):
        for target in panel["targets"]:
            query = filled(target["expr"], chosen)
            # Rates need a second of each.
            numbers = lambda: [one for one in prometheus.series(query) if one["value"][1] != "NaN"]
            until(numbers, f"{panel['title']}: nothing for {query}")


@pytest.mark.parametrize("name", BOARDS)
def test_each_line_has_a_name_of_its_own(name, prometheus):
    board = BOARDS[name]
    chosen = choices(board, prometheus)
    for panel in panels(board):
        names = []
        for target in panel["targets"]:
            for series in prometheus.series(filled(target["expr"], chosen)):
                legend = target.get("legendFormat", target["refId"])
                names.append(re.sub(r"\{\{(\w+)\}\}", lambda label: series["metric"][label[1]], legend))
        if panel["type"] == "timeseries":
            assert len(set(names)) == len(names), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_only_the_processes_in_question_are_shown(name, prometheus):
    job = {"receiver.json": "receiver", "proxy.json": "proxy"}.get(name, "sync-puller")
    shown = choices(BOARDS[name], prometheus)["instance"]
    assert {one["metric"]["job"] for one in prometheus.series(f'up{{instance=~"{shown}"}}')} == {job}


@pytest.mark.parametrize("name", BOARDS)
def test_each_panel_says_what_to_do_and_fits(name):
    board = BOARDS[name]
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at.get("w", 24)) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"][-1] in ".?", panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("name", BOARDS)
def test_each_leads_to_the_traces_of_a_service_that_there_is(name):
    link = next(link for link in BOARDS[name]["links"] if link["title"] == "Traces")
    service = re.search(r"service\.name%3D%5C%22([a-z-]+)%5C%22", link["url"])[1]
    assert (PROJECT / "services" / service.removeprefix("tentacle-")).is_dir()


def choices(board, prometheus):
    """What the variables stand for where the user chooses "all"."""
    chosen = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            where, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            found = prometheus.ask(f"label/{label}/values", **{"match[]": filled(where, chosen)})
            chosen[variable["name"]] = variable.get("allValue") or "|".join(found)
    return chosen


def filled(query, chosen):
    query = query.replace("$__rate_interval", "10s")
    for name, value in chosen.items():
        query = query.replace(f'"${name}"', json.dumps(value))
    assert "$" not in query, query
    return query
