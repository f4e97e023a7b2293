"""Archives of images, as `docker save` and `buildah push docker-archive:` write them."""

import json
import os
import shlex
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = ("tentacle_client", "tentacle-sync-puller")


def load(folder):
    """Loads every archive into the cluster; the chart's values that name the images."""
    values = {}
    for archive in sorted(Path(folder).glob("*.tar")):
        subprocess.run([*shlex.split(os.environ["KUBERNETES_LOAD"]), archive], check=True, timeout=300)
        for name in names(archive):
            path, _, tag = name.rpartition(":")
            registry, _, repository = path.rpartition("/")
            values[repository] = {"registry": registry, "repository": repository, "tag": tag}
    components = {"receiver": "tentacle-receiver", "proxy": "tentacle-proxy", "syncPuller": "tentacle-sync-puller", "tests": "tentacle"}
    missing = set(components.values()) - set(values)
    assert not missing, f"{folder}: no image is called {missing}"
    return {component: {"image": values[image]} for component, image in components.items()}


def unpack(folder, into):
    """Takes the programs out of the images: what runs here is what runs there."""
    for archive in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(archive) as image:
            for entry in json.load(image.extractfile("manifest.json")):
                for layer in entry["Layers"]:
                    with tarfile.open(fileobj=image.extractfile(layer)) as files:
                        for file in files:
                            name = Path(file.name).name
                            if file.isfile() and name in PROGRAMS:
                                (into / name).write_bytes(files.extractfile(file).read())
                                (into / name).chmod(0o755)
    for name in PROGRAMS:
        assert (into / name).exists(), f"{folder}: no image holds {name}"


def names(archive):
    with tarfile.open(archive) as image:
        return [tag for entry in json.load(image.extractfile("manifest.json")) for tag in entry["RepoTags"]]
