"""compromised-pod: how attempts are judged, and a platform that is attacked."""

import csv
import io

import pytest
import yaml

from conformance.gate import ProbeError
from conformance.gates.intelligence import compromised_pod as gate
from conformance.gates.intelligence._compromise import (
    attempts,
    container,
    data,
    footholds,
    identity,
    kubernetes_api,
    network,
    tables,
    targets,
    vault,
)
from conformance.gates.intelligence._compromise.attempts import Attempt, Power
from conformance.gates.intelligence._compromise.footholds import BARE, Foothold
from conformance.probes.cluster import ApiError
from conformance.static import matrix
from conformance.tests._attacked_cluster import SHELL, Attacked
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made

RETRIEVAL, LLM = "rag-retrieval/retrieval", "rag-llm/llm"


def states(*tried, powers=()):
    return [row.state for row in attempts.judged(tried, powers)]


def power(who=RETRIEVAL, can="sql: read"):
    return Power((who,), can, "its work")


@pytest.mark.parametrize(
    ("got", "by_design", "powers", "state"),
    [
        (True, "", [], "undeclared"),
        (True, "a flow", [], "declared"),
        (True, "", [power()], "declared"),
        (True, "", [power(who="every")], "declared"),
        (True, "", [power(), power(who=LLM)], "declared"),
        (False, "", [], "refused"),
        (False, "a flow", [], "declared, not possible"),
        (False, "", [power()], "declared, not possible"),
        (None, "", [], "not tried"),
        (None, "a flow", [power()], "not tried"),
    ],
)
def test_an_attempt_is_judged_by_what_is_declared(got, by_design, powers, state):
    attempt = Attempt(RETRIEVAL, "sql", "read", got, "told", by_design)
    assert states(attempt, powers=powers)[0] == state


def test_a_power_of_somebody_else_or_of_something_else_declares_nothing():
    attempt = Attempt(RETRIEVAL, "sql", "read", True)
    others = [power(who=LLM), power(can="sql: write"), power(can="kafka: read")]
    assert states(attempt, powers=others)[0] == "undeclared"


def test_a_power_that_nobody_tried_is_not_known():
    (row,) = attempts.judged([], [power()])
    assert (row.state, row.attempt.what) == ("not tried", "read")


@pytest.mark.parametrize("environment", ["lab", "staging", "production"])
def test_every_declared_power_is_of_an_account_and_has_a_reason(environment):
    known = {"/".join(account) for account in matrix.of(environment).layer_accounts}
    found = attempts.declared(environment)
    assert found
    for one in found:
        assert {*one.who} <= known | {"every"}, one
        assert len(one.why) > 8, one
        assert ": " in one.can, one
    assert len({(one.who, one.can) for one in found}) == len(found)


@pytest.mark.parametrize("text", ["", "powers:\n  - {who: [x]}", "[", "powers: 3"])
def test_a_list_that_is_none_is_the_probes_error(tmp_path, text):
    file = tmp_path / "powers.yaml"
    file.write_text(text)
    with pytest.raises(ProbeError, match=r"powers\.yaml"):
        attempts.declared("lab", file)


def test_a_power_holds_under_the_vars_that_it_names(tmp_path):
    file = tmp_path / "powers.yaml"
    entry = {"who": [RETRIEVAL], "can": ["s3: list"], "why": "its work", "when": {"overlay": "lab"}}
    file.write_text(yaml.safe_dump({"powers": [entry]}))
    assert len(attempts.declared("lab", file)) == 1
    assert attempts.declared("production", file) == []


@pytest.fixture
def platform(monkeypatch):
    cluster = Attacked()
    monkeypatch.setattr(kubernetes_api, "_client", lambda _, token: cluster.api(token))
    return cluster


def measured(cluster):
    context = FakeContext(cluster, at_once=4)
    observation = gate.measure(context)
    return observation, context.evidence.files


def values(observation):
    return {name: m.value for name, m in observation.metrics.items()}


GREEN = {"undeclared": 0, "unneeded": 0, "untried": 0}


def test_a_platform_that_gives_what_is_declared_is_green(platform):
    observation, files = measured(platform)
    assert observation.notes == []
    assert values(observation) == {**GREEN, "workloads": len(platform.matrix.layer_accounts)}
    assert observation.metrics["undeclared"].n > 5000
    assert observation.metrics["unneeded"].n > 50
    rows = [*csv.DictReader(io.StringIO(files["attempts.csv"]))]
    assert len(rows) == observation.metrics["undeclared"].n
    assert {row["judged"] for row in rows} == {"declared", "refused"}
    assert "## What worked, as declared" in files["review.md"]
    assert not [k for k in platform.objects if k[2].startswith("probe-")]


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("rag-ingestion/ingestion", "rag-retrieval/cache"),
        ("rag-vectordb/replica", "sql: read a tenant's passages as itself"),
        ("rag-retrieval/retrieval", "sql: run a program"),
        ("rag-audit/indexer", "elasticsearch: delete a record"),
        ("rag-ingestion/ingestion", "s3: delete a backup"),
        ("rag-retrieval/retrieval", "cache: KEYS *"),
        ("rag-retrieval/retrieval", "identity: have the guard sign a tenant token"),
        ("rag-gateway/gateway", "identity: read without a tenant token"),
        ("rag-llm/llm", "container: become root"),
        ("rag-audit/kafka", "vault: log in as rag-gateway.guard"),
        ("rag-audit/kafka", "vault: change sys/policies/acl/intruder"),
    ],
)
def test_what_works_beyond_that_is_found(platform, who, what):
    platform.more.add((who, what))
    observation, files = measured(platform)
    assert values(observation)["undeclared"] >= 1
    assert values(observation)["untried"] == 0
    assert all(note.startswith(f"{who}: ") for note in observation.notes)
    assert "UNDECLARED" in files["review.md"].upper()


def test_a_secret_that_an_account_may_list_is_found(platform):
    platform.tokens.add(("rag-embedding/embedding", "/api/v1/namespaces/rag-gateway/secrets"))
    observation, _ = measured(platform)
    assert values(observation)["undeclared"] == 1
    assert "list secrets in rag-gateway" in observation.notes[0]


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("rag-retrieval/retrieval", "rag-vectordb/vectordb"),
        ("rag-retrieval/retrieval", "sql: read a tenant's passages as its reader"),
        ("rag-gateway/gateway", "identity: have the guard sign a tenant token"),
    ],
)
def test_what_is_declared_and_does_not_work_is_found(platform, who, what):
    platform.less.add((who, what))
    observation, _ = measured(platform)
    assert values(observation)["unneeded"] >= 1
    assert values(observation)["undeclared"] == 0


@pytest.mark.parametrize("script", ["knock", "vault_raid", "escape", "sql_raid", "service_raid"])
def test_what_could_not_be_tried_is_no_pass(platform, script):
    platform.broken(script)
    observation, _ = measured(platform)
    assert values(observation)["untried"] >= 1
    assert any("no answer" in note for note in observation.notes)


def test_an_account_without_a_workload_is_no_pass(platform):
    del platform.objects["apps/v1", "Deployment", "llm", "rag-llm"]
    del platform.objects["v1", "Pod", "llm-1", "rag-llm"]
    observation, _ = measured(platform)
    assert values(observation)["untried"] == 1
    assert observation.notes == [
        "rag-llm/llm: foothold: have a pod: not tried (no workload runs as this account)"
    ]


def test_a_cluster_without_the_platform_is_the_probes_error():
    with pytest.raises(ProbeError, match="no workload of any layer"):
        gate.measure(FakeContext(FakeCluster(), at_once=1))


@pytest.mark.parametrize(
    ("reply", "got"),
    [
        ("", False),
        ("N", True),
        ("TLS", True),
        ("+PONG\r\n", True),
        ("HTTP/1.1 200 OK\r\n\r\nprobe", True),
        (
            "HTTP/1.1 404 Not Found\r\nserver: envoy\r\nx-envoy-upstream-service-time: 2\r\n\r\n",
            True,
        ),
        ("HTTP/1.1 502 Bad Gateway\r\nserver: envoy\r\n\r\n", False),
        ("HTTP/1.1 503 x\r\nServer: envoy\r\n\r\nupstream connect error", False),
        (
            "HTTP/1.1 403 Forbidden\r\nserver: envoy\r\nx-envoy-upstream-service-time: 1\r\n\r\n"
            "RBAC: access denied",
            False,
        ),
    ],
)
def test_an_answer_is_the_servers_own(reply, got):
    assert network.answered({"reply": reply, "error": ""})[0] is got


@pytest.mark.parametrize(
    ("status", "got"),
    [(200, True), (404, True), (422, True), (400, False), (401, False), (403, False)],
)
def test_an_identity_is_taken_unless_it_is_refused(status, got):
    reply = f"HTTP/1.1 {status} x\r\nserver: envoy\r\nx-envoy-upstream-service-time: 1\r\n\r\n"
    assert identity.accepted({"reply": reply, "error": ""})[0] is got


def test_forged_tokens_are_three_and_differ():
    tokens = identity.forged("acme")
    assert len({*tokens.values()}) == 3
    assert tokens["not signed"].endswith(".")


TEMPLATE = {
    "metadata": {
        "annotations": {
            "vault.hashicorp.com/role": "rag-llm.llm",
            "vault.hashicorp.com/agent-inject-secret-a": "secret/data/rag-llm/llm/a",
            "prometheus.io/scrape": "true",
        }
    },
    "spec": {
        "serviceAccountName": "llm",
        "securityContext": {"runAsNonRoot": True, "fsGroup": 7},
        "containers": [{"name": "app", "securityContext": {"runAsUser": 7, "privileged": False}}],
    },
}


def planted(template=TEMPLATE, **account):
    cluster = FakeCluster(made("ServiceAccount", "llm", "rag-llm", **account))
    return footholds.twin(cluster, Foothold("rag-llm", "llm", template), "probe:1")


def test_a_pod_in_its_place_has_account_label_secrets_and_security_context():
    pod = planted()
    spec, notes = pod["spec"], pod["metadata"]["annotations"]
    assert spec["serviceAccountName"] == "llm"
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "llm"
    assert notes["vault.hashicorp.com/agent-pre-populate-only"] == "true"
    assert "prometheus.io/scrape" not in notes
    main, bare = spec["containers"]
    assert main["securityContext"] == {"runAsUser": 7, "runAsGroup": 7, "privileged": False}
    assert spec["securityContext"]["fsGroup"] == 7
    assert (bare["name"], bare["securityContext"]["runAsUser"]) == (BARE, 1337)
    assert spec["readinessGates"], "a Service would lead to it"


def test_the_proxys_own_user_would_have_no_way_out():
    template = {
        "spec": {
            "serviceAccountName": "llm",
            "containers": [{"securityContext": {"runAsUser": 1337}}],
        }
    }
    main, bare = planted(template)["spec"]["containers"]
    assert main["securityContext"]["runAsUser"] == 65532
    assert bare["securityContext"]["runAsUser"] == 1337


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (False, None, False), (True, False, True), (None, False, False)],
)
def test_it_has_a_token_where_the_workload_has(of_pod, of_account, mounted):
    spec = TEMPLATE["spec"] | ({} if of_pod is None else {"automountServiceAccountToken": of_pod})
    account = {} if of_account is None else {"automountServiceAccountToken": of_account}
    pod = planted({**TEMPLATE, "spec": spec}, **account)
    assert pod["spec"]["automountServiceAccountToken"] is mounted


def test_its_paths_are_those_that_its_manifest_has_injected():
    assert Foothold("rag-llm", "llm", TEMPLATE).paths == ["secret/data/rag-llm/llm/a"]


def test_a_template_is_found_in_a_cron_job_and_a_planted_one_is_not():
    inner = {"spec": {"template": {"spec": {"serviceAccountName": "backup"}}}}
    job = made("CronJob", "backup", "rag-vectordb", "batch/v1", spec={"jobTemplate": inner})
    probe = made("Deployment", "x", "rag-vectordb", "apps/v1")
    probe["metadata"]["labels"] = {"rag-blueprint.dev/probe": "1"}
    probe["spec"] = {"template": {"spec": {"serviceAccountName": "other"}}}
    cluster = FakeCluster(job, probe)
    assert footholds.template_of(cluster, "rag-vectordb", "backup") == inner["spec"]["template"]
    assert footholds.template_of(cluster, "rag-vectordb", "other") is None


def test_doors_are_services_pods_nodes_and_what_lies_outside():
    cluster = Attacked()
    node = {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    cluster.put(made("Node", "n1", status=node))
    cluster.put(
        made(
            "Service",
            "open",
            "x",
            spec={"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]},
        )
    )
    names = {door.name: door for door in targets.doors(cluster)}
    assert names["Service rag-vectordb/vectordb:5432"].account == "vectordb"
    assert not names["pod of rag-llm/llm:15020"].authority
    assert names["node:10250"].host == "10.0.0.1"
    assert names["node port of x/open:30080"].port == 30080
    assert not names["Service x/open:80"].served
    assert names["the cloud's metadata"].host == "169.254.169.254"


def test_facts_of_a_shell_are_attempts():
    told = container.facts(SHELL)
    assert {got for got, _ in told.values()} == {False}
    assert len(told) == 9


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Uid:0", "be root"),
        ("CapEff:00000000a80425fb", "have a capability"),
        ("Seccomp:0", "make any system call"),
        ("written: / /etc", "write the root file system"),
        ("node: kubelet", "see a process of the node"),
        ("sockets: /var/run/docker.sock", "reach the container runtime"),
        ("kernel:/proc/sysrq-trigger", "set the kernel"),
        (
            "environment:\ndeclare -x DB_PASSWORD='hunter22hunter'",
            "find a credential in the environment",
        ),
    ],
)
def test_a_fact_that_is_wrong_is_found(line, what):
    head, _, rest = SHELL.partition("environment:\n")
    text = head + line + "\n" + ("" if line.startswith("environment") else f"environment:\n{rest}")
    assert [name for name, (got, _) in container.facts(text).items() if got] == [what]


def test_a_fact_that_is_missing_is_not_known():
    told = container.facts("Uid:65532\n")
    assert told["be root"] == (False, "65532")
    assert told["make any system call"][0] is None
    assert told["find a credential in the environment"][0] is None


def test_a_container_without_a_shell_gives_none_and_one_that_does_not_answer_is_not_known(platform):
    one = Foothold("rag-llm", "llm", TEMPLATE)
    platform.shell = ProbeError("exec in x: executable file not found in $PATH")
    last = [*container.real(platform, one)][-1]
    assert (last.got, last.told) == (False, "it has no shell")
    platform.shell = ApiError("exec in x", 0, "no answer")
    assert [*container.real(platform, one)][-1].got is None


@pytest.mark.parametrize(
    ("may", "got"),
    [
        (["deny"], False),
        (["read"], False),
        (["create", "read"], True),
        (["root"], True),
        (None, None),
    ],
)
def test_capabilities_beyond_reading_change_something(may, got):
    assert vault._changes(may) is got


def test_a_pod_without_a_token_cannot_log_in(platform, monkeypatch):
    monkeypatch.setattr(
        platform, "_vault_raid", lambda *_: {"mounted": False, "anonymous": {"GET sys/auth": 403}}
    )
    one = Foothold(
        "rag-llm", "llm", TEMPLATE, {"metadata": {"namespace": "rag-llm", "name": "llm-1"}}
    )
    rows = [*vault.tried(platform, one, vault.Ways("ca", [], []))]
    assert [(row.what, row.got) for row in rows] == [
        ("GET sys/auth without a token", False),
        ("log in", False),
    ]


@pytest.mark.parametrize(
    ("service", "status", "said", "got"),
    [
        ("elasticsearch", 403, "", False),
        ("elasticsearch", 404, "", True),
        ("elasticsearch", 401, "", False),
        ("s3", 200, "", True),
        ("s3", 0, "refused", None),
        ("cache", 403, "-NOPERM x", False),
        ("cache", 403, "-ERR syntax error", True),
        ("cache", 200, "+OK", True),
    ],
)
def test_what_a_server_says_is_told_apart(service, status, said, got):
    assert data._got(service, status, said) is got


def test_a_table_of_markdown_keeps_its_columns():
    row = attempts.judged([Attempt(RETRIEVAL, "sql", "a|b", True, "x\ny")], [])
    text = tables.markdown([tables.findings(row)])
    assert "| a\\|b | x y | undeclared |" in text
