"""The chart's README says what values.yaml says."""

import pytest
import readme
from conftest import CHART, PROJECT


def test_it_is_made_of_the_comments_of_the_values(update):
    made = readme.readme(CHART)
    if update:
        (CHART / "README.md").write_text(made)
    assert (CHART / "README.md").read_text() == made, "make it anew: tests/chart/run --update"


def test_a_value_without_a_comment_is_found(tmp_path):
    (tmp_path / "README.md.gotmpl").write_text(readme.SECTION)
    (tmp_path / "values.yaml").write_text("a:\n  # -- known\n  b: 1\n  c: 2\n")
    with pytest.raises(readme.Undocumented, match="a/c"):
        readme.readme(tmp_path)


def test_a_default_can_be_told_in_words(tmp_path):
    (tmp_path / "README.md.gotmpl").write_text(readme.SECTION)
    (tmp_path / "values.yaml").write_text('a:\n  # -- One | two\n  # @default -- the version\n  b: ""\n')
    assert "| `a.b` | One \\| two | the version |" in readme.readme(tmp_path)


def test_the_chart_is_of_the_version_of_the_programs():
    workspace = (PROJECT / "Cargo.toml").read_text().partition("[workspace.package]")[2]
    version = workspace.partition('version = "')[2].partition('"')[0]
    chart = (CHART / "Chart.yaml").read_text().splitlines()
    assert f"appVersion: {version}" in chart and f"version: {version}" in chart
