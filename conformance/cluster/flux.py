"""What Flux says of a cluster: what it has applied, at which revision, and what it waits for."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from conformance.cluster.base import ClusterError

_TIMEOUT_SECONDS = 10
_POLL_SECONDS = 1.0
_BUILD_FAILED = "BuildFailed"
_BROKEN_SECONDS = 20.0  # longer than Flux takes to build what repairs an earlier tree
_KINDS = (
    ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
    ("source.toolkit.fluxcd.io", "v1", "ocirepositories"),
    ("source.toolkit.fluxcd.io", "v1", "gitrepositories"),
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """An object that Flux keeps: whether it is as it should be, its revision or what is wrong."""

    kind: str
    name: str
    ready: bool
    said: str
    renders: bool = True


class Flux:
    """Flux in the cluster that a kubeconfig reaches."""

    def __init__(self, kubeconfig: Path) -> None:
        if not kubeconfig.exists():
            raise ClusterError(f"{kubeconfig}: there is no cluster yet; `make up` makes one")
        self._kubeconfig = kubeconfig
        api = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        self._objects = client.CustomObjectsApi(api)

    def kustomizations(self, revision: str = "") -> list[Reconciled]:
        """Every Kustomization, held against the checkout's `revision` where one is given."""
        group, version, plural = _KINDS[0]
        return [summary(item, revision) for item in self._list(group, version, plural)]

    def everything(self) -> Iterator[Reconciled]:
        """Kustomizations, Helm releases and sources; raises `ClusterError` when Flux is not there."""
        for group, version, plural in _KINDS:
            for item in self._list(group, version, plural):
                yield summary(item)

    def wait(self, revision: str, seconds: float, note: Callable[[str], None]) -> None:
        """Wait until every Kustomization is Ready at the revision; raises `ClusterError` with what is not.

        What does not render will not become Ready, so it is not waited for long.
        """
        started = rendered = time.monotonic()
        while waiting := self._waiting(revision, note):
            now = time.monotonic()
            rendered = now if all(item.renders for item in waiting) else rendered
            if now > min(started + seconds, rendered + _BROKEN_SECONDS):
                lines = sorted(f"{item.name}: {item.said}" for item in waiting)
                raise ClusterError("\n  ".join([f"not Ready after {now - started:.0f} s:", *lines]))
            time.sleep(_POLL_SECONDS)

    def _waiting(self, revision: str, note: Callable[[str], None]) -> list[Reconciled]:
        """What is not Ready; an API server that does not answer now may do so later."""
        try:
            found = self.kustomizations(revision)
        except ClusterError as error:
            return [Reconciled("", "Flux", False, str(error))]
        waiting = [item for item in found if not item.ready]
        note(f"{len(found) - len(waiting)} of {len(found)} ready")
        return waiting if found else [Reconciled("", "Flux", False, "there is no Kustomization")]

    def _list(self, group: str, version: str, plural: str) -> list[dict[str, Any]]:
        try:
            found: Any = self._objects.list_cluster_custom_object(
                group, version, plural, _request_timeout=_TIMEOUT_SECONDS
            )
        except (client.ApiException, HTTPError, OSError) as error:
            raise ClusterError(f"{self._kubeconfig}: {plural}: {_reason(error)}") from error
        items: list[dict[str, Any]] = found["items"]
        return items


def _reason(error: Exception) -> str:
    if isinstance(error, client.ApiException) and error.status == 404:
        return "the cluster does not know this kind: Flux is not installed there"
    if isinstance(error, client.ApiException) and error.status:
        return f"{error.status} {error.reason}"
    return "the cluster does not answer; `make up` brings the lab back"


def summary(item: Mapping[str, Any], revision: str = "") -> Reconciled:
    """Whether the object is Ready (at `revision`, if it follows the checkout), and why not."""
    ready, said = _judged(item, revision)
    renders = _conditions(item).get("Ready", {}).get("reason") != _BUILD_FAILED
    return Reconciled(item.get("kind", ""), item["metadata"]["name"], ready, said, renders)


def _conditions(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {c["type"]: c for c in item.get("status", {}).get("conditions", [])}


def _judged(item: Mapping[str, Any], revision: str) -> tuple[bool, str]:
    status = item.get("status", {})
    ready = _conditions(item).get("Ready", {"status": "Unknown", "message": "not reconciled yet"})
    if item.get("spec", {}).get("suspend"):
        return False, "suspended"
    if (
        ready["status"] != "True"
        or status.get("observedGeneration") != item["metadata"]["generation"]
    ):
        return False, str(ready.get("message", ""))
    applied = str(status.get("lastAppliedRevision") or "")
    # The checkout's: an artifact of it says where it is from, a Git repository is it. Others have none.
    origin = status.get("lastAppliedOriginRevision") or ("@sha1:" in applied and applied)
    if revision and origin and origin != revision:
        return False, f"still at {origin}"
    fetched = status.get("artifact", {}).get("revision", "")
    return True, str(origin or applied or fetched)
