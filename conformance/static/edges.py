"""What the rendered policies let through, as edges of the matrix."""

from collections.abc import Iterator
from typing import Any

from conformance.static.environment import Environment
from conformance.static.finding import Object
from conformance.static.matrix import ANY, OUTSIDE, TENANTS, Edge

_NAMESPACE = "kubernetes.io/metadata.name"
_TENANT = {"rag-blueprint.dev/client": "tenant"}
_ACCOUNT = "app.kubernetes.io/name"
_LAYER = "rag-"
_ALL_PORTS = 0  # no port is 0: an edge with it is in no matrix


def ingress(environment: Environment) -> Iterator[Edge]:
    """What NetworkPolicies let into the layers' pods."""
    for item in _policies(environment, "NetworkPolicy"):
        own = (item["metadata"]["namespace"], _account(item["spec"].get("podSelector")))
        for rule in item["spec"].get("ingress") or []:
            for peer in _peers(rule.get("from"), own[0]):
                yield from (Edge(*peer, *own, port) for port in _ports(rule))


def egress(environment: Environment) -> Iterator[Edge]:
    """What NetworkPolicies let out of the layers' pods."""
    for item in _policies(environment, "NetworkPolicy"):
        own = (item["metadata"]["namespace"], _account(item["spec"].get("podSelector")))
        for rule in item["spec"].get("egress") or []:
            for peer in _peers(rule.get("to"), own[0]):
                yield from (Edge(*own, *peer, port) for port in _ports(rule))


def authorized(environment: Environment) -> Iterator[Edge]:
    """What AuthorizationPolicies let the layers' pods answer."""
    for item in _policies(environment, "AuthorizationPolicy"):
        spec = item.get("spec") or {}
        if spec.get("action", "ALLOW") != "ALLOW":
            continue
        own = (item["metadata"]["namespace"], _account(spec.get("selector")))
        for rule in spec.get("rules") or []:
            for caller in _callers(rule):
                yield from (Edge(*caller, *own, port) for port in _operations(rule))


def _policies(environment: Environment, kind: str) -> Iterator[Object]:
    for item in environment.of(kind):
        if item["metadata"].get("namespace", "").startswith(_LAYER):
            yield item


def _account(selector: dict[str, Any] | None) -> str:
    """The one account that a selector means; anything else counts as every pod."""
    labels = (selector or {}).get("matchLabels") or {}
    return str(labels[_ACCOUNT]) if set(labels) == {_ACCOUNT} else ANY


def _peers(peers: list[dict[str, Any]] | None, own: str) -> Iterator[tuple[str, str]]:
    if not peers:
        yield ANY, ANY
    for peer in peers or []:
        block = peer.get("ipBlock")
        if block:
            yield OUTSIDE if block.get("except") else ANY, ANY
        elif "namespaceSelector" in peer:
            labels = (peer["namespaceSelector"] or {}).get("matchLabels") or {}
            name = TENANTS if labels == _TENANT else str(labels.get(_NAMESPACE, ANY))
            yield name, _account(peer.get("podSelector"))
        else:
            yield own, _account(peer.get("podSelector"))


def _ports(rule: dict[str, Any]) -> list[int]:
    ports = rule.get("ports") or [{}]
    return sorted({_ALL_PORTS if "endPort" in p else int(p.get("port", _ALL_PORTS)) for p in ports})


def _callers(rule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not rule.get("from"):
        yield OUTSIDE, ANY
    for source in rule.get("from") or []:
        accounts = source["source"].get("serviceAccounts") or []
        for account in accounts:
            namespace, _, name = account.partition("/")
            yield namespace, name
        if not accounts:
            yield ANY, ANY


def _operations(rule: dict[str, Any]) -> list[int]:
    operations = [to["operation"] for to in rule.get("to") or []]
    ports = [
        int(port) for operation in operations for port in operation.get("ports") or [_ALL_PORTS]
    ]
    return ports or [_ALL_PORTS]
