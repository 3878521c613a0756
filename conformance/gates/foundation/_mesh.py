"""What the mTLS gate plants, and what it dials: its own servers and every Service of the layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.gates.foundation._layers import ENFORCED, INJECTED, LAYERS, NAMESPACE
from conformance.probes.cluster import Cluster, Dial, Object, Objects, probe_pod
from conformance.static.matrix import ANY, OUTSIDE, Edge, Matrix

PORT = 8080
CALLER = "caller"
_ROLE = "rag-blueprint.dev/role"
_ACCOUNT = "app.kubernetes.io/name"
_SERVICE = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Door:
    """An address that a Service leads to, or the Service's own."""

    name: str
    dial: Dial


@dataclass(slots=True)
class Doors:
    """Every port of every Service of the layers: to be tried, exempt, or with nobody behind it."""

    tried: list[Door] = field(default_factory=list)
    exempt: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Probe:
    """One measurement's clients, in a namespace of their own, and servers; `name` is new for each."""

    name: str
    image: str

    @property
    def server(self) -> Mapping[str, str]:
        """The label of its servers."""
        return {_ROLE: f"{self.name}-server"}

    @property
    def client(self) -> Mapping[str, str]:
        """The label of its clients."""
        return {_ROLE: f"{self.name}-client"}

    def clients(self) -> Objects:
        """The namespace with an account, an un-meshed pod and a meshed one of the account."""
        labels = {ENFORCED: "restricted", INJECTED: "enabled"}
        account = {"name": CALLER, "namespace": self.name}
        own = (self.name, self.image, "serve")
        return [
            _made("v1", "Namespace", {"name": self.name, "labels": labels}),
            _made("v1", "ServiceAccount", account),
            probe_pod("plain", *own, labels=self.client),
            probe_pod(CALLER, *own, labels=self.client, account=CALLER, mesh=True),
        ]

    def servers(self) -> Iterator[Object]:
        """A meshed server in every layer's namespace, and what lets the clients reach it."""
        for layer in LAYERS:
            metadata = {"name": self.name, "namespace": layer}
            own = (self.name, layer, self.image, "serve", [str(PORT)])
            yield probe_pod(*own, labels=self.server, mesh=True, ready=True)
            yield _made("v1", "Service", metadata, self._service())
            yield _made("networking.k8s.io/v1", "NetworkPolicy", metadata, self._let_in())
            yield _made("security.istio.io/v1", "AuthorizationPolicy", metadata, self._authorized())

    def _service(self) -> Object:
        return {"selector": self.server, "ports": [{"name": "http", "port": PORT}]}

    def _let_in(self) -> Object:
        """The clients, to every pod: what refuses them then is the mesh alone."""
        peer = {
            "namespaceSelector": {"matchLabels": {NAMESPACE: self.name}},
            "podSelector": {"matchLabels": self.client},
        }
        return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]}

    def _authorized(self) -> Object:
        source = {"source": {"serviceAccounts": [f"{self.name}/{CALLER}"]}}
        selector = {"matchLabels": self.server}
        return {"selector": selector, "action": "ALLOW", "rules": [{"from": [source]}]}


def _made(api_version: str, kind: str, metadata: Object, spec: Object | None = None) -> Object:
    item = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return item if spec is None else {**item, "spec": spec}


def doors(cluster: Cluster, matrix: Matrix) -> Doors:
    """Every TCP port of every Service of the layers, at the Service and at each Ready pod."""
    found = Doors()
    for layer in LAYERS:
        pods = {p["metadata"]["name"]: p for p in cluster.list("v1", "Pod", layer)}
        slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", layer)
        for service in cluster.list("v1", "Service", layer):
            own = [s for s in slices if _belongs(s, service)]
            _add(found, service, [*_backends(own, pods)], matrix)
    return found


def _belongs(endpoints: Object, service: Object) -> bool:
    return bool(endpoints["metadata"]["labels"].get(_SERVICE) == service["metadata"]["name"])


def _backends(slices: Objects, pods: dict[str, Object]) -> Iterator[tuple[str, Edge, str]]:
    """Port name, edge from outside and address of each Ready pod behind a Service."""
    for endpoints in slices:
        for port in endpoints.get("ports") or []:
            for endpoint in endpoints.get("endpoints") or []:
                if port.get("protocol") != "TCP" or not endpoint["conditions"].get("ready"):
                    continue
                pod = pods.get(endpoint.get("targetRef", {}).get("name", ""), {})
                account = pod.get("metadata", {}).get("labels", {}).get(_ACCOUNT, "")
                where = endpoints["metadata"]["namespace"]
                edge = Edge(OUTSIDE, ANY, where, account, port["port"])
                yield port.get("name") or "", edge, endpoint["addresses"][0]


def _add(
    found: Doors, service: Object, backends: Sequence[tuple[str, Edge, str]], matrix: Matrix
) -> None:
    metadata, spec = service["metadata"], service["spec"]
    for port in spec.get("ports") or []:
        name = f"{metadata['namespace']}/{metadata['name']}:{port['port']}"
        behind = [(edge, address) for own, edge, address in backends if own == port.get("name", "")]
        if not behind:
            found.empty.append(name)
        elif all(edge in matrix.outside for edge, _ in behind):
            found.exempt.append(name)
        else:
            found.tried += [Door(name, Dial(a, e.port, "http")) for e, a in behind]
            if spec.get("clusterIP") not in (None, "None"):
                found.tried.append(Door(name, Dial(spec["clusterIP"], port["port"], "http")))
