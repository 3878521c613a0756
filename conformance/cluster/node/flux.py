"""Flux: installed from its bundle, pointed at this checkout, and asked how far it is."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from conformance.cluster.base import ClusterError
from conformance.cluster.node import artifacts, checkout
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
    artifact = checkout.artifact(ROOT, CHECKOUT)
    registry = Registry(state.registry)
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


def kustomizations(state: State) -> list[Mapping[str, Any]]:
    """Every Kustomization of the cluster, as the API has it."""
    said = kubectl(state, "get", "kustomizations.kustomize.toolkit.fluxcd.io", "-A", "-o", "json")
    items: list[Mapping[str, Any]] = json.loads(said)["items"]
    return items


def summary(item: Mapping[str, Any], revision: str | None = None) -> tuple[bool, str]:
    """Whether the Kustomization is Ready (at `revision`, if it follows the checkout), and why not."""
    status = item.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {"status": "Unknown", "message": "not reconciled yet"})
    if (
        ready["status"] != "True"
        or status.get("observedGeneration") != item["metadata"]["generation"]
    ):
        return False, str(ready.get("message", ""))
    origin = status.get("lastAppliedOriginRevision")  # the checkout's; other sources have none
    if revision and origin and origin != revision:
        return False, f"still at {origin}"
    return True, str(origin or status.get("lastAppliedRevision", ""))


def wait(state: State, revision: str, seconds: float, note: Callable[[str], None]) -> None:
    """Wait until every Kustomization is Ready at the revision; raises `ClusterError` with what is not."""
    deadline = time.monotonic() + seconds
    while True:
        found = {
            item["metadata"]["name"]: summary(item, revision) for item in kustomizations(state)
        }
        waiting = {name: why for name, (ready, why) in found.items() if not ready}
        if found and not waiting:
            return
        note(f"{len(found) - len(waiting)} of {len(found)} ready")
        if time.monotonic() > deadline:
            lines = [f"  {name}: {why}" for name, why in sorted(waiting.items())]
            raise ClusterError("\n".join([f"not Ready after {seconds:.0f} s:", *lines]))
        time.sleep(1)
