"""embedding-upgrade on a gateway that answers with the model of whatever index is active."""

from types import SimpleNamespace

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.data import embedding_upgrade
from conformance.gates.data.embedding_upgrade import INFERENCE, KSERVE, NAMESPACE, NEXT, NOW, Seen
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster, named, values

READY = {"conditions": [{"type": "Ready", "status": "True"}]}


class Platform(MemoryCluster):
    """An embedder, a second one as soon as it is planted, and an index of one of their models."""

    def __init__(self):
        env = [{"name": "BIND", "value": "b"}, {"name": "EMBEDDING_PRECISION", "value": "int8"}]
        container = {"name": "kserve-container", "env": env}
        annotations = {"prometheus.io/port": "8081", "kubectl/last": "x"}
        spec = {"predictor": {"containers": [container]}}
        super().__init__(
            named(INFERENCE, NOW, NAMESPACE, KSERVE, spec=spec, annotations=annotations)
        )
        self.active, self.ingested, self.second = "now", [], "new"
        self.on_create, self.reachable = self._created, True

    def _created(self, item):
        if item["kind"] == INFERENCE:
            labels = {"serving.kserve.io/inferenceservice": NEXT}
            self.put(named("Pod", f"{NEXT}-0", NAMESPACE, labels=labels, status=READY))
            self.planted_spec = item
        if item["kind"] == "AuthorizationPolicy":
            self.reachable = False

    def ingest(self, folder, tenant, **environment):
        self.ingested.append((folder, tenant, sorted(environment)))
        self.active = "new" if environment else "now"

    def respond(self, request):
        if self.active == "new" and not self.reachable:
            return httpx.Response(503, text="no embedder of this model")
        return httpx.Response(200, json={"model": {"digest": self.active}})


def context(cluster, respond=None, requests=10):
    made = LiveContext(
        cluster,
        respond or cluster.respond,
        rate=200,
        clients=2,
        requests=requests,
        span_seconds=0.1,
        ready_seconds=1,
        next_settings={"EMBEDDING_PRECISION": "fp32"},
    )
    made.corpus.small = SimpleNamespace(folder="small")
    made.target.ingest = cluster.ingest
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("conformance.probes.waiting.POLL_SECONDS", 0.01)
    monkeypatch.setattr(embedding_upgrade, "SETTLED_SECONDS", 0.02)


@pytest.fixture
def cluster(monkeypatch):
    made = Platform()
    monkeypatch.setattr(
        embedding_upgrade, "_digest", lambda context, url: made.second if url else "now"
    )
    return made


def test_a_swap_that_nobody_notices_is_green(cluster):
    seen = embedding_upgrade.measure(context(cluster))
    assert values(seen) == {"failed_requests": 0, "mixed_model_answers": 0, "models_answered": 2}
    assert [environment for _, _, environment in cluster.ingested] == [[], ["EMBEDDING_URL"], []]
    container = cluster.planted_spec["spec"]["predictor"]["containers"][0]
    assert {"name": "EMBEDDING_PRECISION", "value": "fp32"} in container["env"]
    assert [e["name"] for e in container["env"]] == ["BIND", "EMBEDDING_PRECISION"]
    assert "kubectl/last" not in cluster.planted_spec["metadata"]["annotations"]
    assert cluster.planted == []


def test_the_fault_turns_it_red_and_is_taken_back(cluster):
    made = context(cluster)
    with embedding_upgrade.GATE.faults[0].plant(made):
        assert values(embedding_upgrade.measure(made))["failed_requests"] > 0
    cluster.reachable = True
    assert values(embedding_upgrade.measure(made))["failed_requests"] == 0


def test_answers_of_the_other_model_are_mixed(cluster):
    stuck = lambda request: httpx.Response(200, json={"model": {"digest": "now"}})  # noqa: E731
    seen = values(embedding_upgrade.measure(context(cluster, stuck)))
    assert seen["mixed_model_answers"] > 0
    assert seen["models_answered"] == 1


def test_an_answer_that_names_no_model_is_a_failed_one(cluster):
    silent = lambda request: httpx.Response(200, json={})  # noqa: E731
    seen = embedding_upgrade.measure(context(cluster, silent))
    assert values(seen)["failed_requests"] > 0
    assert "name its model" in seen.notes[0]


def test_a_second_embedder_of_the_same_model_is_an_error(cluster):
    cluster.second = "now"
    with pytest.raises(ProbeError, match="nothing would be swapped"):
        embedding_upgrade.measure(context(cluster))
    assert cluster.planted == []


def test_a_second_embedder_that_does_not_come_up_is_an_error(cluster):
    cluster.on_create = lambda item: None
    with pytest.raises(ProbeError, match="ready: not within"):
        embedding_upgrade.measure(context(cluster))


def test_only_answers_well_inside_a_span_are_held_against_it(monkeypatch):
    monkeypatch.setattr(embedding_upgrade, "SETTLED_SECONDS", 5.0)
    spans = [(0.0, 10.0, "a"), (20.0, 40.0, "b")]
    assert Seen([(4, "b"), (12, "b"), (24, "a")], spans).mixed() == 0
    assert Seen([(6, "b"), (26, "a"), (15, "c")], spans).mixed() == 3


def test_a_service_that_tells_no_model_is_an_error(monkeypatch):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    made = context(Platform())
    made.target.embedding = lambda: httpx.Client(transport=transport, base_url="http://e")
    with pytest.raises(ProbeError, match="does not tell its model"):
        embedding_upgrade._digest(made, "")
