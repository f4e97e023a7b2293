"""Whatever is rendered is valid, safe, and holds together."""

import json

import jsonschema
import kubernetes_validate
import pytest
from conftest import CASES, CHART, HERE, NEWEST, OLDEST, render, values_of
from helm_python import chart as helm

FROM_ELSEWHERE = {"TENTACLE_IDENTITY", "K8S_POD_NAME", "K8S_POD_UID", "K8S_NODE_NAME", "OTEL_EXPORTER_OTLP_HEADERS"}
# Kinds of operators, whose schemas Kubernetes does not have.
OF_OPERATORS = {path.stem: json.loads(path.read_text()) for path in (HERE / "schemas").glob("*.json")}


def test_helm_lints_it_strictly(case):
    report = helm.lint(CHART, values_of(case), strict=True, kube_version=OLDEST)
    assert report["errors"] == []
    # An icon is all that it may miss.
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("kube", [OLDEST, NEWEST])
def test_each_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(case, kube):
    for manifest in render(values_of(case), kube):
        if manifest["kind"] in OF_OPERATORS:
            jsonschema.validate(manifest, OF_OPERATORS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, kube, strict=True)


def test_objects_are_told_apart_and_belong_to_the_release(case):
    manifests = render(values_of(case))
    assert len({(m["kind"], m["metadata"]["name"]) for m in manifests}) == len(manifests)
    for manifest in manifests:
        if "extra" in manifest["metadata"]["name"] or "text" in manifest["metadata"]["name"]:
            continue
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "site"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert manifest["metadata"]["namespace"] == "edge"


def test_names_fit_however_long_the_release_is_called(case):
    for manifest in render(values_of(case), name="a-release-with-a-name-of-53-characters-which-is-most-x"[:53]):
        limit = 52 if manifest["kind"] == "StatefulSet" else 63
        assert len(manifest["metadata"]["name"]) <= limit, manifest["metadata"]["name"]


def test_every_pod_is_as_tight_as_it_can_be(case):
    manifests = render(values_of(case))
    with_rights = {subject["name"] for m in manifests.of("RoleBinding") for subject in m["subjects"]}
    assert not manifests.of("ClusterRole", "ClusterRoleBinding")
    for name, _, pod in manifests.pods():
        assert pod["automountServiceAccountToken"] is (pod.get("serviceAccountName") in with_rights), name
        assert pod["enableServiceLinks"] is False, name
        assert not pod.get("hostNetwork") and not pod.get("hostPID") and not pod.get("hostIPC")
        whole = pod["securityContext"]
        assert whole["runAsNonRoot"] is True and whole["runAsUser"] == 65532 and whole["fsGroup"] == 65532
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "preStop" not in container.get("lifecycle", {})


def test_secrets_are_mounted_whole_and_in_no_variable(case):
    for name, _, pod in render(values_of(case)).pods():
        secrets = {v["name"] for v in pod.get("volumes", []) if "projected" in v}
        for container in pod["containers"]:
            for variable in container["env"]:
                # Headers of OpenTelemetry have no file.
                known = {"secretKeyRef"} if variable["name"].endswith("HEADERS") else {"fieldRef"}
                assert "valueFrom" not in variable or (set(variable["valueFrom"]) == known and variable["name"] in FROM_ELSEWHERE)
                assert not variable["name"].endswith("PASSWORD"), "by a file alone"
            for mount in container.get("volumeMounts", []):
                # What is mounted by subPath never changes in a running pod.
                assert mount["name"] not in secrets or "subPath" not in mount, name


def test_each_mount_has_its_volume_and_each_volume_its_mount(case):
    manifests = render(values_of(case))
    claims = {m["metadata"]["name"]: m["spec"].get("volumeClaimTemplates", []) for m in manifests.of("StatefulSet")}
    for name, _, pod in manifests.pods():
        volumes = [v["name"] for v in pod.get("volumes", [])] + [c["metadata"]["name"] for c in claims.get(name, [])]
        mounts = [m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])]
        assert sorted(volumes) == sorted(mounts), name


def test_each_file_that_is_named_is_mounted(case):
    manifests = render(values_of(case))
    configs = {m["metadata"]["name"]: "".join(m["data"].values()) for m in manifests.of("ConfigMap") if "data" in m}
    for name, _, pod in manifests.pods():
        said = json.dumps([c["env"] for c in pod["containers"]])
        for volume in pod.get("volumes", []):
            said += configs.get(volume.get("configMap", {}).get("name"), "")
        for volume in pod.get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                for item in source["secret"]["items"]:
                    path = f"/etc/tentacle/secrets/{item['path']}"
                    assert said.count(path) == 1, f"{name}: {path} is mounted, and not asked for once"
                    said = said.replace(path, "")
        assert "/etc/tentacle/secrets" not in said, f"{name}: a file is asked for that is not mounted"


def test_selectors_find_their_own_pods_alone(case):
    manifests = render(values_of(case))
    pods = {name: metadata["labels"] for name, metadata, _ in manifests.pods()}
    finds = lambda selector: [name for name, labels in pods.items() if selector.items() <= labels.items()]
    for m in manifests.of("Service"):
        assert finds(m["spec"]["selector"]) == [m["metadata"]["name"].removesuffix("-headless").removesuffix("-metrics")]
    for m in manifests.of("StatefulSet", "Deployment", "PodDisruptionBudget"):
        assert finds(m["spec"]["selector"]["matchLabels"]) == [m["metadata"]["name"]]
    for m in manifests.of("NetworkPolicy"):
        assert finds(m["spec"]["podSelector"]["matchLabels"]) == [m["metadata"]["name"]]


def test_there_is_time_to_drain(case):
    for name, _, pod in render(values_of(case)).pods():
        for variable in pod["containers"][0]["env"]:
            if variable["name"] == "TENTACLE_DRAIN_TIMEOUT":
                assert int(variable["value"]) + 5 <= pod["terminationGracePeriodSeconds"], name


@pytest.mark.parametrize(("kube", "version"), [("v1.20.2", "v1beta1"), ("v1.21.0", "v1"), ("v1.33.1-gke.7", "v1")])
def test_a_budget_has_the_version_that_the_cluster_knows(kube, version):
    assert render(kube=kube).one("PodDisruptionBudget")["apiVersion"] == f"policy/{version}"


def test_the_cases_cover_every_kind_of_operators():
    kinds = {m["kind"] for case in CASES for m in render(values_of(case))}
    assert set(OF_OPERATORS) <= kinds


@pytest.mark.parametrize("kube", [OLDEST, NEWEST])
def test_a_field_that_kubernetes_does_not_have_would_be_found(kube):
    for manifest in render(kube=kube):
        manifest.setdefault("spec", {})["replica"] = 1
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(manifest, kube, strict=True)
