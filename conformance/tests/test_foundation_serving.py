"""serving-ready: what KServe must really do, and what its silence is taken for."""

import itertools

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import serving_ready
from conformance.probes.cluster import FAULT, LABEL, ApiError, unique, workloads
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

API = serving_ready.API
DENIED = ApiError("create", 400, 'admission webhook "x" denied the request: MinReplicas cannot be')
ABSENT = ApiError("create", 500, 'failed calling webhook "x": no endpoints available')


def service(name, ready="True", message=""):
    told = {"type": "Ready", "status": ready, "message": message}
    return named("InferenceService", name, "rag-llm", API, status={"conditions": [told]})


class KServe(MemoryCluster):
    """Admits, makes Ready and serves as told."""

    def __init__(self, *items, webhook=True, ready=True, answer="probe\n"):
        super().__init__(*items)
        self.webhook, self.ready, self.answer = webhook, ready, answer
        self.on_create = self._admit
        self.put(
            named(
                "Deployment",
                "kserve-controller-manager",
                "kserve",
                "apps/v1",
                generation=1,
                spec={"replicas": 1, "selector": {"matchLabels": {"a": "b"}}},
                status={"observedGeneration": 1, "readyReplicas": 1},
            )
        )
        self.on_patch = self._scale

    def _scale(self, item):
        if item["kind"] == "Deployment":
            self.webhook = self.ready = item["spec"]["replicas"] > 0
            return {
                **item,
                "status": {"observedGeneration": 1, "readyReplicas": item["spec"]["replicas"]},
            }
        return None

    def _admit(self, item):
        if item["kind"] != "InferenceService":
            return None
        if not self.webhook:
            raise ABSENT
        predictor = item["spec"]["predictor"]
        if predictor["minReplicas"] > predictor["maxReplicas"]:
            raise DENIED
        where, name = item["metadata"]["namespace"], item["metadata"]["name"]
        self.answers[f"{where}/{name}-predictor:80/"] = self.answer
        port = predictor["containers"][0]["readinessProbe"]["tcpSocket"]["port"]
        status = "True" if self.ready and port == 8080 else "False"
        told = {"type": "Ready", "status": status, "message": "its pod is not ready"}
        return {**item, "status": {"conditions": [told]}}


def measured(cluster):
    return serving_ready.measure(Context(cluster, ready_seconds=0))


def test_a_service_that_is_made_and_answers_is_ready():
    cluster = KServe(service("llm"))
    seen = measured(cluster)
    assert values(seen)["not_ready"] == 0
    assert seen.metrics["not_ready"].n == 4
    assert cluster.planted == []


def test_an_existing_service_that_is_not_ready_counts():
    seen = measured(KServe(service("llm", "False", "no GPU")))
    assert values(seen)["not_ready"] == 1
    assert seen.notes == ["rag-llm/llm: no GPU"]


def test_one_that_is_being_deleted_is_not_judged():
    leaving = service("llm", "False", "gone soon")
    leaving["metadata"]["deletionTimestamp"] = "x"
    assert values(measured(KServe(leaving)))["not_ready"] == 0


def test_one_without_a_condition_is_not_ready():
    seen = measured(KServe(named("InferenceService", "new", "rag-llm", API)))
    assert values(seen)["not_ready"] == 1


def test_a_webhook_that_admits_nonsense_counts():
    cluster = KServe()
    cluster.on_create = lambda item: None
    seen = measured(cluster)
    assert "accepted more replicas at least than at most" in seen.notes[0]
    assert values(seen)["not_ready"] == 3  # nor does anybody make it Ready


def test_a_webhook_that_is_not_there_is_a_value_not_an_error():
    assert values(measured(KServe(webhook=False)))["not_ready"] == 3


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [("other", 1), (ApiError("proxy", 503, "no endpoints"), 1)],
)
def test_a_service_that_answers_wrongly_counts(answer, wrong):
    assert values(measured(KServe(answer=answer)))["not_ready"] == wrong


@pytest.mark.parametrize("status", [0, 403, 409])
def test_an_api_server_that_refuses_the_probe_is_an_error(status):
    cluster = KServe()

    def refuse(item):
        raise ApiError("create", status, "no")

    cluster.on_create = refuse
    with pytest.raises(ProbeError):
        measured(cluster)
    assert cluster.planted == []


def test_a_proxy_that_may_not_be_asked_is_an_error():
    with pytest.raises(ProbeError):
        measured(KServe(answer=ApiError("proxy", 403, "forbidden")))


def test_the_host_name_that_is_made_of_both_names_is_short_enough():
    asked = Context(MemoryCluster())
    namespace = unique(asked.target.cluster, "serving")
    name = serving_ready._service(asked, namespace)["metadata"]["name"]
    assert len(f"{name}-predictor-{namespace}") <= 63


def test_the_probes_pods_are_within_pod_security_and_last():
    spec = serving_ready._service(Context(MemoryCluster()), "n")["spec"]["predictor"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not {"activeDeadlineSeconds", "restartPolicy"} & spec.keys()
    assert spec["containers"][0]["name"] == "kserve-container"


@pytest.mark.parametrize("fault", serving_ready.GATE.faults, ids=lambda f: f.description)
def test_each_fault_turns_it_red_and_is_taken_back(fault):
    cluster = KServe()
    asked = Context(cluster, ready_seconds=0)
    with fault.plant(asked):
        assert values(serving_ready.measure(asked))["not_ready"] > 0
    assert values(serving_ready.measure(asked))["not_ready"] == 0
    assert cluster.planted == []


def test_a_planted_broken_service_stands_for_the_platforms_own():
    cluster = KServe()
    with serving_ready._broken_service(Context(cluster)):
        item = cluster.list(API, "InferenceService")[0]
        assert item["metadata"]["labels"][LABEL] == FAULT


def workload(kind="StatefulSet", generation=1, observed=1, ready=1):
    return named(
        kind,
        "w",
        "ns",
        "apps/v1",
        generation=generation,
        spec={"replicas": 1, "selector": {"matchLabels": {"app": "w"}}},
        status={"observedGeneration": observed, "readyReplicas": ready},
    )


def test_a_restart_deletes_the_pods_and_waits_for_others():
    cluster = MemoryCluster(workload(), named("Pod", "w-0", "ns", labels={"app": "w"}))
    names = itertools.count()
    cluster.on_delete = lambda item: cluster.put(
        named("Pod", "w-0", "ns", labels={"app": "w"}, spec={"n": next(names)})
    )
    before = cluster.get("v1", "Pod", "w-0", "ns")["metadata"]["uid"]
    workloads.restart(cluster, "ns", "w")
    assert cluster.get("v1", "Pod", "w-0", "ns")["metadata"]["uid"] != before


@pytest.mark.parametrize("stale", [{"generation": 2}, {"ready": 0}])
def test_a_workload_that_is_not_ready_in_time_is_an_error(stale):
    with pytest.raises(ProbeError, match="ready"):
        workloads.wait_ready(MemoryCluster(workload(**stale)), "StatefulSet", "ns", "w")
