"""rollout-no-downtime: pods replaced forth and back while a gateway in this process answers."""

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import rollout_no_downtime
from conformance.probes.cluster import rollouts
from conformance.probes.cluster.rollouts import KSERVE, Workload, rolled
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster, named, values

WHERE = ["rag-retrieval/retrieval", "rag-llm/llm-predictor"]


def deployment(where, **more):
    namespace, _, name = where.partition("/")
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {}}}
    status = {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}
    return named(
        "Deployment", name, namespace, "apps/v1", generation=1, spec=spec, status=status, **more
    )


def pod(where):
    namespace, _, name = where.partition("/")
    return named("Pod", f"{name}-0", namespace, labels={"app": name})


class Rolling(MemoryCluster):
    """A pod is a new one as soon as the template, or the InferenceService's annotations, change."""

    def __init__(self):
        super().__init__(*(make(where) for where in WHERE for make in (deployment, pod)))
        owned = self.objects["apps/v1", "Deployment", "llm-predictor", "rag-llm"]
        owned["metadata"]["ownerReferences"] = [{"kind": "InferenceService", "name": "llm"}]
        self.put(named("InferenceService", "llm", "rag-llm", KSERVE, spec={"predictor": {}}))
        self.on_patch, self.rolls, self.stuck = self._roll, [], False

    def _roll(self, item):
        where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        where += "-predictor" if item["kind"] == "InferenceService" else ""
        if not self.stuck:
            self.rolls.append(where)
            self.put(pod(where))
        return item


def context(cluster, respond=None):
    return LiveContext(
        cluster,
        respond,
        workloads=WHERE,
        rate=200,
        clients=2,
        answer_rate=50,
        requests=20,
        roll_seconds=1,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("conformance.probes.waiting.POLL_SECONDS", 0.01)


def test_a_roll_that_nobody_notices_is_green():
    cluster = Rolling()
    seen = rollout_no_downtime.measure(context(cluster))
    assert values(seen) == {"failed_requests": 0, "failed_answers": 0, "workloads_rolled": 2}
    assert seen.metrics["failed_requests"].n >= 20
    assert sorted(cluster.rolls) == sorted([*WHERE, *WHERE])  # forth and back
    service = cluster.objects[KSERVE, "InferenceService", "llm", "rag-llm"]
    assert rollouts.MARK not in service["spec"]["predictor"].get("annotations", {})


def test_a_roll_that_is_noticed_is_counted_and_told():
    cluster = Rolling()
    respond = lambda request: httpx.Response(503, text="no healthy upstream")  # noqa: E731
    seen = rollout_no_downtime.measure(context(cluster, respond))
    assert values(seen)["failed_requests"] == seen.metrics["failed_requests"].n
    assert "no healthy upstream" in seen.notes[0]


def test_a_roll_that_does_not_end_is_an_error():
    cluster = Rolling()
    cluster.stuck = True
    with pytest.raises(ProbeError, match="every pod replaced"):
        rollout_no_downtime.measure(context(cluster))


def test_a_workload_without_a_pod_or_that_is_not_there_is_an_error():
    cluster = Rolling()
    with pytest.raises(ProbeError, match="404"):
        Workload.of(cluster, "rag-llm/nothing")
    cluster.objects.pop(("v1", "Pod", "retrieval-0", "rag-retrieval"))
    with (
        pytest.raises(ProbeError, match="no pod to replace"),
        rolled(cluster, Workload.of(cluster, WHERE[0]), 1),
    ):
        pass


@pytest.mark.parametrize(
    "status",
    [{}, {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 2}],
)
def test_a_roll_is_complete_when_nothing_old_is_left(status):
    item = deployment(WHERE[0])
    assert rollouts.complete(item)
    assert not rollouts.complete({**item, "status": status})


def test_the_fault_makes_retrieval_end_before_it_starts_and_is_taken_back():
    cluster = Rolling()
    item = cluster.objects["apps/v1", "Deployment", "retrieval", "rag-retrieval"]
    item["status"]["readyReplicas"] = 1
    with rollout_no_downtime.GATE.faults[0].plant(context(cluster)):
        strategy = cluster.get("apps/v1", "Deployment", "retrieval", "rag-retrieval")["spec"]
        assert strategy["strategy"] == {"type": "Recreate"}
    after = cluster.get("apps/v1", "Deployment", "retrieval", "rag-retrieval")["spec"]
    assert not any((after["strategy"] or {}).values())
