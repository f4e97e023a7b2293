"""What each component is made of."""

import pytest
from conftest import environment, render

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
    spec = render(PULLER).one("Deployment")["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}


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
