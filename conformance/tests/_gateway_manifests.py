"""An Envoy configuration from the cluster's manifests: what istiod would make of them, for one machine.

Istio's part is imitated (its listener, its clusters, the order in which it applies patches); the
patches, the route and the access log are the manifests' own.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

from ragctl import edge

ROOT = Path(__file__).parents[2]
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"
_TYPE = "type.googleapis.com/envoy.extensions."
Node = dict[str, Any]


def _read(path: str) -> Node:
    text = (ROOT / path).read_text(encoding="utf-8")
    for name, value in yaml.safe_load((ROOT / "clusters/lab/vars.yaml").read_text())[
        "data"
    ].items():
        text = text.replace(f"${{{name}}}", value)
    return yaml.safe_load(text)


def merged(base: Any, patch: Any) -> Any:
    """As protobuf merges: messages field by field, lists appended, the rest replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {k: merged(base[k], v) if k in base else v for k, v in patch.items()}
    return [*base, *patch] if isinstance(base, list) else patch


def _applied(listener: Node, patch: Node) -> None:
    kind, operation = patch["applyTo"], patch["patch"]["operation"]
    value = copy.deepcopy(patch["patch"]["value"])
    manager = listener["filter_chains"][0]["filters"][0]
    if (kind, operation) == ("LISTENER", "MERGE"):
        listener |= merged(listener, value)
    elif (kind, operation) == ("NETWORK_FILTER", "MERGE"):
        assert patch["match"]["listener"]["filterChain"]["filter"]["name"] == MANAGER
        manager |= merged(manager, value)
    elif (kind, operation) == ("HTTP_FILTER", "INSERT_BEFORE"):
        chain = manager["typed_config"]["http_filters"]
        wanted = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
        at = next(i for i, f in enumerate(chain) if f["name"] == wanted)
        chain.insert(at, value)
    else:
        raise AssertionError(f"{kind} {operation}: not imitated")


def _route(rule: Node) -> Node:
    (match,) = rule["matches"]
    assert match["path"]["type"] == "Exact"
    removed = {
        f["type"]: next(iter(v for k, v in f.items() if k != "type")) for f in rule["filters"]
    }
    return {
        "match": {
            "path": match["path"]["value"],
            "headers": [{"name": ":method", "string_match": {"exact": match["method"]}}],
        },
        "route": {"cluster": "retrieval", "timeout": rule["timeouts"]["request"]},
        "request_headers_to_remove": removed["RequestHeaderModifier"]["remove"],
        "response_headers_to_remove": removed["ResponseHeaderModifier"]["remove"],
    }


def _access_log(path: Path) -> Node:
    release = _read("platform/mesh/base/controllers/istiod.yaml")
    (provider,) = release["spec"]["values"]["meshConfig"]["extensionProviders"]
    (used,) = _read("apps/gateway/base/filters/access-log.yaml")["spec"]["accessLogging"][0][
        "providers"
    ]
    assert provider["name"] == used["name"]
    labels = provider["envoyFileAccessLog"]["logFormat"]["labels"]
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPE}access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": labels},
        },
    }


def _listener(parameters: edge.EdgeParameters) -> Node:
    routes = [_route(r) for r in _read("apps/gateway/base/retrieval.yaml")["spec"]["rules"]]
    manager = {
        "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "access_log": [_access_log(parameters.access_log)],
        "http_filters": [
            {"name": ROUTER, "typed_config": {"@type": f"{_TYPE}filters.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
    }
    return {
        "name": "0.0.0.0_8080",
        "address": {"socket_address": {"address": parameters.host, "port_value": parameters.port}},
        "filter_chains": [{"filters": [{"name": MANAGER, "typed_config": manager}]}],
    }


def _cluster(name: str, endpoint: edge.Endpoint) -> Node:
    address = {"endpoint": {"address": endpoint.address}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [address]}]}
    kind = "STATIC" if endpoint.pipe else "STRICT_DNS"
    return {"name": name, "connect_timeout": "1s", "type": kind, "load_assignment": load}


def write_config(parameters: edge.EdgeParameters, path: Path) -> Path:
    """Write the configuration to `path`, checked by Envoy itself."""
    listener = _listener(parameters)
    folder = ROOT / "apps/gateway/base/filters"
    for name in sorted(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]):
        manifest = _read(f"apps/gateway/base/filters/{name}")
        if manifest["kind"] == "EnvoyFilter":
            for patch in manifest["spec"]["configPatches"]:
                _applied(listener, patch)
    guard = "outbound|8083||guard.rag-gateway.svc.cluster.local"
    config = {
        "admin": {"address": {"pipe": {"path": str(parameters.admin_socket)}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                _cluster(guard, parameters.guard_endpoint),
                _cluster("retrieval", parameters.retrieval_endpoint),
            ],
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    edge.check(path)
    return path
