"""
The chart's README, made of README.md.gotmpl and of the comments of values.yaml
in the form of helm-docs: `# -- text` above a key, `# @default -- text` below
that where the value does not say enough.
"""

import json

import yaml

SECTION = '{{ template "chart.valuesSection" . }}'


class Undocumented(Exception):
    pass


def readme(chart):
    """The text, for the chart in that folder. Raises Undocumented for a value without a comment."""
    text = (chart / "values.yaml").read_text()
    rows = list(values(yaml.compose(text), text.splitlines(), ()))
    template = (chart / "README.md.gotmpl").read_text()
    assert template.count(SECTION) == 1
    return template.replace(SECTION, "\n".join(table(rows)))


def values(node, lines, path):
    """The path, the text and the default of each value that is documented, or is in one that is."""
    for key, value in node.value:
        here = (*path, key.value)
        said, default = comment(lines, key.start_mark.line)
        inner = isinstance(value, yaml.MappingNode) and value.value
        if said:
            yield here, said, default or f"`{json.dumps(plain(value), ensure_ascii=False)}`"
        elif inner:
            yield from values(value, lines, here)
        else:
            raise Undocumented("/".join(here))


def comment(lines, line):
    above = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].strip().removeprefix("#").strip())
    said = " ".join(text.removeprefix("-- ") for text in above if text.startswith("-- "))
    default = " ".join(text.removeprefix("@default -- ") for text in above if text.startswith("@default -- "))
    return said, default


def plain(node):
    return yaml.SafeLoader("").construct_document(node)


def table(rows):
    yield "## Values"
    section = None
    for path, said, default in rows:
        if (path[0] if path[0] in OWN else "") != section:
            section = path[0] if path[0] in OWN else ""
            yield ""
            yield f"### {OWN.get(section, 'For all components')}"
            yield ""
            yield "| key | meaning | default |"
            yield "|---|---|---|"
        cells = (f"`{'.'.join(path)}`", said, default)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


OWN = {
    "receiver": "`receiver`",
    "proxy": "`proxy`",
    "syncPuller": "`syncPuller`",
    "tests": "`helm test`",
    "otel": "OpenTelemetry",
    "metrics": "Metrics",
    "extraObjects": "More objects",
}
