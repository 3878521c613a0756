"""URLs of this machine that lead to the layers' programs, and the metrics of all their pods."""

import socket
from collections.abc import Mapping
from typing import Any

import httpx

from conformance.gate import ProbeError
from conformance.targets import http
from conformance.targets import metrics as samples
from conformance.targets.base import Description
from conformance.targets.kube.client import Cluster
from conformance.targets.layers.places import forward, forward_to, place, pods

_TIMEOUT_SECONDS, _CONNECT_SECONDS = 10.0, 2.0
_ADDRESSES = ("ExternalIP", "InternalIP")
_URLS = {
    "gateway_url": ("gateway", "http://{}"),
    "guard_url": ("guard", "http://{}"),
    "retrieval_url": ("retrieval", "http://{}"),
    "embedding_url": ("embedding", "http://{}"),
    "llm_url": ("llm", "http://{}"),
}
_STORES = {5432: "postgresql://{}/rag", 6333: "qdrant://{}"}  # by the port that its Service has


def urls(cluster: Cluster, told: Description) -> dict[str, Any]:
    """A door for each URL that `target.json` does not name."""
    missing = {field: door for field, door in _URLS.items() if not getattr(told, field)}
    found = {
        field: url.format(forward(cluster, name).address) for field, (name, url) in missing.items()
    }
    return found if told.vector_db_url else {**found, "vector_db_url": _store(cluster)}


def _store(cluster: Cluster) -> str:
    """A door to the vector store, whichever its Service says that it is."""
    at = place("vectordb")
    service = cluster.find("v1", "Service", at.service, at.namespace) or {"spec": {}}
    told = [port["port"] for port in service["spec"].get("ports") or ()]
    port = next((number for number in told if number in _STORES), at.port)
    return _STORES[port].format(forward(cluster, "vectordb", port=port).address)


def outside(cluster: Cluster) -> str:
    """The gateway's URL for clients outside of the cluster: a port of its nodes; '' where none leads in."""
    at = place("gateway")
    spec = cluster.get("v1", "Service", at.service, at.namespace)["spec"]
    ports = [
        p["nodePort"] for p in spec["ports"] if p.get("targetPort") == at.port and "nodePort" in p
    ]
    for node in cluster.list("v1", "Node"):
        for address in node["status"].get("addresses", []):
            for port in ports if address["type"] in _ADDRESSES else []:
                if _connects(address["address"], port):
                    return f"http://{address['address']}:{port}"
    return ""


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def metrics(cluster: Cluster, service: str) -> Mapping[str, float]:
    """The samples of all pods of a service, added up; raises `ProbeError` or an httpx error."""
    at = place(service)
    found = [_scraped(cluster, service, pod["metadata"]["name"]) for pod in pods(cluster, at)]
    if not found:
        raise ProbeError(f"{at.namespace}/{at.account}: no pod is ready")
    return samples.together(found)


def _scraped(cluster: Cluster, service: str, pod: str) -> Mapping[str, float]:
    with (
        forward_to(cluster, place(service), pod) as door,
        http.client(f"http://{door.address}", _TIMEOUT_SECONDS) as session,
    ):
        try:
            answer = session.get("/metrics").raise_for_status()
        except httpx.TransportError as error:
            raise ProbeError(f"{service}: {door.trouble or error}") from error
    return samples.parse(answer.text)
