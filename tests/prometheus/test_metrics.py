"""What the programs tell of themselves is what the page on operations says."""

import re

from conftest import OPERATIONS, promtool
from prometheus_client.openmetrics.parser import text_string_to_metric_families

# A row of the page's table: a metric, its labels, and whose it is.
ROW = re.compile(r"^\| `([a-z_]+)(?:\{([a-z_,]+)\})?` \| ([^|]+) \|", re.MULTILINE)
SECTION = OPERATIONS.partition("\n### Metrics\n")[2].partition("\n#")[0]
TABLE = {name: (set(labels.split(",")) - {""}, whose) for name, labels, whose in ROW.findall(SECTION)}


def scraped(page):
    """The labels of each metric, by its name."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    found = {name: set() for name in kinds}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? ", page, re.MULTILINE):
        base = re.sub("_(bucket|sum|count)$", "", name)
        name = base if kinds.get(base) == "histogram" else name
        found[name] |= set(re.findall(r'(\w+)="', labels)) - {"le"}
    return found


def test_promtool_finds_nothing_to_say(prometheus, services):
    for name, one in services.items():
        assert promtool("check", "metrics", input=one.page()) == (0, ""), name


def test_open_metrics_says_the_same_to_who_accepts_it(prometheus, services):
    for name, one in services.items():
        read = list(text_string_to_metric_families(one.page("application/openmetrics-text")))
        kinds = {(each.name + "_total" * (each.type == "counter"), each.type) for each in read}
        assert kinds == set(re.findall(r"^# TYPE (\S+) (\S+)$", one.page(), re.MULTILINE)), name


def test_each_metric_is_in_the_table_with_its_labels(prometheus, services):
    for name, one in services.items():
        for metric, labels in scraped(one.page()).items():
            assert metric in TABLE, f"{name}: {metric} is not in the table of docs/operations.md"
            assert labels <= TABLE[metric][0], f"{name}: {metric}"


def test_each_metric_of_the_table_is_there(prometheus, services):
    pages = {name: scraped(one.page()) for name, one in services.items()}
    for metric, (labels, whose) in TABLE.items():
        for name, page in pages.items():
            if name in whose or whose.startswith("all"):
                assert page.get(metric) == labels, f"{name}: {metric}"
            else:
                assert metric not in page, f"{name}: {metric} is said to be of {whose}"


def test_readiness_is_the_same_as_for_the_probe(prometheus, services):
    assert all(float(one["value"][1]) == 1 for one in prometheus.series("tentacle_ready"))


def test_no_label_holds_a_file_or_a_client(prometheus, services):
    for one in services.values():
        assert "web01" not in one.page() and "127.0.0.2" not in one.page()
