"""What the token of a workload's account opens at the API server, for whoever carries it off.

From the pods the API server is out of reach, which the network's attempts show; here the token is
used from where the suite is.
"""

import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import httpx
from kubernetes import config

from conformance.gate import ProbeError
from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import Foothold
from conformance.probes.cluster import Cluster, Object

FAMILY = "api"
_AT_ONCE = 4
_SECONDS = 20.0
_BUSY, _TIMES = 429, 8  # so often is a busy server asked again, a second apart
_LISTS = ("secrets", "configmaps", "pods")
_GROUP = "rbac.authorization.k8s.io"
_RBAC = f"/apis/{_GROUP}/v1"
_HOOKS = "/apis/admissionregistration.k8s.io/v1"
_AS_ADMINISTRATOR = {"Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters"}
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
# What every authenticated account has: to ask what it may do and who it is.
_EVERYBODYS = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
_OPEN_PATHS = (
    "/api",
    "/apis",
    "/openapi",
    "/openid/v1/jwks",
    "/version",
    "/healthz",
    "/livez",
    "/readyz",
    "/.well-known",
)
_DRY = {"dryRun": "All"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of an attempt."""

    what: str
    method: str
    path: str
    body: Object | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def tried(cluster: Cluster, foothold: Foothold, namespaces: Sequence[str]) -> Iterator[Attempt]:
    """Every request with the account's token; raises `ProbeError`."""
    token = cluster.token(foothold.namespace, foothold.service_account)
    requests = [*_requests(foothold, namespaces)]
    reviews = [_rules(name) for name in namespaces]
    with _client(cluster, token) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = [*pool.map(partial(_send, client), [*requests, *reviews])]
    for asked, (status, told) in zip(requests, answers, strict=False):
        refused = status in (401, 403)
        got = None if status in (0, _BUSY) or status >= 500 else not refused
        said = f"HTTP {status}" if status else str(told)
        yield Attempt(str(foothold), FAMILY, asked.what, got, said)
    for name, (status, told) in zip(namespaces, answers[len(requests) :], strict=True):
        yield from _granted(foothold, name, status, told)


def _client(cluster: Cluster, token: str) -> httpx.Client:
    try:
        settings = config.new_client_from_config(  # type: ignore[no-untyped-call]
            str(cluster.kubeconfig), persist_config=False
        ).configuration
        trusted = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    except Exception as error:  # the client raises whatever its transports do
        raise ProbeError(f"{cluster.kubeconfig}: {error}") from error
    return httpx.Client(
        base_url=settings.host,
        verify=trusted,
        headers={"Authorization": f"Bearer {token}"},
        timeout=_SECONDS,
        trust_env=False,
    )


def _send(client: httpx.Client, asked: Asked, times: int = _TIMES) -> tuple[int, object]:
    try:
        answer = client.request(
            asked.method,
            asked.path,
            params=dict(asked.params),
            json=asked.body,
            headers=dict(asked.headers),
        )
    except httpx.HTTPError as error:
        return 0, f"{type(error).__name__}: {error}"
    if answer.status_code == _BUSY and times:
        time.sleep(1)
        return _send(client, asked, times - 1)
    try:
        return answer.status_code, answer.json()
    except json.JSONDecodeError:
        return answer.status_code, answer.text[:200]


def _requests(foothold: Foothold, namespaces: Sequence[str]) -> Iterator[Asked]:
    for name in namespaces:
        for kind in _LISTS:
            yield Asked(f"list {kind} in {name}", "GET", f"/api/v1/namespaces/{name}/{kind}")
    for kind in ("secrets", "nodes", "namespaces", "persistentvolumes"):
        yield Asked(f"list all {kind}", "GET", f"/api/v1/{kind}")
    for kind in ("clusterroles", "clusterrolebindings", "rolebindings"):
        yield Asked(f"list all {kind}", "GET", f"{_RBAC}/{kind}")
    yield Asked("read the API server's metrics", "GET", "/metrics")
    yield Asked("list the webhooks", "GET", f"{_HOOKS}/mutatingwebhookconfigurations")
    yield Asked("act as an administrator", "GET", "/api/v1/secrets", headers=_AS_ADMINISTRATOR)
    yield from _with_pods(foothold)
    yield from _as_others()
    yield from _more_rights(foothold)


def _with_pods(foothold: Foothold) -> Iterator[Asked]:
    own = f"/api/v1/namespaces/{foothold.namespace}/pods"
    pod = str(foothold.pod["metadata"]["name"])
    container = {"name": "x", "image": "x"}
    made = _made("v1", "Pod", {"spec": {"containers": [container]}})
    yield Asked("make a pod", "POST", own, made, _DRY)
    yield Asked("run a command in a pod", "GET", f"{own}/{pod}/exec", None, {"command": "id"})
    yield Asked("read a pod's log", "GET", f"{own}/{pod}/log")
    yield Asked("delete a pod", "DELETE", f"{own}/{pod}", None, _DRY)


def _as_others() -> Iterator[Asked]:
    for where, account in (("vault", "vault-access"), ("kube-system", "default")):
        path = f"/api/v1/namespaces/{where}/serviceaccounts/{account}/token"
        body = _made("authentication.k8s.io/v1", "TokenRequest", {"spec": {}})
        yield Asked(f"get a token of {where}/{account}", "POST", path, body, _DRY)


def _more_rights(foothold: Foothold) -> Iterator[Asked]:
    """Its own way to everything: by a binding, or by a policy that lets in whoever comes."""
    own = f"namespaces/{foothold.namespace}"
    subject = {
        "kind": "ServiceAccount",
        "name": foothold.service_account,
        "namespace": foothold.namespace,
    }
    role = {"apiGroup": _GROUP, "kind": "ClusterRole", "name": "cluster-admin"}
    body = _made(f"{_GROUP}/v1", "ClusterRoleBinding", {"roleRef": role, "subjects": [subject]})
    path = f"{_RBAC}/clusterrolebindings"
    yield Asked("make itself an administrator", "POST", path, body, _DRY)
    body = _made(
        "networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {}, "ingress": [{}]}}
    )
    path = f"/apis/networking.k8s.io/v1/{own}/networkpolicies"
    yield Asked("open its namespace", "POST", path, body, _DRY)
    body = _made("security.istio.io/v1", "AuthorizationPolicy", {"spec": {"rules": [{}]}})
    path = f"/apis/security.istio.io/v1/{own}/authorizationpolicies"
    yield Asked("let everybody call", "POST", path, body, _DRY)


def _made(api_version: str, kind: str, rest: Object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "intruder"}, **rest}


def _rules(namespace: str) -> Asked:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    return Asked(f"rules in {namespace}", "POST", _REVIEW, body)


def _granted(foothold: Foothold, namespace: str, status: int, told: object) -> Iterator[Attempt]:
    """Whether it has any right there beyond everybody's."""
    what = f"have a right in {namespace}"
    if status != 201 or not isinstance(told, dict):
        yield Attempt(str(foothold), FAMILY, what, None, f"HTTP {status}: no rules were told")
        return
    rules = told["status"]
    more = [
        f"{'/'.join(rule['verbs'])} {'/'.join(rule.get('resources') or [])}"
        for rule in rules.get("resourceRules") or []
        if not {*(rule.get("resources") or [])} <= _EVERYBODYS
    ]
    more += [
        f"{'/'.join(rule['verbs'])} {path}"
        for rule in rules.get("nonResourceRules") or []
        for path in rule.get("nonResourceURLs") or []
        if not path.startswith(_OPEN_PATHS)
    ]
    yield Attempt(str(foothold), FAMILY, what, bool(more), "; ".join(sorted({*more})) or "none")
