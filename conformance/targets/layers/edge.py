"""What the gateway of a cluster declares: whose JWTs it takes, and what it allows a tenant."""

from typing import Any

from conformance.targets.kube.client import Cluster
from conformance.targets.layers.places import place

_AUTHENTICATION = ("security.istio.io/v1", "RequestAuthentication")


def jwt_settings(cluster: Cluster) -> dict[str, Any]:
    """Issuer and audience of the gateway's RequestAuthentication, as far as there is one."""
    found = cluster.find_all(*_AUTHENTICATION, namespace=place("gateway").namespace)
    rules = [rule for item in found for rule in item["spec"].get("jwtRules", [])]
    if not rules:
        return {}
    audiences = rules[0].get("audiences") or []
    told = {"jwt_issuer": rules[0]["issuer"]}
    return told | ({"jwt_audience": audiences[0]} if audiences else {})
