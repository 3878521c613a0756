"""Where the layers' programs are on a cluster, by the names that gates and target.json use."""

from dataclasses import dataclass

from conformance.gate import ProbeError
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object, Objects
from conformance.targets.kube.planting import probes_own
from conformance.targets.kube.tunnel import Tunnel
from conformance.targets.layers.forward import Forward

ACCOUNT = "app.kubernetes.io/name"
_SERVICE = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Place:
    """A program: its namespace, service account, Service, and the port that its pods listen on."""

    namespace: str
    account: str
    service: str
    port: int


PLACES = {
    "gateway": Place("rag-gateway", "gateway", "gateway", 8080),
    "guard": Place("rag-gateway", "guard", "guard", 8083),
    "retrieval": Place("rag-retrieval", "retrieval", "retrieval", 8080),
    "cache": Place("rag-retrieval", "cache", "cache", 6379),
    "embedding": Place("rag-embedding", "embedding", "embedding-predictor", 8081),
    "llm": Place("rag-llm", "llm", "llm-predictor", 8082),
    "vectordb": Place("rag-vectordb", "vectordb", "vectordb", 5432),
    "object-store": Place("rag-ingestion", "object-store", "object-store", 8333),
    "ingestion": Place("rag-ingestion", "ingestion", "", 0),
    "kafka": Place("rag-audit", "kafka", "kafka", 9092),
    "elasticsearch": Place("rag-audit", "elasticsearch", "elasticsearch", 9200),
    "indexer": Place("rag-audit", "indexer", "", 8084),
    "vault": Place("vault", "vault", "vault", 8200),
    "prometheus": Place("monitoring", "prometheus", "prometheus", 9090),
}
_ALIASES = {
    "envoy": "gateway",
    "valkey": "cache",
    "postgresql": "vectordb",
    "vector_db": "vectordb",
}


def place(name: str) -> Place:
    """Where a program is, also by its name on one machine; raises `ProbeError`."""
    try:
        return PLACES[_ALIASES.get(name, name)]
    except KeyError:
        raise ProbeError(
            f"{name}: no program of the layers; known are {', '.join(PLACES)}"
        ) from None


def pods(cluster: Cluster, at: Place) -> Objects:
    """The pods of the program itself that serve, and no stand-in; raises `ApiError`."""
    found = cluster.list("v1", "Pod", at.namespace, f"{ACCOUNT}={at.account}")
    own = [pod for pod in found if not probes_own(pod)]
    return sorted(filter(_serves, own), key=lambda pod: str(pod["metadata"]["name"]))


def _serves(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def behind(cluster: Cluster, at: Place, service: str = "") -> list[str]:
    """Names of the pods that its Service (or another) leads to, stand-ins included; `ApiError`."""
    slices = cluster.list(
        "discovery.k8s.io/v1", "EndpointSlice", at.namespace, f"{_SERVICE}={service or at.service}"
    )
    # A port that is called by a name the pod does not have leads nowhere.
    ends = [end for found in slices if found.get("ports") for end in found.get("endpoints") or []]
    ready = [end for end in ends if (end.get("conditions") or {}).get("ready", True)]
    return sorted({end["targetRef"]["name"] for end in ready if end.get("targetRef")})


def forward(cluster: Cluster, name: str, *, past_service: bool = False, port: int = 0) -> Forward:
    """A local door to a program: what its Service leads to or, past it, its own pods.

    The pods take turns, and each connection looks for them anew.
    """
    at = place(name)
    turn = _Turn()

    def dial() -> Tunnel:
        names = (
            [p["metadata"]["name"] for p in pods(cluster, at)]
            if past_service
            else behind(cluster, at)
        )
        if not names:
            raise ProbeError(f"{at.namespace}/{at.service or at.account}: no pod is ready")
        return cluster.tunnel(at.namespace, turn(names), port or at.port)

    return Forward(name, dial)


def forward_to(cluster: Cluster, at: Place, pod: str) -> Forward:
    """A local door to one pod."""
    return Forward(pod, lambda: cluster.tunnel(at.namespace, pod, at.port))


class _Turn:
    def __init__(self) -> None:
        self._count = 0

    def __call__(self, names: list[str]) -> str:
        self._count += 1
        return names[self._count % len(names)]
