"""Everything with an address that a pod might try: Services, pods, nodes, and what lies outside."""

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.gates.foundation._layers import LAYERS
from conformance.probes.cluster import Cluster, Object, Objects, probes_own
from conformance.targets.layers.places import ACCOUNT

SIDECAR_PORTS = (15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090)
OWN_PORTS = (15000, 15004, 15020, 15021, 15053)  # of its own sidecar, on loopback
NODE_PORTS = (22, 2379, 2380, 2381, 5000, 6443, 10248, 10249, 10250, 10255, 10256, 10257, 10259)
OUTSIDE = {
    "the cloud's metadata": ("169.254.169.254", 80),
    "the internet": ("1.1.1.1", 443),
    "a name server outside": ("8.8.8.8", 53),
}
_SERVICE = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Door:
    """An address, and whose it is: account and port as the matrix knows them, '' and 0 else."""

    name: str
    host: str
    port: int  # that is dialled
    namespace: str = ""
    account: str = ""
    pod_port: int = 0
    served: bool = True  # somebody is behind it
    authority: str = ""  # the Service's name, '' for what is known by its address alone


def doors(cluster: Cluster) -> list[Door]:
    """Every door of the cluster as it is; raises `ApiError`."""
    pods = cluster.list("v1", "Pod")
    found = [*_services(cluster, pods), *_pods(pods), *_nodes(cluster)]
    found += [Door(name, *address) for name, address in OUTSIDE.items()]
    return list({door.name: door for door in reversed(found)}.values())[::-1]


def _services(cluster: Cluster, pods: Objects) -> Iterator[Door]:
    slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice")
    accounts = {_key(pod): _account(pod) for pod in pods if not probes_own(pod)}
    for service in cluster.list("v1", "Service"):
        spec = service["spec"]
        if spec.get("clusterIP") in (None, "None", "") or probes_own(service):
            continue
        own = [s for s in slices if _belongs(s, service)]
        for port in spec.get("ports") or []:
            if port.get("protocol", "TCP") == "TCP":
                yield _service(service, port, own, accounts)


def _service(
    service: Object, port: Object, slices: Objects, accounts: dict[tuple[str, str], str]
) -> Door:
    meta = service["metadata"]
    behind = [
        (accounts.get((meta["namespace"], (end.get("targetRef") or {}).get("name", "")), ""), own)
        for found in slices
        for own in (p["port"] for p in found.get("ports") or [] if _same(p, port))
        for end in found.get("endpoints") or []
        if (end.get("conditions") or {}).get("ready", True)
    ]
    named = (service["spec"].get("selector") or {}).get(ACCOUNT, "")
    target = port.get("targetPort")
    guess = (named, target if isinstance(target, int) else port["port"])
    account, pod_port = behind[0] if behind else guess
    name = f"{meta['namespace']}/{meta['name']}"
    return Door(
        f"Service {name}:{port['port']}",
        service["spec"]["clusterIP"],
        port["port"],
        meta["namespace"],
        account or named,
        pod_port,
        served=bool(behind),
        authority=f"{meta['name']}.{meta['namespace']}.svc.cluster.local",
    )


def _same(one: Object, other: Object) -> bool:
    return bool((one.get("name") or "") == (other.get("name") or ""))


def _belongs(endpoints: Object, service: Object) -> bool:
    meta = endpoints["metadata"]
    same = meta["namespace"] == service["metadata"]["namespace"]
    return bool(same and (meta.get("labels") or {}).get(_SERVICE) == service["metadata"]["name"])


def _pods(pods: Objects) -> Iterator[Door]:
    """A pod of each account: its ports and its sidecar's; and the ports of the platform's pods."""
    for pod in pods:
        spec, meta = pod["spec"], pod["metadata"]
        address = pod.get("status", {}).get("podIP")
        if probes_own(pod) or spec.get("hostNetwork") or not address or not runs(pod):
            continue
        ports = {
            p["containerPort"]
            for c in [*spec["containers"], *(spec.get("initContainers") or [])]
            for p in c.get("ports") or []
            if p.get("protocol", "TCP") == "TCP"
        }
        account = _account(pod)
        ports |= set(SIDECAR_PORTS) if meta["namespace"] in LAYERS else set()
        for port in sorted(ports):
            name = f"pod of {meta['namespace']}/{account}:{port}"
            yield Door(name, address, port, meta["namespace"], account, port)


def _nodes(cluster: Cluster) -> Iterator[Door]:
    opened = {
        port["nodePort"]: f"node port of {s['metadata']['namespace']}/{s['metadata']['name']}"
        for s in cluster.list("v1", "Service")
        for port in s["spec"].get("ports") or []
        if port.get("nodePort")
    }
    for node in cluster.list("v1", "Node"):
        for told in node["status"].get("addresses") or []:
            if told["type"] == "InternalIP" and ":" not in told["address"]:
                for port in (*NODE_PORTS, *sorted(opened)):
                    yield Door(f"{opened.get(port, 'node')}:{port}", told["address"], port)


def _account(pod: Object) -> str:
    labels = pod["metadata"].get("labels") or {}
    told = labels.get(ACCOUNT) or labels.get("k8s-app") or labels.get("app")
    return str(told or pod["spec"].get("serviceAccountName") or pod["metadata"]["name"])


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def runs(pod: Object) -> bool:
    """Whether it runs and is not about to end."""
    ended = "deletionTimestamp" in pod["metadata"]
    return not ended and pod.get("status", {}).get("phase") == "Running"
