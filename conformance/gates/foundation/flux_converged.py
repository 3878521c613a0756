"""flux-converged: the cluster is what Git says, and goes back to it by itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _drift, _flux
from conformance.probes.cluster import Cluster, changed
from conformance.stats import exactly, share


def measure(context: Context) -> Observation:
    """What Flux keeps, then a deletion, an edit and a removal from Git really made."""
    cluster = context.target.cluster
    revision = _flux.judged_revision(cluster, context.target.description.revision)
    ready = _flux.not_ready(cluster, revision, float(context.parameter("settle_seconds")))
    kept = _flux.astray(cluster, _flux.entries(_flux.appliers(cluster)))
    corrected, (pruned, prune) = _disturbed(cluster, float(context.parameter("wait_seconds")))
    wrong = {what: why for what, why in {**ready, **kept}.items() if why}
    context.evidence.write(
        "flux.json",
        {
            "revision": revision,
            "ready": ready,
            "kept": kept,
            "corrected s": corrected,
            "prune": prune,
        },
    )
    back = [taken for taken in corrected.values() if taken is not None]
    metrics = {
        "not_ready": exactly(sum(map(bool, ready.values())), len(ready)),
        "not_kept": exactly(sum(map(bool, kept.values())), len(kept)),
        "drift_corrected_share": share(len(back), len(corrected)),
        "pruned_share": share(int(pruned), 1),
    }
    if back:
        metrics["drift_seconds"] = exactly(max(back), len(back), "s")
    told = [f"revision {revision}", prune, *(f"{what}: {why}" for what, why in wrong.items())]
    return Observation(metrics, told)


def _disturbed(
    cluster: Cluster, seconds: float
) -> tuple[dict[str, float | None], tuple[bool, str]]:
    """Deletion, edit and removal at the same time: seconds until each correction, and of prune."""
    source = _flux.entry_source(cluster)
    with ThreadPoolExecutor(3) as pool:
        deleted = pool.submit(_drift.deleted, cluster, seconds)
        edited = pool.submit(_drift.edited, cluster, seconds)
        pruned = pool.submit(_drift.pruned, cluster, source, seconds)
        return {"deleted": deleted.result(), "edited": edited.result()}, pruned.result()


@contextmanager
def _suspended(context: Context) -> Iterator[None]:
    """One of the checkout's Kustomizations is suspended, none that the measurement disturbs."""
    cluster = context.target.cluster
    disturbed = {(ref[1], ref[3], ref[2]) for ref in (_drift.DELETED, _drift.EDITED)}
    for item in _flux.kustomizations(cluster):
        owns = {entry[1:] for entry in _flux.entries([item])}
        if item["metadata"]["name"] != _flux.ENTRY and owns and not owns & disturbed:
            break
    else:
        raise ProbeError("no Kustomization that could be suspended")
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    patch = {"spec": {"suspend": True}}
    with changed(cluster, _flux.KUSTOMIZE, "Kustomization", name, patch, namespace):
        yield


@contextmanager
def _edited(context: Context) -> Iterator[None]:
    """An object edited by hand that Flux is told to leave alone."""
    cluster = context.target.cluster
    api_version, kind, name, namespace = _drift.EDITED
    patch = {"spec": {"hard": {"pods": "60"}}}
    with changed(cluster, api_version, kind, name, patch, namespace):
        yield


GATE = Gate(
    id="flux-converged",
    phase=Phase.FOUNDATION,
    title="Flux keeps the cluster equal to Git",
    promise="everything the platform runs is in Git, and nothing else is",
    measure=measure,
    faults=(
        Fault("a Kustomization is suspended", _suspended),
        Fault("an object is edited by hand and kept from correction", _edited),
    ),
)
