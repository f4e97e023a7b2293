"""What pods say, followed from their start to their end."""

import contextlib
import json
import subprocess
from datetime import datetime


class Logs:
    """Follows each pod that it is told of, into files of `folder`: what a pod said is there when it is gone."""

    def __init__(self, space, folder):
        self.space = space
        self.folder = folder
        self.followed = {}

    def follow(self, pods):
        """Also anew, where a pod's program has ended and runs again."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self.followed or self.followed[name].poll() is not None:
                command = ["kubectl", "--namespace", self.space.name, "logs", "--follow", name]
                with (self.folder / name).open("a") as file:
                    self.followed[name] = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)

    def of(self, name, message=None, **fields):
        """The lines of a pod with that message and those fields, in order, each with its `at`, in seconds."""
        for text in (self.folder / name).read_text().splitlines():
            # The last one may be under way.
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if message in (None, line.get("message")) and fields.items() <= line.items():
                    yield {**line, "at": at(line)}

    def others(self, name, message=None, **fields):
        """The same of all pods but that one, with their names as `pod`."""
        for other in self.followed:
            if other != name:
                yield from ({**line, "pod": other} for line in self.of(other, message, **fields))

    def stop(self):
        for process in self.followed.values():
            process.kill()
            process.communicate()


class Arrivals:
    """What a puller's log says of the files that it fetched: each name, and when."""

    def __init__(self, path):
        self.file = path.open()
        self.begun = ""
        self.first = {}
        self.again = []

    def read(self):
        """When each file came first, as far as that is known now."""
        lines = (self.begun + self.file.read()).split("\n")
        self.begun = lines.pop()
        for line in map(json.loads, lines):
            if line["message"] == "file fetched":
                if line["name"] in self.first:
                    self.again.append(line["name"])
                self.first.setdefault(line["name"], at(line))
        return self.first


def at(line):
    """When it was said, in seconds."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()
