"""What the tests on a cluster share: namespaces, releases, certificates, ways in."""

import contextlib
import json
import os
import secrets
import subprocess
import time
from pathlib import Path

import images
import pytest
from helm_python.config import Config

CHART = Path(__file__).resolve().parents[2] / "charts" / "tentacle"
KIND = "customresourcedefinition/tentaclesources.tentacle.dev"
# A bound on waiting for a condition; nothing waits for time.
PATIENCE = 300


def kubectl(*arguments, given=None):
    done = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def eventually(condition, what):
    """Waits until it is true, and returns what it then says. `what`, or what that then says, is told if that never comes."""
    end = time.monotonic() + PATIENCE
    while not (said := condition()):
        if time.monotonic() > end:
            pytest.fail(f"gave up waiting for {what() if callable(what) else what}\n{kubectl('get', 'pods', '--all-namespaces', '--output=wide')}")
        time.sleep(0.5)
    return said


class Namespace:
    """A namespace of the test's own, and the releases in it."""

    def __init__(self, name, components):
        self.name = name
        self.components = components
        self.helm = Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=name)

    def kubectl(self, *arguments, given=None):
        return kubectl("--namespace", self.name, *arguments, given=given)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def pods(self):
        """Those of releases."""
        return self.get("pods", "--selector", "app.kubernetes.io/component")["items"]

    def values(self, values):
        """With the images of this run, and quickly replaced pods."""
        quick = {name: {**image, **({} if name == "tests" else {"terminationGracePeriodSeconds": 10})} for name, image in self.components.items()}
        return laid_over({"image": {"pullPolicy": "IfNotPresent"}, **quick}, values)

    def install(self, release, values):
        return self.helm.install(CHART, release, self.values(values), wait="watcher", timeout=PATIENCE)

    def upgrade(self, release, values):
        return self.helm.upgrade(CHART, release, self.values(values), wait="watcher", timeout=PATIENCE)

    def secret(self, name, **files):
        """Makes it, or changes it."""
        keys = {key.replace("_", "."): value for key, value in files.items()}
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}
        self.kubectl("apply", "--filename=-", given=json.dumps(made))

    def agents(self, name, files, *options, secrets=()):
        """A Job that sends `{name: text}` from within the cluster, as agents there do."""
        volumes = [{"name": "files", "configMap": {"name": name}}]
        volumes += [{"name": secret, "secret": {"secretName": secret}} for secret in secrets]
        mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
        image = self.components["tests"]["image"]
        tagged = "/".join(part for part in (image["registry"], f"{image['repository']}:{image['tag']}") if part)
        command = ["tentacle_client", *options, *(f"/files/{file}" for file in files)]
        agent = {"name": "agents", "image": tagged, "command": command, "volumeMounts": mounts}
        pod = {"restartPolicy": "Never", "containers": [agent], "volumes": volumes}
        made = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files},
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}},
        ]
        self.kubectl("create", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))

        def ended():
            status = self.get("job", name)["status"]
            assert not status.get("failed"), self.kubectl("logs", f"job/{name}")
            return status.get("succeeded")

        eventually(ended, f"the Job {name}")

    def objects(self, *arguments):
        kinds = "pods,services,statefulsets,deployments,replicasets,configmaps,secrets,serviceaccounts"
        kinds += ",persistentvolumeclaims,poddisruptionbudgets,networkpolicies"
        found = self.kubectl("get", kinds, "--output=name", *arguments).split()
        # Each namespace gets these by itself.
        return {name for name in found if "/default" not in name and not name.endswith("/kube-root-ca.crt")}

    def is_ready(self, pod, other_than):
        """Whether there is a ready pod of that name that is not the one with that uid."""
        found = next((one for one in self.pods() if one["metadata"]["name"] == pod), None)
        if not found or found["metadata"]["uid"] == other_than:
            return False
        return any(one["type"] == "Ready" and one["status"] == "True" for one in found["status"].get("conditions", []))

    @contextlib.contextmanager
    def way_in(self, target, port=""):
        """A port of this machine, or that one, which leads to a pod or a Service."""
        command = ["kubectl", "--namespace", self.name, "port-forward", target, f"{port}:41121"]
        forward = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said = forward.stdout.readline()
            if "127.0.0.1:" not in said:
                raise ConnectionError(f"{' '.join(command)}: ended")
            yield int(said.partition("127.0.0.1:")[2].split()[0])
        finally:
            forward.kill()
            forward.communicate()


def laid_over(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}


@pytest.fixture(scope="session")
def components():
    for node in json.loads(kubectl("get", "nodes", "--output=json"))["items"]:
        for condition in node["status"]["conditions"]:
            # No pod would start, and each test would wait for one in vain.
            if condition["type"].endswith("Pressure") and condition["status"] == "True":
                pytest.exit(f"{node['metadata']['name']}: {condition['message']} ({condition['type']}): make room there, then start the cluster again", 1)
    there = kubectl("get", KIND, "--ignore-not-found", "--output=name")
    yield images.load(os.environ["KUBERNETES_IMAGES"])
    # It is not removed with the releases that brought it, as it belongs to the whole cluster.
    if not there:
        kubectl("delete", KIND, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def kind(components):
    """The API version of the sources that are objects, which the cluster knows from then on."""
    kubectl("apply", f"--filename={CHART / 'crds'}")
    kubectl("wait", "--for=condition=Established", KIND, f"--timeout={PATIENCE}s")
    return "tentacle.dev/v1alpha1"


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    images.unpack(os.environ["KUBERNETES_IMAGES"], folder)
    return folder


@pytest.fixture(scope="module")
def namespace(components):
    """Makes namespaces, which are gone with their volumes when the module is done."""
    made = []

    def make(name):
        name = f"tentacle-{name}-{secrets.token_hex(3)}"
        kubectl("create", "namespace", name)
        made.append(name)
        return Namespace(name, components)

    yield make
    for name in made:
        kubectl("delete", "namespace", name, "--wait=false")


class Authority:
    """A CA, and what it signs, as PEM texts."""

    def __init__(self, folder):
        self.folder = folder
        self.sign("ca", "basicConstraints=critical,CA:TRUE", by=None)
        self.pem = (folder / "ca.pem").read_text()

    def server(self, *names):
        return self.sign("server", "extendedKeyUsage=serverAuth", *names)

    def client(self, name):
        return self.sign(name, "extendedKeyUsage=clientAuth", f"DNS:{name}.example")

    def sign(self, name, extension, *names, by="ca"):
        """A certificate and its key."""
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", extension, "-out", files[0], "-keyout", files[1]]
        if names:
            command += ["-addext", "subjectAltName=" + ",".join(names)]
        if by:
            command += ["-CA", self.folder / f"{by}.pem", "-CAkey", self.folder / f"{by}.key"]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
        return {"tls_crt": files[0].read_text(), "tls_key": files[1].read_text()}


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Programs:
    """The client and the puller of the images, on this machine."""

    def __init__(self, folder, work):
        self.folder = folder
        self.work = work

    def send(self, port, files, *options):
        """Sends `{name: text}`, as an agent does."""
        for name, text in files.items():
            (self.work / name).write_text(text)
        self.run("tentacle_client", "-a", "127.0.0.1", "-p", str(port), *options, *(str(self.work / name) for name in files))

    def empty(self, port, *options):
        """Takes all files that a receiver has, as its consumer does: `{name: text}`."""
        taken = self.work / f"taken-{secrets.token_hex(3)}"
        taken.mkdir()
        self.run("tentacle-sync-puller", "--once", "--sync-address", f"127.0.0.1:{port}", "--incoming-dir", str(taken), *options)
        files = (path for path in taken.rglob("*") if path.is_file() and not path.name.startswith(".tentacle~"))
        return {path.name: path.read_text() for path in files}

    def has(self, port, name, *options):
        """Whether a receiver has this file."""
        got = self.work / f"got-{secrets.token_hex(3)}"
        got.mkdir()
        command = [self.folder / "tentacle_client", "-a", "127.0.0.1", "-p", str(port), *options, "-g", name]
        done = subprocess.run(command, cwd=got, capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode == 0 and (got / name).read_text()

    def run(self, program, *arguments):
        done = subprocess.run([self.folder / program, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"


@pytest.fixture
def here(programs, tmp_path):
    return Programs(programs, tmp_path)
