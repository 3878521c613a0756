"""The gateway of a cluster: its filters, whose JWTs it takes, what it allows a tenant."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import httpx
import yaml

from conformance.gate import ProbeError
from conformance.targets.base import RateLimit
from conformance.targets.kube.changing import changed
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.layers.forward import Forward
from conformance.targets.layers.places import place, pods

Filters = list[dict[str, Any]]
FILTERS = ("networking.istio.io/v1alpha3", "EnvoyFilter")
JWT = "envoy.filters.http.jwt_authn"
LIMITS = "rate-limits"  # the ConfigMap
_ADMIN_PORT = 15000  # of the proxy, on loopback
_PUSH_SECONDS = 30.0
_LISTENERS = "/config_dump?resource=dynamic_listeners"


def jwt_settings(cluster: Cluster) -> dict[str, Any]:
    """Issuer and audience that the gateway's JWT filter declares, as far as there is one."""
    for item in _declared(cluster):
        for one in _http_filters(item):
            for provider in _providers(one):
                audiences = provider.get("audiences") or []
                told = {"jwt_issuer": provider["issuer"]}
                return told | ({"jwt_audience": audiences[0]} if audiences else {})
    return {}


def _providers(one: Object) -> list[Object]:
    return [*one["typed_config"]["providers"].values()] if one["name"] == JWT else []


def rate_limit(cluster: Cluster, tenant: str) -> RateLimit:
    """What the gateway is declared to allow the tenant; raises `ProbeError`."""
    namespace = place("gateway").namespace
    (text,) = cluster.get("v1", "ConfigMap", LIMITS, namespace)["data"].values()
    limits = yaml.safe_load(text)
    told = (limits.get("tenants") or {}).get(tenant, limits["default"])
    return RateLimit(float(told["requests_per_minute"]), int(told["burst"]))


def _declared(cluster: Cluster) -> list[Object]:
    found = cluster.find_all(*FILTERS, namespace=place("gateway").namespace)
    return [item for item in found if _http_filters(item)]


def _http_filters(item: Object) -> Filters:
    return [p["patch"]["value"] for p in item["spec"]["configPatches"] if _is_filter(p)]


def _is_filter(patch: Object) -> bool:
    return bool(patch["applyTo"] == "HTTP_FILTER" and "name" in patch["patch"].get("value", {}))


@contextmanager
def filters_changed(cluster: Cluster, change: Callable[[Filters], None]) -> Iterator[None]:
    """Inside the block every gateway's proxy has its HTTP filters changed in place by `change`.

    Raises `ProbeError` when there are none, or the proxies do not take the change.
    """
    found = _declared(cluster)
    if len(found) != 1:
        raise ProbeError(f"rag-gateway: {len(found)} EnvoyFilters with HTTP filters, not one")
    (item,) = found
    filters = deepcopy(_http_filters(item))
    change(filters)
    patches = [*_patches(item, {one["name"]: one for one in filters})]
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    before = _listeners(cluster)
    spec = {"spec": {"configPatches": patches}}
    try:
        with changed(cluster, *FILTERS, name, spec, namespace):
            _await(cluster, lambda now: all(now[pod] != before.get(pod) for pod in now))
            yield
    finally:
        _await(cluster, lambda now: all(now[pod] == before.get(pod, now[pod]) for pod in now))


def _patches(item: Object, kept: dict[str, Object]) -> Iterator[Object]:
    for patch in item["spec"]["configPatches"]:
        if not _is_filter(patch):
            yield patch
        elif (name := patch["patch"]["value"]["name"]) in kept:
            yield {**patch, "patch": {**patch["patch"], "value": kept[name]}}


def _await(cluster: Cluster, holds: Callable[[dict[str, str]], bool]) -> None:
    what = "the gateway's proxies do not take the change of their filters"
    cluster.wait(lambda: holds(_listeners(cluster)), _PUSH_SECONDS, what)


def _listeners(cluster: Cluster) -> dict[str, str]:
    """The listeners that each gateway's proxy runs with, by pod; raises `ProbeError`."""
    at = place("gateway")
    names = [pod["metadata"]["name"] for pod in pods(cluster, at)]
    if not names:
        raise ProbeError(f"{at.namespace}/{at.account}: no pod is ready")
    return {name: _running(cluster, at.namespace, name) for name in names}


def _running(cluster: Cluster, namespace: str, pod: str) -> str:
    with Forward(pod, lambda: cluster.tunnel(namespace, pod, _ADMIN_PORT)) as door:
        try:
            url = f"http://{door.address}{_LISTENERS}"
            answer = httpx.get(url, timeout=10, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            raise ProbeError(f"{namespace}/{pod}: {door.trouble or repr(error)}") from error
    states = [entry.get("active_state", {}) for entry in answer.json().get("configs", [])]
    return json.dumps([state.get("listener") for state in states], sort_keys=True)
