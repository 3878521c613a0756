"""Flux: installed from its bundle, and pointed at this checkout."""

from datetime import UTC, datetime

from conformance.cluster.node import artifacts, checkout, ours
from conformance.cluster.node.config import DATA, ROOT, State, load
from conformance.cluster.node.control_plane import kubectl
from conformance.cluster.node.registry import Registry

CHECKOUT = "rag-blueprint:lab"
_NAMESPACE = ("--namespace", "flux-system")
_APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller")


def install(state: State) -> None:
    """Apply Flux's manifests as its own controller would, and wait until the controllers run."""
    entry = next(e for e in load("artifacts.yaml")["bundles"] if e["bundle"] == "flux")
    manifests = artifacts.bundle(entry)["manifests.yaml"].decode()
    kubectl(state, *_APPLY, "--filename", "-", stdin=manifests)
    wait = ("wait", "deployment", "--all", "--for=condition=Available", "--timeout=180s")
    kubectl(state, *_NAMESPACE, *wait, timeout=200)


def publish(state: State) -> str:
    """Publish the working tree to the lab's registry; returns its revision."""
    registry = Registry(state.registry)
    digests = registry.digests(ours.reference(target) for target in ours.targets())
    artifact = checkout.artifact(ROOT, CHECKOUT, digests)
    registry.add([artifact])
    registry.publish([CHECKOUT])
    return artifact.annotations[artifacts.REVISION]


def point(state: State) -> None:
    """Tell Flux of its sources: its own manifests and this checkout."""
    rendered = artifacts.kustomize(DATA / "sync")
    kubectl(state, *_APPLY, "--filename", "-", stdin=rendered)


def reconcile(state: State) -> None:
    """Ask Flux to look at the checkout now."""
    now = datetime.now(UTC).isoformat()
    annotation = f"reconcile.fluxcd.io/requestedAt={now}"
    what = ("annotate", "--overwrite", "ocirepository/rag-blueprint", annotation)
    kubectl(state, *_NAMESPACE, *what)
