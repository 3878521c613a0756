"""pods-killed on a cluster in memory: pods go and come back, its gateway answers in this process."""

import csv
import io
import json
import threading
import time
from uuid import uuid4

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation._layers import LAYERS
from conformance.gates.intelligence import _kills, pods_killed
from conformance.gates.intelligence._kills import Kill
from conformance.probes.asked import ANSWER, RETRIEVE, Asked, Outcome
from conformance.probes.audit import Seen, Trail
from conformance.probes.cluster import killing
from conformance.targets.kube.client import Cluster
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster, named, values
from conformance.tests._memory_store import Store

GATEWAY = "rag-gateway/gateway"
LLM = ("apps/v1", "Deployment", "llm", "rag-llm")
PROBLEM = {"content-type": "application/problem+json"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
AWAY_SECONDS = 0.05


def deployment(namespace, name, replicas=1, kind="Deployment"):
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}}
    return named(kind, name, namespace, "apps/v1", generation=1, spec=spec, status={})


def pod(namespace, name, number=0):
    labels = {"app": name}
    return named("Pod", f"{name}-{number}", namespace, labels=labels, spec={}, status=READY)


class Layers(MemoryCluster):
    """One workload a layer, retrieval with two pods; the model sleeps. A pod that goes comes back soon."""

    wait = Cluster.wait

    def __init__(self):
        super().__init__()
        for namespace in LAYERS:
            name = namespace.removeprefix("rag-")
            pods = {"llm": 0, "retrieval": 2}.get(name, 1)
            self.put(deployment(namespace, name, pods))
            for number in range(pods):
                self.put(pod(namespace, name, number))
        self.killed, self.away, self.lost_for_ever = [], {}, set()
        self.on_delete, self.lock = self._deleted, threading.RLock()

    def _deleted(self, gone):
        where = f"{gone['metadata']['namespace']}/{gone['metadata']['name']}"
        self.killed.append(where)
        gone["metadata"].pop("uid")
        self.away[where] = gone, time.monotonic() + AWAY_SECONDS

    def list(self, *args, **options):
        with self.lock:
            for where, (gone, due) in [*self.away.items()]:
                if time.monotonic() > due and where not in self.lost_for_ever:
                    self.put(gone)
                    del self.away[where]
            return super().list(*args, **options)

    def wake(self):
        with self.lock:
            if not self.objects[LLM]["spec"]["replicas"]:
                self.objects[LLM]["spec"]["replicas"] = 1
                self.put(pod("rag-llm", "llm"))


class Platform:
    """Answers as the gateway would, and keeps an audit trail."""

    def __init__(self, cluster):
        self.cluster, self.records, self.trail = cluster, [], True
        self.broken = lambda: httpx.Response(503, text="{}", headers=PROBLEM)

    def __call__(self, request):
        body = json.loads(request.content)
        query = body.get("question") or body["query"]
        if request.url.path == ANSWER:
            self.cluster.wake()
        if {"embedding-0", "gateway-0"} & {w.partition("/")[2] for w in [*self.cluster.away]}:
            return self.broken()
        told = {"request_id": str(uuid4()), "model": "m", "tenant": "conformance"}
        if request.url.path == ANSWER:
            told |= {"status": "answered", "answer": "A.", "citations": [{"chunk_id": "d1#0"}]}
            told |= {"prompt_version": "1"}
        else:
            told |= {"results": [{"chunk_id": "d1#0", "doc_id": "d1"}]}
        self._record(request.url.path, query, told)
        return httpx.Response(200, json=told)

    def _record(self, path, query, told):
        record = {
            **told,
            **{"user": "u", "time": "now", "path": path, "query": query, "prompt": "p"},
            **{"status": told.get("status", "ok"), "response": told.get("answer")},
            **{"guard_verdict": {"flagged": False}, "timings_ms": {"total": 1}},
            "chunks": [{"chunk_id": "d1#0", "score": 1.0}],
        }
        if self.trail:
            self.records += [record | {"event": event} for event in ("intent", "completion")]


def context(cluster, platform=None, **parameters):
    platform = platform or Platform(cluster)
    made = LiveContext(
        cluster,
        platform,
        **{
            **{"seed": 1, "rate": 200, "clients": 4, "answer_rate": 20, "writers": 2},
            **{"wake_seconds": 2, "recovery_seconds": {"default": 1.0}},
            "felt": {GATEWAY: "one replica", "rag-embedding/embedding": "one replica"},
            "node_services": "unreachable: there is no node",
            **parameters,
        },
    )
    store = Store()
    made.target.store = lambda login: store
    made.target.store_admin = lambda: store
    made.target.outside = lambda: ""
    made.target.audit_records = lambda since, settle: platform.records
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pods_killed, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(pods_killed, "REST_SECONDS", 0.001)
    monkeypatch.setattr(pods_killed, "AUDIT_SECONDS", 0.1)
    monkeypatch.setattr(pods_killed, "WHOLE_SECONDS", 0.1)
    monkeypatch.setattr("conformance.probes.waiting.POLL_SECONDS", 0.01)
    monkeypatch.setattr("conformance.targets.kube.client.POLL_SECONDS", 0.01)


def test_every_pod_is_killed_once_and_nothing_is_lost():
    cluster = Layers()
    made = context(cluster)
    seen = pods_killed.measure(made)
    told = values(seen)
    for name in ("lost_documents", "unaudited_answers", "wrong_answers", "unclear_failures"):
        assert told[name] == 0, name
    assert told["unrecovered"] == 0
    assert seen.metrics["unrecovered"].n == 8
    assert sorted(cluster.killed) == sorted({*cluster.killed})  # once each
    assert cluster.killed[-1] == "rag-llm/llm-0"
    assert {"rag-retrieval/retrieval-0", "rag-retrieval/retrieval-1"} < {*cluster.killed}
    assert told["failed_share"] > 0 == told["spared_failed_share"]
    assert 0 < told["mean_outage"] <= told["slowest_recovery"]
    assert AWAY_SECONDS < told["slowest_recovery"] < 1
    kills = [*csv.DictReader(io.StringIO(made.evidence.files["kills.csv"]))]
    assert [row["name"] for row in kills][-2:] == ["rag-vectordb/vectordb", "rag-llm/llm"]
    (felt,) = [row for row in kills if row["name"] == GATEWAY]
    assert int(felt["failed"]) == int(felt["refused"]) > 0
    requests = [*csv.DictReader(io.StringIO(made.evidence.files["requests.csv"]))]
    assert len(requests) == seen.metrics["failed_share"].n
    assert {row["path"] for row in requests} == {RETRIEVE, ANSWER}
    assert [plot.title for plot in seen.plots] == ["Requests while pods are killed", "Recovery"]
    assert len(seen.plots[0].marks) == 8
    assert "the node's services: unreachable: there is no node" in seen.notes


def test_a_pod_that_does_not_come_back_ends_the_killing():
    cluster = Layers()
    cluster.lost_for_ever.add("rag-ingestion/ingestion-0")
    seen = pods_killed.measure(context(cluster, recovery_seconds={"default": 0.3}))
    told = values(seen)
    assert cluster.killed[-1] == "rag-ingestion/ingestion-0"
    assert told["unrecovered"] == 5  # it, both of retrieval, the store, the model
    assert told["slowest_recovery"] == float("inf")


def test_an_empty_answer_is_wrong_whatever_its_status():
    cluster = Layers()
    platform = Platform(cluster)
    empty = {"tenant": "conformance", "results": [], "status": "answered", "answer": "x"}
    platform.broken = lambda: httpx.Response(200, json={**empty, "citations": []})
    told = values(pods_killed.measure(context(cluster, platform)))
    assert told["wrong_answers"] > 0 == told["unclear_failures"]
    assert told["unaudited_answers"] > 0  # nobody recorded them


@pytest.mark.parametrize("status", [500, 401, 404])
def test_a_failure_that_does_not_say_try_again_is_unclear(status):
    cluster = Layers()
    platform = Platform(cluster)
    platform.broken = lambda: httpx.Response(status, text="oops")
    told = values(pods_killed.measure(context(cluster, platform)))
    assert told["unclear_failures"] > 0 == told["wrong_answers"]


def test_answers_that_the_trail_lacks_are_counted():
    cluster = Layers()
    platform = Platform(cluster)
    platform.trail = False
    made = context(cluster, platform)
    seen = pods_killed.measure(made)
    assert values(seen)["unaudited_answers"] == seen.metrics["unaudited_answers"].n > 0
    assert made.evidence.files["unaudited.jsonl"][0]["problems"] == ["records: none"]


def test_a_platform_that_is_not_whole_is_not_judged():
    cluster = Layers()
    cluster.objects.pop(("v1", "Pod", "retrieval-1", "rag-retrieval"))
    with pytest.raises(ProbeError, match="rag-retrieval/retrieval not whole before"):
        pods_killed.measure(context(cluster))
    cluster = Layers()
    cluster.away["rag-gateway/gateway-0"] = None, float("inf")
    with pytest.raises(ProbeError, match="before the first kill: 503"):
        pods_killed.measure(context(cluster))
    assert cluster.killed == []


def test_a_model_that_nobody_wakes_is_an_error():
    cluster = Layers()
    cluster.wake = lambda: None
    with pytest.raises(ProbeError, match="rag-llm/llm does not serve"):
        pods_killed.measure(context(cluster, wake_seconds=0.2))


def test_services_of_the_node_are_declared_one_way_or_the_other():
    with pytest.raises(ProbeError, match="a list, or 'unreachable: <reason>'"):
        pods_killed.measure(context(Layers(), node_services="somewhere"))
    made = context(Layers(), node_services=["kubelet"])
    with pytest.raises(ProbeError, match="name gateway_url"):
        pods_killed.measure(made)


def test_workloads_that_serve_the_node_are_killed_too():
    cluster = Layers()
    agent = deployment("kube-system", "agent", kind="DaemonSet")
    cluster.put(agent | {"status": {"desiredNumberScheduled": 1}})
    cluster.put(pod("kube-system", "agent"))
    made = context(cluster, node_services=["kube-system/agent"])
    made.target.outside = lambda: "http://gateway"
    assert [*pods_killed._sources(made)][-2:] == ["kube-system/agent", "rag-llm/llm"]
    with pytest.raises(ProbeError, match="kube-system/nobody"):
        killing.workload(cluster, "kube-system/nobody")
    with pytest.raises(ProbeError, match="rag-none: nothing runs there"):
        killing.workloads(cluster, ["rag-none"])


def test_the_replicas_fault_waits_for_its_pod_to_go_and_is_taken_back():
    cluster = Layers()
    name = "vectordb-replica"
    item = deployment("rag-vectordb", name, kind="StatefulSet")
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    item["spec"] |= {"updateStrategy": rolling, "template": {"spec": {"containers": []}}}
    cluster.put(item | {"status": {"observedGeneration": 1, "readyReplicas": 1}})
    cluster.put(pod("rag-vectordb", name))
    where = ("apps/v1", "StatefulSet", name, "rag-vectordb")
    with pods_killed.GATE.faults[0].plant(context(cluster)):
        spec = cluster.get(*where)["spec"]
        assert spec["updateStrategy"] == {"type": "OnDelete"}
        assert spec["template"]["spec"]["nodeSelector"]
        assert cluster.killed == []
    spec = cluster.get(*where)["spec"]
    assert spec["updateStrategy"] == rolling
    assert not spec["template"]["spec"].get("nodeSelector")
    assert cluster.killed == ["rag-vectordb/vectordb-replica-0"]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (["intent", "completion ok"], []),
        (["intent", "completion failed", "intent", "completion ok"], []),  # tried again
        (["intent", "intent", "completion ok"], []),  # the first attempt died
        (["intent", "completion ok", "completion ok"], ["records: completion, completion, intent"]),
        (["intent", "completion failed"], ["records: intent"]),
        (["completion ok"], ["records: completion"]),
        ([], ["records: none"]),
    ],
)
def test_an_answer_is_in_the_trail_once_however_often_the_gateway_tried(events, told):
    cluster = Layers()
    platform = Platform(cluster)
    results = [{"chunk_id": "d1#0", "doc_id": "d1"}]
    body = {"request_id": "r", "model": "m", "tenant": "t", "results": results}
    platform._record(RETRIEVE, "q", body)
    (one, _) = platform.records
    split = [[*event.split(), "ok"][:2] for event in events]
    records = [one | {"event": event, "status": how, "tenant": "t"} for event, how in split]
    seen = Seen(RETRIEVE, "q", "ok", body)
    assert Trail(records).problems_at_last(seen, "t") == told


def row(at, seconds=0.1, outcome=Outcome.SERVED, status=200):
    return Asked(at, seconds, RETRIEVE, "q", outcome, status)


def test_a_request_counts_for_the_last_kill_that_it_met():
    kills = [Kill("a", "a-0", 10, 2, 3), Kill("b", "b-0", 20, 2, 3)]
    rows = [row(5), row(9.95), row(12.9), row(14), row(9, 12), row(21), row(9, 6)]
    found, others = _kills.costs(kills, rows)
    assert [r.at for r in others] == [5, 14]
    assert found[0].rows == [rows[1], rows[2], rows[6]]
    assert found[1].rows == [rows[4], rows[5]]  # one hung from before the first until the second


def test_no_answer_at_all_is_clear_only_while_the_gateway_is_away():
    cut = row(11, outcome=Outcome.CUT, status=0)
    for name, count in ((GATEWAY, 0), ("rag-retrieval/retrieval", 1)):
        found, others = _kills.costs([Kill(name, "x", 10, 2, 3)], [cut])
        assert len(_kills.unclear(found, others, GATEWAY)) == count
    found, others = _kills.costs([], [cut])
    assert _kills.unclear(found, others, GATEWAY) == [cut]


def test_the_worst_of_what_nobody_should_miss_counts():
    refused = [row(11.0 + n / 10, outcome=Outcome.REFUSED, status=503) for n in range(5)]
    kills = [Kill("a", "a-0", 10, 2, 3), Kill("b", "b-0", 20, 2, 3), Kill("c", "c-0", 30, 2, 3)]
    assert [_kills._layer(n) for n in ("rag-a/x", "node/x", "kube-system/x")] == [
        "rag-a",
        "node",
        "node",
    ]
    rows = [*refused, row(12), row(20), row(21, outcome=Outcome.REFUSED), row(30), row(50)]
    found, others = _kills.costs(kills, rows)
    measured, worst = _kills.spared(found, others, {"a"})
    assert (measured.value, measured.n, worst) == (0.5, 4, "b")
    assert "503 x 5" in str(found[0])
    everything, worst = _kills.spared(found, [row(50, outcome=Outcome.CUT)], {"a", "b", "c"})
    assert (everything.value, worst) == (1, _kills.NOTHING)


def test_bars_and_lines_have_every_kill():
    kills = [Kill("n/a", "a-0", 1, 2, 3), Kill("n/a", "a-1", 5, 3, 4), Kill("n/b", "b-0", 9, None)]
    found, others = _kills.costs(kills, [row(2), row(6, outcome=Outcome.REFUSED, status=503)])
    line, bars = _kills.plots(found, others)
    assert line.marks == [(1, "a"), (5, "a"), (9, "b")]
    assert line.series["served"][1] == (2.0, 0.5)
    assert line.series["failed"][3] == (6.0, 0.5)
    assert bars.names == ["n/a", "n/b"]
    assert bars.series["back"] == [(0, 3), (1, 0)]


def test_questions_are_known_before():
    cluster = Layers()
    platform = Platform(cluster)
    made = context(cluster, platform)
    restless = iter(range(10_000))

    def respond(request):
        told = platform(request).json()
        told["results"] = [{"chunk_id": "x", "doc_id": f"d{next(restless)}"}]
        return httpx.Response(200, json=told)

    made.respond = respond
    with pytest.raises(ProbeError, match="no question has one document that comes first"):
        pods_killed.measure(made)
