"""What each component is made of."""

import pytest
import yaml
from conftest import CHART, environment, render

PULLER = {"receiver": {"enabled": False}, "syncPuller": {"enabled": True, "sync_address": ["a"]}}


def puller(**values):
    return {**PULLER, "syncPuller": {**PULLER["syncPuller"], **values}}


def container(manifests, name):
    return next(pod["containers"][0] for _, _, pod in manifests.pods() if pod["containers"][0]["name"] == name)


def test_a_receiver_alone_is_what_a_release_has_that_says_nothing():
    manifests = render()
    assert sorted(m["kind"] for m in manifests) == ["PodDisruptionBudget", "Service", "Service", "ServiceAccount", "StatefulSet"]
    # Safe as it comes: nobody can list and take the files.
    assert "TENTACLE_INSECURE" not in environment(container(manifests, "receiver"))


def test_nothing_is_left_where_nothing_is_enabled():
    assert render({"receiver": {"enabled": False}}) == []


def test_each_receiver_has_a_claim_of_its_own_and_one_name_stands_for_all():
    manifests = render({"receiver": {"replicas": 3}})
    receivers = manifests.one("StatefulSet")["spec"]
    assert receivers["replicas"] == 3 and len(receivers["volumeClaimTemplates"]) == 1
    headless = manifests.one("Service", receivers["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    # One that takes no more must be reached, to be emptied.
    assert headless["publishNotReadyAddresses"] is True
    assert "    site-tentacle-receiver-headless.edge.svc\n" in manifests.notes


def test_a_receiver_can_use_a_claim_that_is_there():
    spec = render({"receiver": {"persistence": {"existingClaim": "data-in", "subPath": "in"}}}).one("StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    pod = spec["template"]["spec"]
    assert {"name": "files", "persistentVolumeClaim": {"claimName": "data-in"}} in pod["volumes"]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "files", "mountPath": "/var/spool/tentacle", "subPath": "in"}]


def test_a_receiver_without_persistence_is_a_deployment_that_warns():
    manifests = render({"receiver": {"persistence": {"enabled": False}}})
    assert manifests.one("Deployment")["spec"]["template"]["spec"]["volumes"] == [{"name": "files", "emptyDir": {}}]
    assert len(manifests.of("Service")) == 1
    assert "files that wait are lost with their pod" in manifests.notes


def test_a_filter_reaches_the_program_as_it_was_written():
    value = environment(container(render({"receiver": {"filters": [r".*\.conf$:conf", "$(HOME):b"]}}), "receiver"))["TENTACLE_FILTERS"]
    # Kubernetes makes one of two.
    assert value == r".*\.conf$$:conf;$$(HOME):b"


def test_a_large_number_stays_one():
    assert environment(container(render({"receiver": {"maxSize": 5_000_000_000}}), "receiver"))["TENTACLE_MAX_SIZE"] == "5000000000"


def test_there_is_one_puller_at_a_time():
    for values in (PULLER, puller(leases={"enabled": True})):
        manifests = render(values)
        spec = manifests.one("Deployment")["spec"]
        assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}
        assert manifests.of("PodDisruptionBudget") == []


SHARED = {"replicaCount": 3, "leases": {"enabled": True}, "incoming": {"accessModes": ["ReadWriteMany"]}}


def test_several_pullers_share_the_sources_and_are_replaced_one_by_one():
    manifests = render(puller(**SHARED))
    spec = manifests.one("Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert manifests.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname" and spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["labelSelector"] == spec["selector"]
    told = container(manifests, "sync-puller")["env"]
    assert {"name": "TENTACLE_IDENTITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in told
    for name, value in [("COORDINATION", "kubernetes"), ("LEASE_NAME", "site-tentacle-sync-puller"), ("SHARDS", "32"), ("LEASE_DURATION", "15")]:
        assert {"name": f"TENTACLE_{name}", "value": value} in told
    assert "get leases -l tentacle.dev/role=shard,tentacle.dev/lease=site-tentacle-sync-puller\n" in manifests.notes


def test_a_puller_alone_is_told_nothing_of_kubernetes():
    manifests = render(PULLER)
    told = environment(container(manifests, "sync-puller"))
    for name in ("COORDINATION", "LEASE_NAME", "SHARDS", "LEASE_DURATION", "IDENTITY", "CUSTOM_RESOURCES"):
        assert f"TENTACLE_{name}" not in told
    assert manifests.of("Role", "RoleBinding") == []


def test_pullers_need_no_claim_of_many_where_they_send_on_or_one_is_named():
    assert render(puller(**{**SHARED, "incoming": {}, "forward": {"to": "central.example"}})).one("Deployment")
    manifests = render(puller(**{**SHARED, "incoming": {"existingClaim": "data-in"}}))
    assert "The claim data-in must be ReadWriteMany, as 3 pods write to it." in manifests.notes


LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "watch", "create", "update", "delete"]}
OBJECTS = [
    {"apiGroups": ["tentacle.dev"], "resources": ["tentaclesources"], "verbs": ["list", "watch"]},
    {"apiGroups": ["tentacle.dev"], "resources": ["tentaclesources/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ({"leases": {"enabled": True}}, [LEASES]),
        ({"customResources": {"enabled": True}}, OBJECTS),
        ({"leases": {"enabled": True}, "customResources": {"enabled": True}}, [LEASES, *OBJECTS]),
    ],
)
def test_a_puller_has_the_rights_that_it_needs_and_no_more(values, rules):
    manifests = render(puller(**values))
    assert manifests.one("Role")["rules"] == rules
    binding = manifests.one("RoleBinding")
    assert binding["roleRef"]["kind"] == "Role" and binding["roleRef"]["name"] == manifests.one("Role")["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "site-tentacle-sync-puller", "namespace": "edge"}]
    assert manifests.one("Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert render(puller(**values, rbac={"create": False})).of("Role", "RoleBinding") == []


def test_a_puller_can_be_kept_to_the_secrets_that_are_named():
    role = render(puller(customResources={"enabled": True, "secretNames": ["ship7"]})).one("Role")
    assert {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["ship7"]} in role["rules"]


def test_a_puller_needs_no_source_in_the_values_where_objects_are_its_sources():
    manifests = render(puller(sync_address=[], customResources={"enabled": True}))
    assert environment(container(manifests, "sync-puller"))["TENTACLE_CUSTOM_RESOURCES"] == "1"
    assert "fetches from the TentacleSources of the namespace into" in manifests.notes
    assert "get tentaclesources\n" in manifests.notes


def test_the_kind_of_the_sources_is_installed_with_the_chart():
    (kind,) = yaml.safe_load_all((CHART / "crds" / "tentaclesources.yaml").read_text())
    assert kind["kind"] == "CustomResourceDefinition" and kind["metadata"]["name"] == "tentaclesources.tentacle.dev"
    assert kind["spec"]["scope"] == "Namespaced" and kind["spec"]["names"]["shortNames"] == ["tsrc"]
    (version,) = kind["spec"]["versions"]
    assert version["name"] == "v1alpha1" and version["subresources"] == {"status": {}}


def test_a_source_can_send_on_to_a_server_of_its_own():
    own = {"to": ["b", "c:5"], "password": {"existingSecret": "b"}, "tls": {"enabled": False}}
    manifests = render(puller(sources=[{"address": "d", "forward": own}], networkPolicy={"enabled": True}))
    file = yaml.safe_load(manifests.one("ConfigMap")["data"]["sources.yaml"])
    assert file["sources"][1] == {
        "address": "d",
        "forward_to": ["b", "c:5"],
        "forward_password_file": "/etc/tentacle/secrets/sources/0/forward-password",
        "forward_tls": False,
    }
    # The others' files go into the claim, and large ones on the way pass through a folder.
    mounts = {m["name"] for m in container(manifests, "sync-puller")["volumeMounts"]}
    assert mounts == {"config", "files", "passing", "secrets"}
    assert [port["port"] for port in manifests.one("NetworkPolicy")["spec"]["egress"][1]["ports"]] == [41121, 5]


def test_several_servers_take_what_is_sent_on():
    manifests = render(puller(forward={"to": ["b", "c:5"]}, networkPolicy={"enabled": True}))
    assert yaml.safe_load(manifests.one("ConfigMap")["data"]["sources.yaml"])["forward_to"] == ["b", "c:5"]
    assert "into the server b, or c:5." in manifests.notes
    assert [port["port"] for port in manifests.one("NetworkPolicy")["spec"]["egress"][1]["ports"]] == [41121, 5]


@pytest.mark.parametrize("values", [{"leases": {"enabled": True}}, {"customResources": {"enabled": True}}])
def test_a_puller_reaches_the_api_server_where_it_asks_it(values):
    values = {**values, "networkPolicy": {"enabled": True, "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}}}
    names, sources, server = render(puller(**values)).one("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53} and "to" not in sources
    assert server == {
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
    }


def test_a_puller_is_replaced_when_its_sources_change_and_not_for_a_secret():
    def checksum(values):
        return render(values).one("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum(PULLER) == checksum(puller(podLabels={"a": "b"}))
    assert checksum(PULLER) != checksum(puller(interval=11))


def test_a_puller_that_sends_on_has_no_claim_and_room_to_pass_files_through():
    manifests = render(puller(forward={"to": "central.example"}))
    assert manifests.of("PersistentVolumeClaim") == []
    mounts = {m["mountPath"]: m["name"] for m in container(manifests, "sync-puller")["volumeMounts"]}
    assert mounts == {"/etc/tentacle/config": "config", "/tmp": "passing"}


def test_the_claim_of_a_puller_outlives_the_release():
    claim = render(PULLER).one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert render(puller(incoming={"existingClaim": "mine"})).of("PersistentVolumeClaim") == []


def test_a_receiver_lets_nothing_out():
    policy = render({"receiver": {"networkPolicy": {"enabled": True}}}).one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["egress"] == []
    assert policy["ingress"] == [{"ports": [{"port": "tentacle", "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("addresses", "ports"),
    [
        (["a"], [41121]),
        (["a:41122", "b:41122", "c"], [41121, 41122]),
        (["[2001:db8::1]:5", "[2001:db8::1]", "2001:db8::1"], [41121, 5]),
        (["192.0.2.1:6"], [6]),
    ],
)
def test_a_puller_reaches_the_dns_and_the_ports_of_its_sources_alone(addresses, ports):
    policy = render(puller(sync_address=addresses, networkPolicy={"enabled": True})).one("NetworkPolicy")["spec"]
    names, sources = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert [port["port"] for port in sources["ports"]] == ports
    assert policy["ingress"] == []


def test_the_test_is_let_in_where_others_are_not():
    values = {"receiver": {"insecure": True, "networkPolicy": {"enabled": True, "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}}
    manifests = render(values)
    let_in = manifests.one("NetworkPolicy")["spec"]["ingress"][0]["from"][-1]["podSelector"]["matchLabels"]
    assert let_in.items() <= manifests.one("Pod")["metadata"]["labels"].items()


TLS = {"enabled": True, "existingSecret": "server"}


@pytest.mark.parametrize(
    ("values", "tested"),
    [
        ({"receiver": {"insecure": True}}, True),
        ({"receiver": {"insecure": False}}, False),
        ({"receiver": {"insecure": True}, "tests": {"enabled": False}}, False),
        ({"receiver": {"insecure": True, "enabled": False}}, False),
        ({"receiver": {"insecure": True, "tls": TLS}}, False),
        ({"receiver": {"insecure": True, "tls": TLS}, "tests": {"tls": {"existingSecret": "client"}}}, True),
        ({"receiver": {"insecure": True, "tls": {**TLS, "keys": {"ca": ""}}}}, True),
        ({"receiver": {"insecure": True, "acceptProxy": True, "allow": ["10.0.0.1"]}}, False),
    ],
)
def test_the_test_is_there_where_it_can_succeed(values, tested):
    manifests = render(values)
    assert bool(manifests.of("Pod")) is tested
    assert ("helm test site" in manifests.notes) is tested


def test_the_test_encrypts_where_the_receiver_does():
    manifests = render({"receiver": {"insecure": True, "tls": {**TLS, "keys": {"ca": ""}}}})
    assert environment(container(manifests, "check"))["TENTACLE_SSL"] == "1"
    assert "TENTACLE_SSL" not in environment(container(render({"receiver": {"insecure": True}}), "check"))


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "tentacle-receiver:0.1.0"),
        ({"image": {"registry": "r.example/a/", "tag": "2"}}, "r.example/a/tentacle-receiver:2"),
        ({"image": {"tag": "2"}, "receiver": {"image": {"registry": "q", "repository": "x", "tag": "3"}}}, "q/x:3"),
        ({"receiver": {"image": {"digest": "sha256:" + "a" * 64}}}, "tentacle-receiver@sha256:" + "a" * 64),
    ],
)
def test_an_image_is_named_by_registry_tag_or_digest(values, image):
    assert container(render(values), "receiver")["image"] == image


def test_a_certificate_is_for_the_names_that_clients_use():
    tls = {"enabled": True, "certManager": {"enabled": True, "issuerRef": {"name": "ca"}, "dnsNames": ["buffer.example"]}}
    names = render({"receiver": {"tls": tls}}).one("Certificate")["spec"]["dnsNames"]
    for name in ("site-tentacle-receiver.edge.svc", "*.site-tentacle-receiver-headless.edge.svc.cluster.local", "buffer.example"):
        assert name in names


def test_a_pod_is_not_replaced_for_a_new_chart_alone():
    for _, metadata, _ in render().pods():
        assert not any("version" in label or "chart" in label for label in metadata["labels"])


def test_an_object_of_ones_own_is_rendered_whether_map_or_text():
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}}
    two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-b}\n"
    names = [m["metadata"]["name"] for m in render({"extraObjects": [one, two]}).of("ConfigMap")]
    assert names == ["site-a", "site-b"]
