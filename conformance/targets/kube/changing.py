"""Changes to the platform's own objects, undone when their block ends or by the next sweep."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.kube.planting import OWNER, owner

CHANGED = "rag-blueprint.dev/changed"  # the label; its annotation is the patch that undoes
_ALONE = {  # Flux corrects nothing that carries these
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
}


@contextmanager
def changed(
    cluster: Cluster, api_version: str, kind: str, name: str, patch: Object, namespace: str = ""
) -> Iterator[Object]:
    """Inside the block the object has the JSON merge patch and Flux leaves it alone.

    Raises `ApiError`. The patch must not touch the metadata's annotations.
    """
    before = cluster.get(api_version, kind, name, namespace)
    marks = {
        "labels": {CHANGED: cluster.run_id},
        "annotations": {**_ALONE, OWNER: owner()},
    }
    marked = _merged(patch, {"metadata": marks})
    undo = inverse(marked, before)
    undo["metadata"]["annotations"][CHANGED] = None
    marked["metadata"]["annotations"][CHANGED] = json.dumps(undo)
    try:
        yield cluster.patch(api_version, kind, name, marked, namespace)
    finally:
        cluster.patch(api_version, kind, name, undo, namespace)


def inverse(patch: Any, before: Any) -> Any:
    """The merge patch that takes `patch` back from an object that was `before`."""
    if not isinstance(patch, dict):
        return before
    known = before if isinstance(before, dict) else {}
    return {key: inverse(value, known.get(key)) for key, value in patch.items()}


def _merged(one: Object, other: Object) -> Object:
    result = dict(one)
    for key, value in other.items():
        mine = result.get(key)
        result[key] = _merged(mine, value) if isinstance(mine, dict) else value
    return result
