#!/usr/bin/env python3
"""
The dashboards: what is asked for, and how it is called. `dashboards.py` writes
them to charts/tentacle/files/dashboards, which deploy/grafana has links to.
"""

import json
from pathlib import Path

from panels import dashboard, figure, graph, heading, table, traces

PLACE = Path(__file__).resolve().parents[2] / "charts" / "tentacle" / "files" / "dashboards"
# The processes that the user has picked.
OF = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
READY = {1: ("ready", "green"), 0: ("not ready", "red")}
UP = {1: ("up", "green"), 0: ("silent", "red")}


def rate(metric, by="", where="", every=OF):
    """How fast a counter grows, added up."""
    labels = ", ".join(part for part in (every, where) if part)
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(of, metric, by=""):
    return f"histogram_quantile({of}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le')})"


def of_each(metric, by, aggregate="sum"):
    return f"{aggregate} by ({by}) ({metric}{{{OF}}})"


def whole(metric, aggregate="sum"):
    return f"{aggregate} ({metric}{{{OF}}})"


def most(query, number=20):
    """Those with the most: a thousand lines show nothing."""
    return f"topk({number}, {query})"


def ready():
    return figure(
        "Ready",
        whole('tentacle_ready', "min"),
        "Whether every check of /readyz passes, in every process. If not: the log has a line for the check that turned red, and /readyz?verbose says why.",
        good=1,
        words=READY,
    )


def not_sent():
    return graph(
        "Telemetry that was dropped",
        [(rate("tentacle_telemetry_dropped_total", "signal, reason"), "{{signal}}: {{reason}}")],
        "Spans, metrics and log lines that no collector took, a second. Nothing else suffers. If it goes on: is the collector there, and large enough?",
        "ops",
    )


def process():
    return [
        heading("Process"),
        [
            graph(
                "Processors in use",
                [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
                "1 is one processor busy all the time. Near the container's limit, everything waits: give it more.",
            ),
            graph(
                "Memory",
                [(of_each("process_resident_memory_bytes", "instance"), "{{instance}}")],
                "It follows the connections that are open, and never the size of files. Near the container's limit: allow fewer connections, or more memory.",
                "bytes",
            ),
            graph(
                "Descriptors in use",
                [(f"max by (instance) (process_open_fds{{{OF}}} / process_max_fds{{{OF}}})", "{{instance}}")],
                "Open files and connections, of what the system allows. Near 100 %, no connection is taken: raise the limit (ulimit -n).",
                "percentunit",
            ),
        ],
    ]


def certificates():
    return graph(
        "Days until certificates end",
        [(f"min by (instance) (tentacle_certificate_expiry_timestamp_seconds{{{OF}}} - time()) / 86400", "{{instance}}")],
        "The certificate of each process that ends first. Renew it in good time: the new file is in use without a restart.",
        "d",
    )


def connections():
    return [
        graph(
            "Connections",
            [
                (rate("tentacle_connections_accepted_total"), "came, a second"),
                (whole("tentacle_connections_open"), "open"),
                (whole("tentacle_connections_waiting"), "waiting"),
            ],
            "Connections that are served now, and how many come a second. At the most that is allowed (-c), more wait, and addresses take turns: raise it, or add a process.",
        ),
        graph(
            "Connections refused",
            [(rate("tentacle_connections_refused_total", "reason"), "{{reason}}")],
            "Connections that were not let in, a second, by why. `address`, `hosts`, `name`: who is it, and should it be allowed? `handshake`: see beside. `full`: raise -c.",
            "cps",
            stacked=True,
        ),
        graph(
            "TLS handshakes",
            [
                (quantile(0.99, "tentacle_handshake_seconds"), "99 of 100 take less"),
                (quantile(0.5, "tentacle_handshake_seconds"), "half take less"),
            ],
            "How long a handshake takes. Long ones: the processor is busy, or clients are far away.",
            "s",
        ),
        graph(
            "TLS handshakes failed",
            [(rate("tentacle_handshake_failures_total", "reason"), "{{reason}}")],
            "A second, by why. `no_certificate`, `certificate`: clients show none, or one that is not of the CA. `not_tls`: clients that speak plain.",
            "cps",
            stacked=True,
        ),
    ]


def files(title, words):
    return [
        graph(
            title,
            [(rate("tentacle_files_total", "command, outcome"), "{{command}} {{outcome}}")],
            f"A second, by command and what became of it. {words}",
            "cps",
            stacked=True,
        ),
        graph(
            "Bytes of files",
            [(rate("tentacle_bytes_total", "direction"), "{{direction}}")],
            "A second, of files that went over whole. A file's size is bounded by -m.",
            "Bps",
        ),
        graph(
            "Seconds for a file",
            [
                (quantile(0.99, "tentacle_file_seconds", "command"), "{{command}}: 99 of 100 take less"),
                (quantile(0.5, "tentacle_file_seconds", "command"), "{{command}}: half take less"),
            ],
            "From the command until the file had gone over. Long ones: a slow network, or a slow disk, which the flushes show.",
            "s",
        ),
    ]


def flushes():
    return [
        graph(
            "Seconds for a flush",
            [
                (quantile(0.99, "tentacle_flush_seconds"), "99 of 100 take less"),
                (quantile(0.5, "tentacle_flush_seconds"), "half take less"),
            ],
            "What the disk takes until files are safe on it. Every file waits for one. Over half a second: another program keeps the disk busy, or it fails.",
            "s",
        ),
        graph(
            "Files in a flush",
            [(f"{rate('tentacle_flush_files_sum')} / {rate('tentacle_flush_files_count')}", "files")],
            "How many files share one. It grows by itself when many come at once, so that a slow disk keeps up.",
        ),
    ]


def sites():
    source = "tentacle_source_"
    each = lambda metric: of_each(source + metric, "source", "max")
    speed = rate("tentacle_source_files_total", "source")
    return dashboard(
        "sites",
        "sites at a glance",
        "Every isolated site as the centre sees it: does it answer, and how far behind is it?",
        "tentacle-sync-puller",
        "tentacle_source_up",
        [
            [
                figure("Sources", whole(f"{source}up", "count"), "The buffers that are pulled. Fewer than there are sites: look at sync_address.", bad=None),
                figure("Silent sources", f"{whole(source + 'up', 'count')} - {whole(source + 'up')}", "Those whose last round failed. The table says which, the log of the puller why.", bad=1),
                figure("Files that wait", whole(f"{source}backlog_files"), "Listed by the sources and not fetched yet. It may rise for a moment; it must not grow."),
                figure("Files a second", rate("tentacle_source_files_total"), "Fetched from all sources.", "cps", decimals=1),
                figure("Farthest behind", whole(f"{source}lag_seconds", "max"), "How long ago the source that is farthest behind was empty. A quarter of an hour and more: see the table.", "s", bad=900),
            ],
            [
                table(
                    "Sources",
                    "source",
                    [
                        ("State", each("up").replace("max by", "min by"), "short", (), UP),
                        ("Last answer", f"time() - {each('last_success_timestamp_seconds')}", "s", (300, 900), None),
                        ("Behind", each("lag_seconds"), "s", (300, 900), None),
                        ("Files that wait", each("backlog_files"), "short", (1000, 10000), None),
                        ("Files a second", speed, "cps", (), None),
                        ("Rounds failed in an hour", f'sum by (source) (increase({source}rounds_total{{{OF}, outcome="failed"}}[1h]))', "short", (1, 10), None),
                    ],
                    "A row a source. Silent: can the centre reach its port, and do TLS and password fit? Behind while files come: more connections, or a faster line. A click on a source shows its traces.",
                    ("Traces of this source", traces('resource.service.name="tentacle-sync-puller" && span.tentacle.source="${__value.raw}"')),
                ),
            ],
            [
                graph("Files that wait", [(most(each("backlog_files")), "{{source}}")], "The twenty sources with the most. A line that only rises: the source is not emptied as fast as it fills."),
                graph("Behind", [(most(each("lag_seconds")), "{{source}}")], "How long ago a round left nothing at the source; the twenty that are farthest behind.", "s"),
                graph("Files a second", [(most(speed), "{{source}}")], "The twenty sources that most is fetched from. None for long, where agents send: look at the site's receiver.", "cps"),
            ],
        ],
    )


def receiver():
    free, lost = f"tentacle_spool_free_bytes{{{OF}}}", f"-deriv(tentacle_spool_free_bytes{{{OF}}}[1h])"
    return dashboard(
        "receiver",
        "receiver",
        "What agents send, what waits in the spool, and how long the disk will do.",
        "tentacle-receiver",
        "tentacle_spool_free_bytes",
        [
            [
                ready(),
                figure("Connections", whole("tentacle_connections_open"), "Open now. At the most that is allowed (-c), more wait."),
                figure("Files in the spool", whole("tentacle_spool_files"), "They wait for the puller, or for agents that fetch them. Does somebody fetch?"),
                figure("Oldest file", whole("tentacle_spool_oldest_seconds", "max"), "How long it waits. As long as the centre has not come; files that stay in the folders of filters count too.", "s"),
                # At a byte a second and less, the disk lasts for ever.
                figure("Until the disk is full", f"min ({free} / clamp_min({lost}, 1))", "If it goes on as in the last hour. Under a day: let the centre fetch, or enlarge the disk.", "s", good=86400),
            ],
            files("Files", "`missing`: agents ask for what is not there, which is ordinary. `refused`: the log names the file and the reason. `cut`: the client left."),
            connections(),
            heading("Spool and disk"),
            [
                graph("Files in the spool", [(of_each("tentacle_spool_files", "instance"), "{{instance}}"), (of_each("tentacle_spool_max_files", "instance"), "{{instance}}: at most")], "A line that only rises: nobody fetches. At its most (--spool-max-files), files are refused: their senders keep them."),
                graph(
                    "Bytes in the spool",
                    [(of_each("tentacle_spool_bytes", "instance"), "{{instance}}: in the spool"), (of_each("tentacle_spool_free_bytes", "instance"), "{{instance}}: free"), (of_each("tentacle_spool_max_bytes", "instance"), "{{instance}}: at most")],
                    "And what is free on its disk. Files are refused before the disk is full (--reserve-space), and at the spool's most (--spool-max-bytes): their senders keep them.",
                    "bytes",
                ),
                graph(
                    "No room, and too old",
                    [(rate("tentacle_spool_refused_total", "reason"), "refused: {{reason}}"), (rate("tentacle_spool_expired_total", "folder"), "removed from {{folder}}")],
                    "Files a second that were refused for lack of room, by which limit, and that were removed for their age (--expire).",
                    "cps",
                ),
                *flushes(),
            ],
            [certificates(), not_sent()],
            *process(),
        ],
    )


def proxy():
    return dashboard(
        "proxy",
        "proxy",
        "Sessions that are passed on, and the servers that they are passed on to.",
        "tentacle-proxy",
        "tentacle_proxy_sessions_total",
        [
            [
                ready(),
                figure("Servers", whole("tentacle_upstream_healthy", "count"), "Those that the names of -b stand for. Fewer than there are: look at the DNS.", good=1),
                figure("Servers that are down", f"{whole('tentacle_upstream_healthy', 'count')} - {whole('tentacle_upstream_healthy')}", "Those that could not be reached the last time. The others get their sessions.", bad=1),
                figure("Sessions", whole("tentacle_upstream_sessions"), "Passed on now."),
            ],
            [
                graph("Sessions", [(rate("tentacle_proxy_sessions_total"), "ended, a second")], "Sessions that have ended, a second. Many short ones are what agents make.", "cps"),
                graph("Bytes", [(rate("tentacle_proxy_bytes_total", "direction"), "{{direction}}")], "A second, of sessions that have ended: `in` from clients, `out` to them.", "Bps"),
                graph("Sessions of each server", [(most(of_each("tentacle_upstream_sessions", "upstream")), "{{upstream}}")], "They are shared out evenly. One that has far more: it is slow.", stacked=True),
                graph("Servers that answer", [(most(of_each("tentacle_upstream_healthy", "upstream", "min")), "{{upstream}}")], "1 is well. 0: start it, open the way to it, or take it out of -b."),
            ],
            connections(),
            heading("Files, as far as commands are read (--inspect)"),
            files("Files passed on", "`refused`: the server did not take it, the log names the file and the reason. `cut`: a side left."),
            [certificates(), not_sent()],
            *process(),
        ],
    )


def puller():
    source = "tentacle_source_"
    return dashboard(
        "sync-puller",
        "sync-puller",
        "The rounds of the puller, and what it brings home. Each source by itself is among the sites at a glance.",
        "tentacle-sync-puller",
        "tentacle_source_up",
        [
            [
                ready(),
                figure("Sources", whole(f"{source}up", "count"), "The buffers that are pulled. Each has rounds of its own."),
                figure("Silent sources", f"{whole(source + 'up', 'count')} - {whole(source + 'up')}", "Those whose last round failed. The others go on.", bad=1),
                figure("Files that wait", whole(f"{source}backlog_files"), "Listed by the sources and not fetched yet."),
            ],
            [
                graph("Rounds", [(rate(f"{source}rounds_total", "outcome"), "{{outcome}}")], "A second, by how they ended. `failed`: the log names the source and the reason.", "cps", stacked=True),
                graph("Rounds tried again", [(rate(f"{source}retries_total"), "tried again")], "A second, after one that failed. The pauses between grow, so a dead source costs little.", "cps"),
            ],
            files("Files fetched", "`failed`: the file stays at its source, and is fetched again. `refused`: the source did not hand it out."),
            [*flushes(), certificates(), not_sent()],
            *process(),
        ],
    )


def all_texts():
    """The text of each dashboard, by the name of its file."""
    boards = {"sites": sites(), "receiver": receiver(), "proxy": proxy(), "sync-puller": puller()}
    return {f"{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in boards.items()}


if __name__ == "__main__":
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, text in all_texts().items():
        (PLACE / name).write_text(text)
