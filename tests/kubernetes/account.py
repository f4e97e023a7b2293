"""The API server as a service account sees it, by its own token."""

import base64
import json
import ssl
import urllib.error
import urllib.request

from conftest import PATIENCE, kubectl


class Account:
    """Asks as `system:serviceaccount:NAMESPACE:NAME`, and says what was answered."""

    def __init__(self, namespace, name):
        cluster = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))["clusters"][0]["cluster"]
        self.server = cluster["server"]
        authority = cluster.get("certificate-authority-data")
        self.trust = ssl.create_default_context(cadata=base64.b64decode(authority).decode() if authority else None)
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        made = kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(wanted))
        self.token = json.loads(made)["status"]["token"]

    def ask(self, method, path, body=None):
        """The status, and the object that came with it."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        given = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, given, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=self.trust) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def rules(self, namespace):
        """What it may do there, as the API server itself lists it: sets of (group, resource, verb, names)."""
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
        status, answer = self.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
        assert status == 201 and not answer["status"].get("incomplete"), answer
        rules = answer["status"]["resourceRules"]
        return {
            (group, resource, verb, tuple(rule.get("resourceNames", [])))
            for rule in rules
            for group in rule.get("apiGroups", [])
            for resource in rule.get("resources", [])
            for verb in rule["verbs"]
        }
