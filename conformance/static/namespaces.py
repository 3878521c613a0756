"""Rules for the layers' namespaces: the seed's five are there, each meshed, restricted and bounded."""

from collections.abc import Iterator

from conformance.static.environment import Environment
from conformance.static.finding import Finding, labels_of

SEED = ("rag-ingestion", "rag-embedding", "rag-vectordb", "rag-retrieval", "rag-llm")
LAYER = {
    "app.kubernetes.io/part-of": "rag-blueprint",
    "istio-injection": "enabled",
    "pod-security.kubernetes.io/enforce": "restricted",
}
_BOUNDS = ("ResourceQuota", "LimitRange", "NetworkPolicy")


def layer_namespace(environment: Environment) -> Iterator[Finding]:
    """A layer's namespace that is missing, outside the mesh, unrestricted, unbounded or open."""
    found = {item["metadata"]["name"]: item for item in environment.of("Namespace")}
    for name in sorted({*SEED, *(n for n in found if n.startswith("rag-"))}):
        if name not in found:
            yield Finding("layer-namespace", name, "is not there")
            continue
        labels = labels_of(found[name])
        for key, value in LAYER.items():
            if labels.get(key) != value:
                yield Finding("layer-namespace", name, f"label {key} is not {value}")
        for kind in _BOUNDS:
            if not any(i["metadata"].get("namespace") == name for i in environment.of(kind)):
                yield Finding("layer-namespace", name, f"has no {kind}")


RULES = (layer_namespace,)
