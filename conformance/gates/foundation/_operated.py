"""Secrets that an operator keeps for its own objects, where the SLO file lets them lie in a layer.

A Secret is excused when it refers, by its identity, to an object of the declared kind that is
there. A name or a label excuses nothing, and neither does an object that is gone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.gate import Context, ProbeError
from conformance.probes.cluster import Cluster, Object
from conformance.static import matrix

_FIELDS = frozenset({"namespace", "apiVersion", "kind", "reason"})
_LEAST_REASON = 8


@dataclass(slots=True)
class Exemption:
    """The Secrets of one kind of object in one namespace, and those that it has excused."""

    namespace: str
    api_version: str
    kind: str
    reason: str
    owners: frozenset[str]
    excused: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.kind} in {self.namespace}"

    def excuses(self, secret: Object) -> bool:
        """Whether an object of the kind owns the Secret; it is remembered."""
        meta = secret["metadata"]
        owned = meta.get("namespace") == self.namespace and any(
            self._is(ref) for ref in meta.get("ownerReferences") or []
        )
        if owned:
            self.excused.add(str(meta["name"]))
        return owned

    def _is(self, reference: Mapping[str, Any]) -> bool:
        group = str(reference.get("apiVersion", "")).partition("/")[0]
        kind = (group, reference.get("kind")) == (self.api_version.partition("/")[0], self.kind)
        return kind and reference.get("uid") in self.owners


def excused(exemptions: Sequence[Exemption], namespace: str) -> set[str]:
    """The Secrets of a namespace that were found to be an operator's."""
    return {name for e in exemptions if e.namespace == namespace for name in e.excused}


def needed(exemptions: Sequence[Exemption]) -> Iterator[tuple[str, str]]:
    """Each exemption, and what is wrong with one that excused nothing."""
    for entry in exemptions:
        yield f"exemption {entry}", "" if entry.excused else "it excuses nothing: take it out"


def declared(context: Context) -> list[Exemption]:
    """What the SLO file excuses under the cluster's vars; raises `ProbeError`."""
    cluster, variables = context.target.cluster, matrix.variables(context.target.environment)
    entries = context.parameter("operated")
    if not isinstance(entries, list):
        raise ProbeError(f"operated: {entries!r}: write a list, [] for none")
    return [
        _exemption(cluster, entry)
        for entry in map(_checked, entries)
        if matrix.holds(entry, variables)
    ]


def _checked(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or entry.keys() - {"when"} != _FIELDS:
        raise ProbeError(f"operated: {entry!r}: write {', '.join(sorted(_FIELDS))}, perhaps `when`")
    if len(str(entry["reason"]).strip()) < _LEAST_REASON:
        raise ProbeError(f"operated: {entry['kind']} in {entry['namespace']}: say the reason")
    return entry


def _exemption(cluster: Cluster, entry: Mapping[str, Any]) -> Exemption:
    there = cluster.find_all(entry["apiVersion"], entry["kind"], entry["namespace"])
    owners = frozenset(str(item["metadata"]["uid"]) for item in there)
    names = (entry["namespace"], entry["apiVersion"], entry["kind"], entry["reason"])
    return Exemption(*names, owners)
