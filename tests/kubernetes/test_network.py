"""Two sites that open no connection, and a centre that fetches from both: by mutual TLS, and with a password."""

import ssl
from types import SimpleNamespace

import pytest
from conftest import eventually

SITE = "site-tentacle-receiver"
RECEIVER = {
    "insecure": True,
    "overwrite": True,
    "filters": [r".*\.conf$:conf"],
    "password": {"existingSecret": "password"},
    "tls": {"enabled": True, "existingSecret": "server"},
    "persistence": {"size": "100Mi"},
    "networkPolicy": {"enabled": True},
}
# What an agent within the cluster is told, beside the address.
AGENT = ["--password-file", "/password/password", "-e", "/client/tls.crt", "-k", "/client/tls.key", "-f", "/client/ca.crt"]


@pytest.fixture(scope="module")
def network(namespace, authority, tmp_path_factory):
    """Installed in three namespaces, and a proxy in the centre's that leads to the first site."""
    sites, centre = [namespace("site-a"), namespace("site-b")], namespace("centre")
    ca = {"ca_crt": authority.pem}
    for site in sites:
        site.secret("password", password="correct horse")
        site.secret("server", **authority.server(*names(site)), **ca)
        site.secret("client", **authority.client("check"), **ca)
        site.install("site", {"receiver": RECEIVER, "tests": {"tls": {"existingSecret": "client"}}})
    centre.secret("password", password="correct horse")
    centre.secret("client", **authority.client("centre"), **ca)
    addresses = [f"{SITE}.{site.name}.svc" for site in sites]
    centre.install("centre", centre_values(addresses))
    # The consumer of the puller's claim: a receiver that hands out what is there.
    reader = {"insecure": True, "filters": RECEIVER["filters"], "persistence": {"existingClaim": "centre-tentacle-sync-puller-incoming"}}
    centre.install("reader", {"receiver": reader})
    agent, puller = options(authority, tmp_path_factory.mktemp("password"))
    return SimpleNamespace(sites=sites, centre=centre, addresses=addresses, agent=agent, puller=puller)


def centre_values(addresses, **puller):
    given = {
        "enabled": True,
        "sync_address": addresses,
        "interval": 1,
        "folders": ["conf"],
        "password": {"existingSecret": "password"},
        "tls": {"enabled": True, "existingSecret": "client"},
        "incoming": {"size": "100Mi"},
        "networkPolicy": {"enabled": True},
    }
    proxy = {"enabled": True, "upstreams": addresses[:1], "networkPolicy": {"enabled": True}}
    return {"receiver": {"enabled": False}, "proxy": proxy, "syncPuller": {**given, **puller}}


def options(authority, folder):
    """Those of an agent and of a puller on this machine."""
    (folder / "password").write_text("correct horse")
    authority.client("agent")
    pem, password = authority.folder, ["--password-file", str(folder / "password")]
    cert, key, ca = f"{pem}/agent.pem", f"{pem}/agent.key", f"{pem}/ca.pem"
    return [*password, "-e", cert, "-k", key, "-f", ca], [*password, "--sync-cert", cert, "--sync-key", key, "--sync-ca", ca, "--folders", "conf"]


def arrived(network, here, expected):
    """Waits until the centre's folder has had as many files as that, and says which."""
    have = {}

    def enough():
        with network.centre.way_in("service/reader-tentacle-receiver") as port:
            taken = here.empty(port, "--folders", "conf")
        assert not have.keys() & taken.keys(), "a file came twice"
        have.update(taken)
        return len(have) >= expected

    eventually(enough, f"{expected} files at the centre, of which came {sorted(have)}")
    return have


def test_what_agents_send_to_each_site_and_by_the_proxy_arrives_once_and_whole(network, here):
    sent = {}
    for number, site in enumerate(network.sites):
        files = {f"agent-{number}-{file}.data": f"from site {number}, file {file}\n" * 500 for file in range(50)}
        files[f"agent-{number}.conf"] = "of the folder conf\n"
        site.agents("agents", files, "-a", f"{SITE}.{site.name}.svc", *AGENT, secrets=("client", "password"))
        sent |= files
    by_proxy = {"behind-the-proxy.data": "through the centre's proxy to site 0\n"}
    with network.centre.way_in("service/centre-tentacle-proxy") as port:
        here.send(port, by_proxy, *network.agent)
    assert arrived(network, here, len(sent) + 1) == {**sent, **by_proxy}
    for site in network.sites:
        with site.way_in(f"service/{SITE}") as port:
            assert here.empty(port, *network.puller) == {}


def test_who_has_no_certificate_or_another_password_is_kept_out(network, here, tmp_path):
    (tmp_path / "wrong").write_text("battery staple")
    with network.sites[0].way_in(f"service/{SITE}") as port:
        for options in (["-c", *network.agent[:2]], ["--password-file", str(tmp_path / "wrong"), *network.agent[2:]]):
            with pytest.raises(AssertionError):
                here.send(port, {"unwanted.data": "x"}, *options)
        assert here.empty(port, *network.puller) == {}


def test_helm_test_sends_a_file_reads_it_back_and_removes_it(network):
    for site in network.sites:
        # More than once, as nothing is left behind.
        for _ in range(2):
            site.helm.test("site", timeout=120, logs=True)
        eventually(lambda: not any("check" in name for name in site.objects()), "the test's pod to be gone")


def test_pods_run_as_tight_as_they_are_told(network):
    for space in (*network.sites, network.centre):
        for pod in space.pods():
            assert pod["status"]["qosClass"] == "Burstable"
            assert not any("token" in volume["name"] for volume in pod["spec"].get("volumes", []))
            for status in pod["status"]["containerStatuses"]:
                assert status["ready"] and status["restartCount"] == 0, status


def test_a_new_password_is_in_use_without_a_restart(network, here, tmp_path):
    before = pods(network)
    for space in (*network.sites, network.centre):
        space.secret("password", password="battery staple")
    (tmp_path / "new").write_text("battery staple")
    options = ["--password-file", str(tmp_path / "new"), *network.agent[2:]]
    sent = {}
    for number, site in enumerate(network.sites):
        file = {f"renewed-{number}.data": "with the new password\n"}

        def is_taken():
            with site.way_in(f"service/{SITE}") as port:
                try:
                    here.send(port, file, *options)
                except AssertionError:
                    return False
            return True

        eventually(is_taken, "the site to take the new password")
        sent |= file
    assert arrived(network, here, len(sent)) == sent
    assert pods(network) == before


def test_a_new_certificate_is_in_use_without_a_restart(network, authority):
    before = pods(network)
    site = network.sites[0]
    renewed = authority.server(*names(site))
    site.secret("server", **renewed, ca_crt=authority.pem)

    def is_shown():
        with site.way_in(f"service/{SITE}") as port:
            return ssl.get_server_certificate(("127.0.0.1", port)) == renewed["tls_crt"]

    eventually(is_shown, "the site to show the new certificate")
    assert pods(network) == before


def test_what_is_uninstalled_leaves_its_claims_alone(network):
    claims = {site.name: "files-site-tentacle-receiver-0" for site in network.sites}
    claims[network.centre.name] = "centre-tentacle-sync-puller-incoming"
    for space, releases in ((network.centre, ("reader", "centre")), *((site, ("site",)) for site in network.sites)):
        for release in releases:
            space.helm.uninstall(release, timeout=180)
        claim = {f"persistentvolumeclaim/{claims[space.name]}"}
        eventually(lambda: space.objects("--selector", "app.kubernetes.io/instance") == claim, f"all but the claim to be gone from {space.name}")


def names(site):
    """What the certificate of a site is for."""
    return [f"DNS:{SITE}.{site.name}.svc", "IP:127.0.0.1"]


def pods(network):
    """Each, and how often it was started again."""
    found = [pod for space in (*network.sites, network.centre) for pod in space.pods()]
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}
