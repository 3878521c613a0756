"""Objects that a probe plants: labelled with the run, and gone when their block ends."""

import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from conformance.errors import GateTimeoutError
from conformance.gate import Evidence, ProbeError
from conformance.targets.kube.autopsy import autopsy
from conformance.targets.kube.client import Cluster, ref_of
from conformance.targets.kube.errors import ApiError, Object, Objects

LABEL = "rag-blueprint.dev/probe"
OWNER = "rag-blueprint.dev/owner"  # host/pid/time of the run, the time in seconds since 1970
FAULT = "fault"  # the label's value of what stands for the platform's own: no gate overlooks it
ACCOUNT_SECONDS = 15
_NO_ACCOUNT = re.compile(r'serviceaccounts? "[^"]+" not found|error looking up service account')
# What may be planted: a killed run's leftovers are looked for among these. Namespaces last.
KINDS = (
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("v1", "Namespace"),
)


def unique(cluster: Cluster, what: str) -> str:
    """A name that nobody has had before: what was planted earlier may still be going away."""
    return f"probe-{what}-{cluster.run_id}-{secrets.token_hex(2)}"


def probes_own(item: Object) -> bool:
    """Whether a probe planted it."""
    return LABEL in (item["metadata"].get("labels") or {})


@contextmanager
def planted(
    cluster: Cluster, *items: Object, evidence: Evidence | None = None
) -> Iterator[Objects]:
    """Inside the block the objects are there, as the server made them; after it they are deleted.

    They are made in their order. When the block fails, what is known of their pods goes to
    `evidence` first. An object that carries the probe's label already keeps its value.
    """
    made: Objects = []
    try:
        for item in items:
            made.append(_created(cluster, _labelled(cluster, item)))
        yield made
    except (Exception, GateTimeoutError):
        if evidence:
            autopsy(cluster, made, evidence)
        raise
    finally:
        remove(cluster, made)


def _created(cluster: Cluster, item: Object) -> Object:
    """The object, as soon as a new namespace has the account that its pods run as."""

    def try_it() -> Object | None:
        try:
            return cluster.create(item)
        except ApiError as error:
            if _NO_ACCOUNT.search(error.message):
                return None
            raise

    made: Object = cluster.wait(try_it, ACCOUNT_SECONDS, f"no account for {item['kind']}")
    return made


def remove(cluster: Cluster, items: Objects) -> None:
    """Delete the objects, last first; raises `ProbeError` at the end when some could not be."""
    failures: list[str] = []
    for item in reversed(items):
        try:
            cluster.delete(*ref_of(item))
        except ProbeError as error:
            failures.append(str(error))
    if failures:
        raise ProbeError(f"left behind: {'; '.join(failures)}")


def _labelled(cluster: Cluster, item: Object) -> Object:
    if (item["apiVersion"], item["kind"]) not in KINDS:
        raise ValueError(
            f"{item['apiVersion']} {item['kind']}: not in KINDS: nobody would sweep it"
        )
    copy = deepcopy(item)
    metadata: dict[str, Any] = copy["metadata"]
    metadata["labels"] = {LABEL: cluster.run_id, **(metadata.get("labels") or {})}
    metadata["annotations"] = {OWNER: owner(), **(metadata.get("annotations") or {})}
    return copy


def owner() -> str:
    """Host, process and time of planting."""
    return f"{socket.gethostname()}/{os.getpid()}/{int(time.time())}"
