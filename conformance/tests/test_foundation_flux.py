"""flux-converged: every object of Flux, all that it made, and drift that is really made."""

import pytest
import yaml

from conformance.gate import ProbeError
from conformance.gates.foundation import _drift, _flux, _probes, flux_converged
from conformance.static.environment import ROOT
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

SOURCE = "source.toolkit.fluxcd.io/v1"
REVISION = "main@sha1:0123"


def kustomization(name, *entries, ready="True", suspend=False, revision=REVISION, seen=1):
    return named(
        "Kustomization",
        name,
        "flux-system",
        _flux.KUSTOMIZE,
        generation=1,
        spec={
            "suspend": suspend,
            "sourceRef": {"kind": "OCIRepository", "name": "rag-blueprint"},
        },
        status={
            "observedGeneration": seen,
            "conditions": [{"type": "Ready", "status": ready, "message": "why not"}],
            "lastAppliedOriginRevision": revision,
            "inventory": {"entries": [{"id": i, "v": "v1"} for i in entries]},
        },
    )


def source(revision=REVISION):
    artifact = (
        {"revision": "lab@sha256:ab", "metadata": {_flux._ORIGIN: revision}} if revision else {}
    )
    return named(
        "OCIRepository",
        "rag-blueprint",
        "flux-system",
        SOURCE,
        generation=1,
        status={
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True"}],
            "artifact": artifact,
        },
    )


class Flux(MemoryCluster):
    """Puts back what is deleted or edited unless it is told to leave it, and prunes."""

    def __init__(self, *items, corrects=True, prunes=True):
        super().__init__(source(), *items)
        self.corrects, self.prunes = corrects, prunes
        self.put(named("ConfigMap", "dashboard-rag", "monitoring", data={"a": "b"}))
        self.put(named("ResourceQuota", "compute", "rag-audit", spec={"hard": {"pods": "50"}}))
        self.on_delete, self.on_patch, self.on_create = self._deleted, self._patched, self._created

    def _deleted(self, item):
        if item["metadata"]["name"] == "dashboard-rag" and self.corrects:
            self.put({**item, "metadata": {"name": "dashboard-rag", "namespace": "monitoring"}})
        if item["kind"] == "Kustomization":
            self._apply(item["metadata"]["name"], ())

    def _patched(self, item):
        marks = item["metadata"].get("annotations") or {}
        if item["kind"] == "ResourceQuota" and self.corrects and not marks:
            item["spec"]["hard"]["pods"] = "50"
        if item["kind"] == "Kustomization" and "path" in item["spec"]:
            self._apply(item["metadata"]["name"], ("kept",) if self.prunes else ("kept", "dropped"))
        return item

    def _created(self, item):
        if item["kind"] == "Kustomization" and item["spec"]["path"].endswith("before"):
            self._apply(item["metadata"]["name"], ("kept", "dropped"))

    def _apply(self, name, wanted):
        for what in ("kept", "dropped"):
            self.objects.pop(("v1", "ConfigMap", f"{name}-{what}", "flux-system"), None)
        for what in wanted:
            self.put(named("ConfigMap", f"{name}-{what}", "flux-system"))


def entry(kind, namespace, name, group=""):
    return f"{namespace}_{name}_{group}_{kind}"


OWNED = (
    kustomization("cluster", entry("ConfigMap", "flux-system", "vars")),
    kustomization("observability", entry("ConfigMap", "monitoring", "dashboard-rag")),
    kustomization("namespaces", entry("ResourceQuota", "rag-audit", "compute")),
    kustomization("app-llm", entry("ServiceAccount", "rag-llm", "llm")),
    named("ConfigMap", "vars", "flux-system"),
    named("ServiceAccount", "llm", "rag-llm"),
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(_flux, "_POLL_SECONDS", 0)
    monkeypatch.setattr(_probes, "POLL_SECONDS", 0)


def measured(cluster, revision=""):
    asked = Context(cluster, revision, settle_seconds=0, wait_seconds=0)
    return flux_converged.measure(asked)


def test_a_converged_cluster_is_green_and_left_as_it_was():
    cluster = Flux(*OWNED)
    seen = values(measured(cluster))
    assert seen.pop("drift_seconds") >= 0
    assert seen == {
        "not_ready": 0,
        "not_kept": 0,
        "drift_corrected_share": 1,
        "pruned_share": 1,
    }
    assert cluster.planted == []
    assert cluster.get(*_drift.EDITED)["spec"]["hard"]["pods"] == "50"


@pytest.mark.parametrize(
    "odd",
    [
        kustomization("odd", suspend=True),
        kustomization("odd", ready="False"),
        kustomization("odd", ready="Unknown"),
        kustomization("odd", revision="main@sha1:4567"),
        kustomization("odd", seen=0),
        named("HelmRelease", "odd", "flux-system", "helm.toolkit.fluxcd.io/v2", generation=1),
    ],
)
def test_what_is_not_as_it_should_be_counts(odd):
    cluster = Flux(*OWNED, odd)
    ready = _flux.not_ready(cluster, REVISION, 0)
    assert [name for name, why in ready.items() if why] == [f"{odd['kind']} odd"]


def test_what_is_being_deleted_is_not_ready():
    leaving = kustomization("odd")
    leaving["metadata"]["deletionTimestamp"] = "x"
    assert _flux.not_ready(Flux(leaving), REVISION, 0)["Kustomization odd"] == "is being deleted"


def test_what_is_reconciled_just_now_has_its_turn(monkeypatch):
    cluster = Flux(kustomization("odd", ready="Unknown"))
    monkeypatch.setattr(_flux.time, "sleep", lambda _: cluster.put(kustomization("odd")))
    assert not any(_flux.not_ready(cluster, REVISION, 5).values())


def test_a_kind_that_is_not_installed_is_no_trouble():
    cluster = Flux(*OWNED)
    cluster.missing_kinds |= {"Bucket", "HelmRelease"}
    assert not any(_flux.not_ready(cluster, REVISION, 0).values())


def test_the_revision_is_that_of_git_as_declared_or_as_held():
    assert _flux.judged_revision(Flux(*OWNED), "") == REVISION
    assert _flux.judged_revision(Flux(*OWNED), "main@sha1:99") == "main@sha1:99"
    assert values(measured(Flux(*OWNED), "main@sha1:99"))["not_ready"] == 4
    silent = Flux(*OWNED)
    silent.put(source("latest@sha256:ab"))
    with pytest.raises(ProbeError, match="tells no Git revision: latest@sha256:ab"):
        _flux.judged_revision(silent, REVISION)


def test_a_cluster_that_flux_does_not_keep_is_an_error():
    with pytest.raises(ProbeError):
        measured(Flux())
    with pytest.raises(ProbeError, match="not kept by Flux"):
        _flux.kustomizations(MemoryCluster())
    bare = Flux(*OWNED)
    bare.put(source(""))
    with pytest.raises(ProbeError, match="holds no artifact"):
        measured(bare)


def test_the_inventory_is_read_as_flux_writes_it():
    item = kustomization(
        "k",
        "_metrics__auth_rbac.authorization.k8s.io_ClusterRole",
        "ns_n_apps_Deployment",
        "ns_c__ConfigMap",
    )
    assert list(_flux.entries([item])) == [
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "", "metrics:auth"),
        ("apps/v1", "Deployment", "ns", "n"),
        ("v1", "ConfigMap", "ns", "c"),
    ]


def test_an_object_that_is_gone_or_exempt_is_not_kept():
    exempt = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    cluster = MemoryCluster(
        named("ConfigMap", "kept", "ns"), named("ConfigMap", "exempt", "ns", annotations=exempt)
    )
    wanted = [("v1", "ConfigMap", "ns", name) for name in ("kept", "exempt", "gone")]
    told = _flux.astray(cluster, wanted)
    assert told["ConfigMap ns/kept"] == ""
    assert "disabled" in told["ConfigMap ns/exempt"]
    assert told["ConfigMap ns/gone"] == "is not there"


def test_drift_that_nobody_corrects_is_seen_and_taken_back_by_the_probe():
    cluster = Flux(*OWNED, corrects=False)
    assert values(measured(cluster))["drift_corrected_share"] == 0
    assert cluster.get(*_drift.EDITED)["spec"]["hard"]["pods"] == "50"
    assert cluster.get(*_drift.DELETED)["data"] == {"a": "b"}


def test_what_is_not_pruned_is_seen():
    assert values(measured(Flux(*OWNED, prunes=False)))["pruned_share"] == 0


def test_fixtures_that_flux_does_not_apply_are_an_error():
    cluster = Flux(*OWNED)
    cluster.on_create = lambda item: None
    with pytest.raises(ProbeError, match="has not applied"):
        measured(cluster)
    assert cluster.planted == []


@pytest.mark.parametrize("fault", flux_converged.GATE.faults, ids=lambda f: f.description)
def test_each_fault_turns_it_red_and_is_taken_back(fault):
    cluster = Flux(*OWNED)
    with fault.plant(Context(cluster)):
        seen = values(measured(cluster))
        assert seen["not_ready"] + seen["not_kept"] > 0
    assert values(measured(cluster))["not_kept"] == 0
    assert values(measured(cluster))["not_ready"] == 0
    assert cluster.planted == []


def test_the_edit_that_is_kept_from_correction_stays():
    cluster = Flux(*OWNED)
    with flux_converged.GATE.faults[1].plant(Context(cluster)):
        assert values(measured(cluster))["drift_corrected_share"] == 0.5


def test_the_suspended_one_owns_nothing_that_is_disturbed():
    cluster = Flux(*OWNED)
    with flux_converged.GATE.faults[0].plant(Context(cluster)):
        states = {
            k["metadata"]["name"]: k["spec"]["suspend"] for k in _flux.kustomizations(cluster)
        }
    assert [name for name, off in states.items() if off] == ["app-llm"]


def test_a_cluster_with_nothing_to_suspend_is_an_error():
    with (
        pytest.raises(ProbeError, match="could be suspended"),
        flux_converged.GATE.faults[0].plant(Context(Flux(*OWNED[:1]))),
    ):
        pass


def resources(folder):
    file = ROOT / "clusters" / "probe" / folder / "kustomization.yaml"
    return set(yaml.safe_load(file.read_text())["resources"])


def test_the_fixtures_differ_by_the_dropped_object_and_nothing_else_names_them():
    assert resources("before") - resources("after") == {"dropped.yaml"}
    assert resources("after") == {"kept.yaml"}
    for folder in ("clusters", "platform", "apps"):
        for file in (ROOT / folder).rglob("*.yaml"):
            assert "clusters/probe" not in file.read_text(), file
