"""vault-injection: whose login is accepted, where the file lies, and how soon it is new."""

import base64
import hashlib
import json

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import _vault, vault_injection
from conformance.static import matrix
from conformance.targets.kube import client
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made

ACCOUNTS = sorted(matrix.read().accounts)
OWNER, OTHER = ("rag-llm", "llm"), ("rag-retrieval", "retrieval")
DATA = f"secret/data/{vault_injection._PATH}"


class Platform(FakeCluster):
    """A vault behind a probe pod, and an injector that keeps files equal to it."""

    def __init__(self):
        ca = base64.b64encode(b"the authority").decode()
        super().__init__(made("Secret", "vault-tls", "vault", data={"ca.crt": ca}))
        self.roles = {_vault.role_of(a): self.role(a) for a in ACCOUNTS}
        self.roles["vault-access"] = self.role(("vault", "vault-access"))
        self.secrets, self.policies, self.told = {}, {}, []
        self.file = {"file_system": "tmpfs", "in_environment": False}
        self.restarts, self.rotates, self.folders_shut = 0, True, True
        self.admit, self.commands, self.log = self.start, self.answer, self.printed
        self.unknown = 0  # requests until the policy agent knows the asking pod

    @staticmethod
    def role(account):
        return {
            "bound_service_account_names": [account[1]],
            "bound_service_account_namespaces": [account[0]],
            "audience": "issuer",
            "token_policies": [".".join(account)],
            "token_ttl": 1200,
        }

    def raw(self, path, params=None, **_):
        assert path == "/.well-known/openid-configuration"
        return {"issuer": "issuer"}

    def start(self, item):
        if item["kind"] == "Pod":
            item["metadata"]["uid"] = "1"
            state = {"name": "probe", "ready": True, "restartCount": self.restarts}
            item["status"] = {"phase": "Running", "podIP": "1.1.1.1", "containerStatuses": [state]}
        return item

    def printed(self, namespace, pod):
        value = self.secrets.get(DATA)
        if value and (self.rotates or not self.told):
            digest = hashlib.sha256(value.encode()).hexdigest()
            self.told.append(json.dumps({"sha256": digest, **self.file}))
        return "\n".join(['{"error": "no such file"}', *self.told])

    def answer(self, namespace, pod, order):
        if "dials" in order:
            return [self.knock(dial) for dial in order["dials"]]
        assert order["ca"] == "the authority"
        return [
            dict(zip(("status", "body"), self.reply(r), strict=True)) for r in order["requests"]
        ]

    def knock(self, dial):
        self.unknown -= 1
        told = {key: dial[key] for key in ("host", "port", "what")}
        shut = self.unknown >= 0
        return {**told, "connected": not shut, "error": "Connection refused" if shut else ""}

    def reply(self, request):
        path = request["url"].removeprefix(f"{_vault.URL}/")
        token, body = request["headers"].get("X-Vault-Token", ""), request["body"]
        if path == "auth/kubernetes/login":
            return self.login(body)
        kind, _, name = path.rpartition("/")
        if path == DATA and request["method"] == "GET":
            own = not self.folders_shut or token.endswith("rag-llm.llm")
            return (200, {}) if own else (403, {"errors": ["permission denied"]})
        if path.startswith("secret/metadata/"):
            assert token.endswith("rag-conformance")
            self.secrets.pop(path.replace("metadata", "data"), None)
            return 204, ""
        assert token.endswith("vault-access")
        if path == DATA:
            self.secrets[DATA] = body["data"]["value"]
            return 200, {}
        table = self.roles if kind == "auth/kubernetes/role" else self.policies
        if request["method"] == "GET":
            return 200, {"data": {**table[name], "more": 1}}
        if request["method"] == "DELETE":
            table.pop(name, None)
        else:
            table[name] = body
        return 204, ""

    def login(self, body):
        role = self.roles.get(body["role"])
        namespace, name = body["jwt"].split("/")
        bound = role and name in role["bound_service_account_names"]
        if not bound or namespace not in role["bound_service_account_namespaces"]:
            return 403, {"errors": ["permission denied"]}
        return 200, {"auth": {"client_token": f"token of {body['role']}"}}


def measured(cluster, **parameters):
    context = FakeContext(cluster, **{"injection_seconds": 1, "rotation_seconds": 1, **parameters})
    observation = vault_injection.measure(context)
    return {name: m.value for name, m in observation.metrics.items()}, observation, context


GREEN = {"in_memory_share": 1, "wrong_identity_accepted": 0, "own_identity_refused": 0}


def test_a_vault_as_declared_is_green_and_forgets():
    cluster = Platform()
    before = json.dumps(cluster.roles)
    told, observation, _ = measured(cluster)
    assert told.pop("rotation") < 1
    assert told == GREEN
    others = len(matrix.read().layer_accounts) - 1
    assert observation.metrics["wrong_identity_accepted"].n == (others + 2) * others
    assert not cluster.secrets and not cluster.policies
    assert json.dumps(cluster.roles) == before
    assert [key[1] for key in cluster.objects] == ["Secret"]


def test_a_pod_that_the_policy_agent_does_not_know_yet_asks_again(monkeypatch):
    monkeypatch.setattr(client, "POLL_SECONDS", 0)
    cluster = Platform()
    cluster.unknown = 2
    assert {k: v for k, v in measured(cluster)[0].items() if k != "rotation"} == GREEN
    cluster.unknown = 10**9
    monkeypatch.setattr(_vault, "_PERMIT_SECONDS", 0)
    with pytest.raises(ProbeError, match="Connection refused"):
        measured(cluster)


def test_no_value_and_no_token_is_in_the_evidence():
    cluster, seen = Platform(), []
    reply = cluster.reply

    def listen(request):
        seen.extend(filter(None, [request["headers"].get("X-Vault-Token")]))
        seen.extend([request["body"]["data"]["value"]] if "data" in (request["body"] or {}) else [])
        return reply(request)

    cluster.reply = listen
    _, observation, context = measured(cluster)
    kept = json.dumps([context.evidence.files, observation.notes])
    assert len(seen) > 4
    assert not [secret for secret in seen if secret in kept]


def test_a_role_bound_to_another_account_is_seen_and_bound_back():
    cluster = Platform()
    before = json.dumps(cluster.roles)
    with vault_injection.GATE.faults[0].plant(FakeContext(cluster)):
        told, observation, _ = measured(cluster)
    assert told["wrong_identity_accepted"] == 1
    assert told["own_identity_refused"] == 1
    assert (told["in_memory_share"], told["rotation"]) == (0, float("inf"))
    assert "accepted: rag-retrieval.retrieval as rag-llm.llm" in observation.notes
    assert json.dumps(cluster.roles) == before
    assert measured(cluster)[0]["wrong_identity_accepted"] == 0


def test_an_account_that_reads_another_folder_is_counted():
    cluster = Platform()
    cluster.folders_shut = False
    others = len(matrix.read().layer_accounts) - 1
    assert measured(cluster)[0]["wrong_identity_accepted"] == others


@pytest.mark.parametrize(
    "file",
    [
        {"file_system": "ext4", "in_environment": False},
        {"file_system": "tmpfs", "in_environment": True},
    ],
)
def test_a_file_on_disk_or_a_value_in_the_environment_is_not_in_memory(file):
    cluster = Platform()
    cluster.file = file
    assert measured(cluster)[0]["in_memory_share"] == 0


def test_a_file_that_never_comes_is_a_value_not_an_error():
    cluster = Platform()
    cluster.log = lambda *_: ""
    told = measured(cluster, injection_seconds=0.3)[0]
    assert (told["in_memory_share"], told["rotation"]) == (0, float("inf"))


def test_a_secret_that_is_not_rotated_takes_for_ever():
    cluster = Platform()
    cluster.rotates = False
    assert measured(cluster, rotation_seconds=0.3)[0]["rotation"] == float("inf")


def test_a_rotation_by_restart_is_none():
    cluster = Platform()
    cluster.restarts = 1
    assert measured(cluster)[0]["rotation"] == float("inf")


@pytest.mark.parametrize(
    ("status", "body"), [(503, {"errors": ["Vault is sealed"]}), (500, "boom"), (0, "refused")]
)
def test_a_vault_that_does_not_answer_is_no_verdict(status, body):
    cluster = Platform()
    cluster.reply = lambda request: (status, body)
    with pytest.raises(ProbeError):
        measured(cluster)
    assert [key[1] for key in cluster.objects] == ["Secret"]


def test_without_the_access_role_nothing_can_be_measured():
    cluster = Platform()
    del cluster.roles["vault-access"]
    with pytest.raises(ProbeError, match="refuses vault/vault-access"):
        measured(cluster)


def test_the_pod_names_its_role_and_its_secret():
    pod = vault_injection._pod(FakeContext(Platform()))
    annotations = pod["metadata"]["annotations"]
    assert annotations["vault.hashicorp.com/role"] == "rag-llm.llm"
    assert DATA in annotations["vault.hashicorp.com/agent-inject-template-probe"]
    assert pod["spec"]["serviceAccountName"] == "llm"
    assert pod["spec"]["automountServiceAccountToken"]
