"""vectordb-durable on a store in memory that loses, or keeps, what it acknowledged."""

import contextlib
from types import SimpleNamespace

import pytest

from conformance.gate import ProbeError
from conformance.gates.data import vectordb_durable
from conformance.gates.data.vectordb_durable import NAMESPACE
from conformance.probes.cluster import LABEL, volumes
from conformance.targets.kube.client import Cluster
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values
from conformance.tests._memory_store import Store

READY = [{"type": "Ready", "status": "True"}]


def stateful_set(name, replicas=1):
    return named(
        "StatefulSet",
        name,
        NAMESPACE,
        "apps/v1",
        generation=1,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"set": name}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
        status={"observedGeneration": 1, "readyReplicas": replicas},
    )


def pod(name, ready=READY):
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-{name}-0"}}
    return named(
        "Pod",
        f"{name}-0",
        NAMESPACE,
        labels={"set": name},
        spec={"containers": [{"name": "postgres"}], "volumes": [claim, {"name": "tmp"}]},
        status={"conditions": ready},
    )


def claim(name, size="10Gi", phase="Bound"):
    status = {"phase": phase, "capacity": {"storage": size}}
    return named("PersistentVolumeClaim", f"data-{name}-0", NAMESPACE, status=status)


class Stateful(MemoryCluster):
    """A primary and a replica; a deleted pod comes back, a smaller set loses its pod."""

    wait = Cluster.wait

    def __init__(self, *items):
        names = ("vectordb", "vectordb-replica")
        made = [make(n) for n in names for make in (stateful_set, pod, claim)]
        super().__init__(*(items or made))
        self.store, self.crashes = Store(), []
        self.on_delete, self.on_patch = self._deleted, self._patched

    def _deleted(self, gone):
        self.store.crash()
        gone["metadata"].pop("uid")
        self.put(gone)

    def _patched(self, item):
        wanted = item["spec"].get("replicas", 1)
        item["status"]["readyReplicas"] = wanted
        name = item["metadata"]["name"]
        if not wanted:
            self.objects.pop(("v1", "Pod", f"{name}-0", NAMESPACE))
        else:
            self.put(pod(name))
        return item

    def exec(self, namespace, name, container, command, stdin="", seconds=30):
        self.crashes.append((name, container, command))
        self.store.crash()
        return ""


def context(cluster, seconds=1.0):
    made = Context(cluster, writers=2, recovery_seconds=seconds)
    made.target.store = lambda login: cluster.store
    made.target.store_admin = lambda: cluster.store
    made.target.description = SimpleNamespace(vector_db_url="postgresql://nowhere/rag")
    return made


def test_a_store_that_keeps_what_it_acknowledged_is_green():
    cluster = Stateful()
    seen = vectordb_durable.measure(context(cluster))
    assert {"replicas": 2, "volume_gib": 10, "lost_documents": 0}.items() <= values(seen).items()
    assert seen.metrics["lost_documents"].n >= 60
    assert [c[:2] for c in cluster.crashes] == [
        ("vectordb-0", "postgres"),
        ("vectordb-replica-0", "postgres"),
    ]
    assert cluster.store.dropped == ["g1"]


def test_a_probe_of_another_gate_in_the_stores_place_is_none_of_its_pods():
    cluster = Stateful()
    stranger = pod("probe")
    stranger["metadata"]["labels"] = {"set": "vectordb", LABEL: "a-run"}
    cluster.put(stranger)
    vectordb_durable.measure(context(cluster))
    assert "probe-0" not in [name for name, *_ in cluster.crashes]


def test_documents_acknowledged_too_soon_are_lost():
    cluster, ran = Stateful(), []

    @contextlib.contextmanager
    def sql(login):
        yield SimpleNamespace(execute=run)

    def run(statement):
        ran.append(statement)
        cluster.store.syncs = "RESET" in statement

    made = context(cluster)
    made.target.sql = sql
    with vectordb_durable.GATE.faults[0].plant(made):
        assert values(vectordb_durable.measure(made))["lost_documents"] > 0
    assert cluster.store.syncs
    assert len(ran) == 2


def test_a_replica_that_is_gone_is_missed_and_comes_back():
    cluster = Stateful()
    with vectordb_durable.GATE.faults[1].plant(context(cluster)):
        assert values(vectordb_durable.measure(context(cluster)))["replicas"] == 1
    assert values(vectordb_durable.measure(context(cluster)))["replicas"] == 2


def test_a_changed_document_is_lost_too():
    cluster = Stateful()
    cluster.store.crash = lambda: [
        setattr(d, "content_hash", "x")
        if hasattr(d, "__dict__")
        else cluster.store.documents_.pop(i)
        for i, d in [*cluster.store.documents_.items()][:3]
    ]
    assert values(vectordb_durable.measure(context(cluster)))["lost_documents"] >= 3


def test_a_store_that_takes_no_writes_is_an_error_with_its_reason():
    cluster = Stateful()
    cluster.store.down = True
    with pytest.raises(ProbeError, match="last refused: OSError: refused"):
        vectordb_durable.measure(context(cluster, seconds=1.0))
    assert cluster.store.dropped == ["g1"]


def test_writers_that_break_are_an_error(monkeypatch):
    cluster = Stateful()
    made = context(cluster)
    stores = iter([cluster.store])  # one to prepare, none to write with

    def store(login):
        return next(stores, None) or SimpleNamespace()

    made.target.store = store
    monkeypatch.setattr(vectordb_durable, "_killed", lambda *a: None)
    with pytest.raises(ProbeError, match="the writers broke"):
        vectordb_durable.measure(made)


def test_a_store_without_a_volume_is_an_error():
    bare = stateful_set("vectordb")
    del bare["spec"]["volumeClaimTemplates"]
    with pytest.raises(ProbeError, match="no StatefulSet with volumes"):
        vectordb_durable.measure(context(Stateful(bare)))


@pytest.mark.parametrize(
    ("size", "phase", "gib"), [("200Gi", "Bound", 200), ("1T", "Bound", 931), ("1Gi", "Lost", 0)]
)
def test_a_volume_counts_as_bound(size, phase, gib):
    cluster = MemoryCluster(claim("a", size, phase))
    assert int(volumes.sizes(cluster, [pod("a")])["a-0/data-a-0"]) == gib


def test_a_pod_that_is_going_away_is_not_ready():
    leaving = pod("a")
    leaving["metadata"]["deletionTimestamp"] = "x"
    assert not volumes.is_ready(leaving)
    assert not volumes.is_ready({"metadata": {}})
    assert volumes.is_ready(pod("a"))


def instance(number, **more):
    """A pod as CloudNativePG makes it; a Job of its own carries the cluster's label too."""
    item = pod(f"vectordb-{number}")
    item["metadata"]["name"] = f"vectordb-{number}"
    item["metadata"]["labels"] = {"cnpg.io/cluster": "vectordb", "cnpg.io/podRole": "instance"}
    return item


class Operated(Stateful):
    """Three instances that CloudNativePG keeps."""

    def __init__(self, ready=3):
        cluster = named(volumes.CNPG[1], "vectordb", NAMESPACE, volumes.CNPG[0])
        cluster["spec"] = {"instances": 3}
        cluster["status"] = {"instances": 3, "readyInstances": ready}
        numbers = range(1, 4)
        job = named("Pod", "join", NAMESPACE, labels={"cnpg.io/cluster": "vectordb"}, spec={})
        claims = (claim(f"vectordb-{n}") for n in numbers)
        super().__init__(cluster, job, *map(instance, numbers), *claims)

    def _patched(self, item):
        wanted = item["spec"]["instances"]
        item["status"] = {"instances": wanted, "readyInstances": wanted}
        self.objects.pop(("v1", "Pod", "vectordb-3", NAMESPACE), None)
        if wanted == 3:
            self.put(instance(3))
        return item


def test_instances_of_cloudnativepg_are_killed_each():
    cluster = Operated()
    seen = values(vectordb_durable.measure(context(cluster)))
    assert {"replicas": 3, "volume_gib": 10, "lost_documents": 0}.items() <= seen.items()
    assert [name for name, *_ in cluster.crashes] == ["vectordb-1", "vectordb-2", "vectordb-3"]


def test_an_instance_of_cloudnativepg_that_is_gone_is_missed_and_comes_back():
    cluster = Operated()
    with vectordb_durable.GATE.faults[1].plant(context(cluster)):
        assert values(vectordb_durable.measure(context(cluster)))["replicas"] == 2
    assert values(vectordb_durable.measure(context(cluster)))["replicas"] == 3


def test_instances_that_are_not_all_ready_are_waited_for():
    cluster = MemoryCluster(*Operated(ready=2).objects.values())
    (item,) = volumes.stateful(cluster, NAMESPACE)
    with pytest.raises(ProbeError, match="Cluster rag-vectordb/vectordb ready"):
        volumes.settled(cluster, item)
