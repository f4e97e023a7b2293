"""
The form of a dashboard for Grafana 10 or newer: what a panel, a variable and a
link are in its JSON. What stands in them is in dashboards.py.
"""

import json
from urllib.parse import quote

# A row of Grafana's grid.
WIDTH = 24
# Where the metrics and the traces come from: the user picks.
METRICS = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(name, title, about, service, marker, rows):
    """
    `service` is the `service.name` of the traces that it links to, `marker` a
    metric that only the processes in question have. `rows` are lists of panels.
    """
    return {
        "uid": f"tentacle-{name}",
        "title": f"Tentacle: {title}",
        "description": about,
        "tags": ["tentacle"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables(marker)},
        "annotations": {"list": []},
        "links": [
            {"type": "dashboards", "title": "Tentacle", "tags": ["tentacle"], "asDropdown": True, "keepTime": True, "includeVars": True},
            {"type": "link", "title": "Traces", "icon": "external link", "targetBlank": True, "url": traces(f'resource.service.name="{service}"')},
        ],
        "panels": list(placed(rows)),
    }


def variables(marker):
    scope = 'namespace=~"$namespace", job=~"$job"'
    return [
        {"name": "datasource", "label": "Metrics", "type": "datasource", "query": "prometheus"},
        {"name": "traces", "label": "Traces", "type": "datasource", "query": "tempo"},
        # Outside of Kubernetes nothing has a namespace: "all" is also that.
        choice("namespace", "Namespace", "label_values(tentacle_build_info, namespace)", allValue=".*"),
        choice("job", "Job", 'label_values(tentacle_build_info{namespace=~"$namespace"}, job)', allValue=".*"),
        # "All" is these and no more: others have metrics of the same names.
        choice("instance", "Instance", f"label_values({marker}{{{scope}}}, instance)"),
    ]


def choice(name, label, query, **more):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": METRICS,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        **more,
    }


def traces(condition):
    """Where Grafana shows the spans that meet a condition of TraceQL."""
    query = {"refId": "A", "queryType": "traceql", "limit": 50, "query": f"{{ {condition} }}"}
    pane = {"datasource": "${traces}", "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}
    # Variables are Grafana's to fill in: its marks stay as they are.
    return "/explore?schemaVersion=1&panes=" + quote(json.dumps({"tentacle": pane}), safe="${}:")


def placed(rows):
    number, top = 0, 0
    for row in rows:
        height = row[0].pop("height")
        for place, panel in enumerate(row):
            panel.pop("height", None)
            number += 1
            left, right = (WIDTH * edge // len(row) for edge in (place, place + 1))
            yield {"id": number, **panel, "gridPos": {"x": left, "y": top, "w": right - left, "h": height}}
        top += height


def heading(title):
    return [{"type": "row", "title": title, "collapsed": False, "panels": [], "height": 1}]


def figure(title, query, about, unit="short", bad=None, good=None, words=None, decimals=None):
    """One number. It is red from `bad` on, or below `good`."""
    steps = [{"color": "green", "value": None}]
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    if good is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": good}]
    return panel(
        "stat",
        title,
        about,
        unit,
        [query],
        4,
        defaults={"thresholds": {"mode": "absolute", "steps": steps}, "mappings": mappings(words), "decimals": decimals},
        options={"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}},
    )


def mappings(words):
    if not words:
        return []
    return [{"type": "value", "options": {str(value): {"text": text, "color": color} for value, (text, color) in words.items()}}]


def graph(title, queries, about, unit="short", stacked=False):
    """Lines over time. `queries` are pairs of a query and what a line is called."""
    custom = {"fillOpacity": 20 if stacked else 5, "showPoints": "never", "stacking": {"mode": "normal" if stacked else "none"}}
    return panel(
        "timeseries",
        title,
        about,
        unit,
        [query for query, _ in queries],
        8,
        legends=[legend for _, legend in queries],
        defaults={"custom": custom, "min": 0},
        options={"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    )


def table(title, key, columns, about, link):
    """A row for each value of the label `key`. `columns` are (title, query, unit, bounds, words); `link` is (title, url)."""
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    overrides = [by_name(key, ("links", [{"title": link[0], "url": link[1], "targetBlank": True}]))]
    for name, _, unit, bounds, words in columns:
        properties = [("unit", unit), ("mappings", mappings(words))]
        if bounds or words:
            properties.append(("custom.cellOptions", {"type": "color-text"}))
        if bounds:
            steps = [{"color": color, "value": value} for color, value in zip(("green", "orange", "red"), (None, *bounds))]
            properties.append(("thresholds", {"mode": "absolute", "steps": steps}))
        overrides.append(by_name(name, *properties))
    shown = panel("table", title, about, "short", [query for _, query, *_ in columns], 10, overrides=overrides, options={"showHeader": True})
    for target in shown["targets"]:
        target |= {"format": "table", "instant": True, "range": False}
    order = [key, *(f"Value #{letter}" for letter in letters)]
    shown["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": {f"Value #{letter}": name for letter, (name, *_) in zip(letters, columns)},
            },
        },
    ]
    return shown


def by_name(name, *properties):
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": id, "value": value} for id, value in properties]}


def panel(kind, title, about, unit, queries, height, legends=None, defaults=None, overrides=None, options=None):
    assert about, f"{title}: say what to do about it"
    targets = [
        {"refId": chr(ord("A") + number), "datasource": METRICS, "expr": query, **({"legendFormat": legends[number]} if legends else {})}
        for number, query in enumerate(queries)
    ]
    defaults = {key: value for key, value in (defaults or {}).items() if value is not None}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": METRICS,
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": overrides or []},
        "options": options or {},
        "targets": targets,
        "height": height,
    }
