"""The alerts: Prometheus takes them, each fires and clears, and the page on operations says what to do."""

import re

import pytest
import yaml
from conftest import ALERTS, OPERATIONS, promtool, until
from test_metrics import TABLE

RULES = [rule for group in yaml.safe_load((ALERTS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
TESTS = yaml.safe_load((ALERTS / "alerts.test.yaml").read_text())["tests"]
NAMES = [rule["alert"] for rule in RULES]


def test_prometheus_takes_them():
    status, said = promtool("check", "rules", ALERTS / "alerts.yaml")
    assert status == 0 and f"{len(RULES)} rules found" in said, said


def test_prometheus_takes_the_configuration_of_the_page(tmp_path):
    (config,) = re.findall(r"^```yaml\n(rule_files:.*?)^```", OPERATIONS, re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(config)
    (tmp_path / "alerts.yaml").write_text((ALERTS / "alerts.yaml").read_text())
    status, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert status == 0 and f"{len(RULES)} rules found" in said, said


def test_each_fires_and_clears_as_it_shall():
    status, said = promtool("test", "rules", ALERTS / "alerts.test.yaml")
    assert status == 0, said


@pytest.mark.parametrize("name", NAMES)
def test_each_is_seen_to_fire_and_to_clear_again(name):
    for test in TESTS:
        seen = [bool(one.get("exp_alerts")) for one in test["alert_rule_test"] if one["alertname"] == name]
        if True in seen:
            assert seen[-1] is False, f"{name}: not seen to clear"
            return
    pytest.fail(f"{name}: not seen to fire")


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_has_a_section_of_the_page(rule):
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    sections = re.findall(r"^### (.*)$", OPERATIONS, re.MULTILINE)
    # As a heading becomes an anchor.
    anchors = [re.sub(r"[^\w -]", "", section).replace(" ", "-").lower() for section in sections]
    assert page == "docs/operations.md" and anchor in anchors
    assert f"`{rule['alert']}`" in OPERATIONS


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_each_asks_for_metrics_that_there_are(rule):
    for metric in re.findall(r"tentacle_\w+", rule["expr"]):
        assert metric in TABLE or metric.removesuffix("_bucket") in TABLE, metric


def test_they_see_the_one_source_that_is_dead(prometheus):
    def pending():
        groups = prometheus.ask("rules", type="alert")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert set(rules) == set(NAMES) and not any(rule.get("lastError") for rule in rules.values())
        return [alert["labels"]["source"] for alert in rules["TentacleSourceSilent"]["alerts"]]

    dead = until(pending, "TentacleSourceSilent is not pending")
    assert len(dead) == 1 and dead[0].startswith("127.0.0.12")
