"""embedding-autoscale and llm-scale-to-zero on a Deployment whose replicas the test decides."""

import time
from copy import deepcopy

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.data import embedding_autoscale
from conformance.gates.intelligence import _office_hours, llm_scale_to_zero
from conformance.gates.intelligence._office_hours import OfficeHours
from conformance.probes import waiting
from conformance.probes.cluster import scaling
from conformance.probes.cluster.scaling import Scaled
from conformance.tests._elastic import OFFICE, QUEUE, Elastic
from conformance.tests._live_cluster import ANSWER, LiveContext
from conformance.tests._memory_cluster import MemoryCluster, values

HOURS = {
    "days": ["mon", "tue", "wed", "thu", "fri"],
    "from": "08:00",
    "to": "18:00",
    "timezone": "Europe/Berlin",
}
CRON = {"type": "cron", "metadata": OFFICE}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(scaling, "POLL_SECONDS", 0.01)


class Embedder(Elastic):
    """Has a second replica while questions come in, within what the ScaledObject allows."""

    def __init__(self, **options):
        super().__init__(*embedding_autoscale.WHERE, self._count, **options)
        self.asked = 0.0

    def respond(self, request):
        self.asked = time.monotonic()
        return httpx.Response(200, json={})

    def _count(self, spec):
        wanted = 2 if time.monotonic() - self.asked < 0.05 else 1
        return min(max(wanted, spec.get("minReplicaCount", 1)), spec["maxReplicaCount"])


def loaded(cluster, respond=None):
    return LiveContext(
        cluster,
        respond or cluster.respond,
        rate=200,
        clients=2,
        load_seconds_least=0.1,
        load_seconds_most=0.4,
        idle_seconds=0.5,
    )


def test_an_embedder_that_follows_the_load_is_green():
    seen = embedding_autoscale.measure(loaded(Embedder()))
    assert values(seen) == {"peak_replicas": 2, "idle_replicas": 1, "failed_requests": 0}
    assert seen.metrics["failed_requests"].n > 5
    assert seen.plots[0].series["replicas"]


@pytest.mark.parametrize(("number", "red"), [(0, {"peak_replicas": 1}), (1, {"idle_replicas": 2})])
def test_each_fault_of_the_embedder_turns_it_red(number, red):
    cluster = Embedder()
    context = loaded(cluster)
    before = deepcopy(cluster.spec)
    with embedding_autoscale.GATE.faults[number].plant(context):
        seen = values(embedding_autoscale.measure(context))
    assert red.items() <= seen.items()
    assert cluster.spec == before


def test_failed_requests_are_counted_and_told():
    respond = lambda request: httpx.Response(503, text="overloaded")  # noqa: E731
    seen = embedding_autoscale.measure(loaded(Embedder(), respond))
    assert values(seen)["failed_requests"] == seen.metrics["failed_requests"].n > 0
    assert "overloaded" in seen.notes[0]


def test_an_embedder_without_a_replica_is_an_error():
    cluster = Embedder()
    cluster.count = lambda spec: 0
    with pytest.raises(ProbeError, match="no ready replica"):
        embedding_autoscale.measure(loaded(cluster))


def test_a_deployment_that_nobody_or_two_scale_is_an_error():
    with pytest.raises(ProbeError, match="there is none"):
        Scaled.of(MemoryCluster(), "rag-llm", "llm-predictor")
    cluster = Embedder()
    cluster.put(
        {**cluster.objects[cluster.ref], "metadata": {"name": "b", "namespace": cluster.ref[3]}}
    )
    with pytest.raises(ProbeError, match="scaler, b"):
        Scaled.of(cluster, *embedding_autoscale.WHERE)


def test_a_timeline_that_could_not_be_watched_is_an_error():
    cluster = Embedder()
    scaled = Scaled.of(cluster, *embedding_autoscale.WHERE)

    def gone(spec):
        raise ProbeError("no answer")

    cluster.count = gone
    with pytest.raises(ProbeError, match="not watched: no answer"), scaling.watched(scaled):
        time.sleep(0.05)


class Model(Elastic):
    """Wakes up for a question when a trigger hears it, and sleeps a moment later."""

    def __init__(self, *triggers, **spec):
        super().__init__(
            *llm_scale_to_zero.WHERE, self._count, triggers=list(triggers or (QUEUE, CRON)), **spec
        )
        self.asked = 0.0

    def respond(self, request):
        if not self._heard():
            return httpx.Response(503, text="the model is not up")
        self.asked = time.monotonic()
        return httpx.Response(200, json=ANSWER)

    def _heard(self):
        return any("activationThreshold" not in t["metadata"] for t in self._queues())

    def _queues(self):
        return [t for t in self.spec["triggers"] if t["type"] == "prometheus"]

    def _count(self, spec):
        kept = 1 if time.monotonic() - self.asked < 0.05 else 0
        open_now = any(t["type"] == "cron" for t in spec["triggers"])  # whatever the hour is
        return max(kept, spec.get("minReplicaCount", 0), int(open_now and self.in_hours))

    in_hours = False


def asleep(cluster, respond=None):
    return LiveContext(
        cluster,
        respond or cluster.respond,
        idle_seconds=0.3,
        answer_seconds=1,
        office_hours=HOURS,
    )


def test_a_model_that_sleeps_and_wakes_is_green():
    seen = values(llm_scale_to_zero.measure(asleep(Model())))
    assert 0 <= seen.pop("cold_start") < 1
    assert seen == {
        "idle_replicas": 0,
        "business_hours_replicas": 1,
        "off_hours_replicas": 0,
        "first_request_answered": 1,
    }


def test_within_office_hours_the_cron_trigger_is_taken_out_and_put_back():
    always = {**OFFICE, "start": "0 0 * * *", "end": "59 23 * * *"}
    cluster = Model(QUEUE, {"type": "cron", "metadata": always})
    cluster.in_hours = True
    seen = values(llm_scale_to_zero.measure(asleep(cluster)))
    assert seen["idle_replicas"] == 0
    assert seen["off_hours_replicas"] == 1
    assert [t["type"] for t in cluster.spec["triggers"]] == ["prometheus", "cron"]


@pytest.mark.parametrize(
    ("number", "red"),
    [
        (0, {"idle_replicas": 1, "off_hours_replicas": 1}),
        (1, {"first_request_answered": 0}),
        (2, {"business_hours_replicas": 0, "off_hours_replicas": 1}),
    ],
)
def test_each_fault_of_the_model_turns_it_red(number, red):
    cluster = Model()
    context = asleep(cluster)
    before = deepcopy(cluster.spec)
    with llm_scale_to_zero.GATE.faults[number].plant(context):
        seen = values(llm_scale_to_zero.measure(context))
    assert red.items() <= seen.items()
    assert cluster.spec == before


def test_a_question_declined_before_the_model_is_not_the_first():
    cluster, declined = Model(), iter([True, False])

    def respond(request):
        if next(declined):
            body = {"status": "declined", "decline_reason": "not_answerable"}
            return httpx.Response(200, json=body)
        return cluster.respond(request)

    seen = values(llm_scale_to_zero.measure(asleep(cluster, respond)))
    assert seen["first_request_answered"] == 1
    only = lambda request: httpx.Response(200, json={"decline_reason": "no_sources"})  # noqa: E731
    with pytest.raises(ProbeError, match="before the model"):
        llm_scale_to_zero.measure(asleep(Model(), only))


def test_a_broken_connection_is_no_answer():
    def respond(request):
        raise httpx.ReadTimeout("nothing")

    seen = llm_scale_to_zero.measure(asleep(Model(), respond))
    assert values(seen)["first_request_answered"] == 0
    assert "ReadTimeout" in seen.notes[0]


def test_a_model_that_only_a_clock_wakes_is_an_error():
    context = asleep(Model(CRON))
    with pytest.raises(ProbeError, match="no trigger but cron"):
        llm_scale_to_zero.GATE.faults[1].plant(context).__enter__()


@pytest.mark.parametrize(
    "change", [{"days": ["someday"]}, {"from": "8"}, {"timezone": 3}, {"to": None}]
)
def test_office_hours_that_cannot_be_read_are_an_error(change):
    with pytest.raises(ProbeError, match="office hours"):
        OfficeHours.of({**HOURS, **change})


def test_office_hours_that_are_the_whole_week_leave_nothing_to_compare():
    every = {**HOURS, "days": [*_office_hours._DAYS], "from": "00:00", "to": "23:59:59.999999"}
    with pytest.raises(ProbeError, match="whole week"):
        _office_hours.kept_over_a_week(Model().objects[Model().ref], OfficeHours.of(every))
