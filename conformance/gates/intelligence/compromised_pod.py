"""compromised-pod: what an attacker in a pod of each layer gets, tried for real, against what is declared."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from conformance.corpora.prepare import TENANT
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _vault
from conformance.gates.foundation._layers import NAMESPACE
from conformance.gates.foundation._policies import declared
from conformance.gates.intelligence._compromise import (
    attempts,
    container,
    data,
    identity,
    kubernetes_api,
    network,
    tables,
    targets,
    vault,
)
from conformance.gates.intelligence._compromise.attempts import (
    UNDECLARED,
    UNNEEDED,
    UNTRIED,
    WRONG,
    Attempt,
    Judged,
)
from conformance.gates.intelligence._compromise.footholds import Foothold, template_of, twin
from conformance.probes.cluster import FAULT, LABEL, Cluster, Object, planted, running, unique
from conformance.stats import exactly
from conformance.targets.layers.places import ACCOUNT

_START_SECONDS = 240.0
_RBAC = "rbac.authorization.k8s.io"
_MESH = "security.istio.io/v1"
_POLICY = "networking.k8s.io/v1"

Family = Callable[[Foothold], Iterator[Attempt]]


def measure(context: Context) -> Observation:
    """Plant a pod in each workload's place, try everything from it, and judge what worked."""
    cluster, environment = context.target.cluster, context.target.environment
    powers = attempts.declared(environment)
    matrix = declared(environment)
    found, missing = _footholds(cluster, sorted(matrix.layer_accounts))
    doors = targets.doors(cluster)
    pods = [twin(cluster, one, context.parameter("probe_image")) for one in found]
    with planted(cluster, *pods, evidence=context.evidence) as made:
        there = running(cluster, made, _START_SECONDS)
        found = [replace(one, pod=pod) for one, pod in zip(found, there, strict=True)]
        ways = vault.ways(cluster, found)
        namespaces = sorted(n["metadata"]["name"] for n in cluster.list("v1", "Namespace"))
        families: list[Family] = [
            lambda one: network.tried(cluster, one, doors, matrix),
            lambda one: kubernetes_api.tried(cluster, one, namespaces),
            lambda one: vault.tried(cluster, one, ways),
            lambda one: identity.tried(cluster, one, TENANT),
            lambda one: data.tried(cluster, one, matrix),
            lambda one: container.tried(cluster, one),
            lambda one: container.real(cluster, one),
        ]
        tried = _all(context, found, families)
    rows = attempts.judged([*missing, *tried], powers)
    return _observation(context, rows, len(found))


def _footholds(
    cluster: Cluster, accounts: Sequence[tuple[str, str]]
) -> tuple[list[Foothold], list[Attempt]]:
    """The workloads that are there, and for each that is not an attempt that could not be made."""
    found, missing = [], []
    for namespace, account in accounts:
        template = template_of(cluster, namespace, account)
        if template is None:
            who, why = f"{namespace}/{account}", "no workload runs as this account"
            missing.append(Attempt(who, "foothold", "have a pod", None, why))
        else:
            found.append(Foothold(namespace, account, template))
    if not found:
        raise ProbeError("no workload of any layer is there: is the platform on this cluster?")
    return found, missing


def _all(
    context: Context, footholds: Sequence[Foothold], families: Sequence[Family]
) -> list[Attempt]:
    """Every family from every foothold; one that breaks is an attempt that could not be made."""
    jobs = [(one, family) for family in families for one in footholds]

    def one(job: tuple[Foothold, Family]) -> list[Attempt]:
        foothold, family = job
        try:
            return [*family(foothold)]
        except ProbeError as error:
            return [Attempt(str(foothold), "foothold", "be used", None, str(error))]

    tried: list[Attempt] = []
    with ThreadPoolExecutor(int(context.parameter("at_once"))) as pool:
        for done, made in enumerate(pool.map(one, jobs), 1):
            tried += made
            context.progress(done, len(jobs), "attacks")
    return tried


def _observation(context: Context, rows: Sequence[Judged], workloads: int) -> Observation:
    context.evidence.write("attempts.csv", tables.csv_of(rows))
    shown = [tables.findings(rows), tables.powers(rows), tables.summary(rows)]
    context.evidence.write("review.md", tables.markdown(shown))
    counted = attempts.counts(rows)
    wanted = counted[attempts.DECLARED] + counted[UNNEEDED]
    return Observation(
        {
            "undeclared": exactly(counted[UNDECLARED], len(rows)),
            "unneeded": exactly(counted[UNNEEDED], wanted),
            "untried": exactly(counted[UNTRIED], len(rows)),
            "workloads": exactly(workloads, workloads),
        },
        notes=[str(row) for row in rows if row.state in WRONG],
        tables=shown,
    )


@contextmanager
def _way_to_the_cache(context: Context) -> Iterator[None]:
    """Policies of network and mesh that let ingestion speak to retrieval's cache."""
    cluster = context.target.cluster
    name = unique(cluster, "way")
    caller, called = ("rag-ingestion", "ingestion"), ("rag-retrieval", "cache")
    items = [
        _network_policy(name, caller, "egress", "to", called),
        _network_policy(name, called, "ingress", "from", caller),
        {
            "apiVersion": _MESH,
            "kind": "AuthorizationPolicy",
            "metadata": _meta(name, called[0]),
            "spec": {
                "selector": {"matchLabels": {ACCOUNT: called[1]}},
                "action": "ALLOW",
                "rules": [{"from": [{"source": {"serviceAccounts": ["/".join(caller)]}}]}],
            },
        },
    ]
    with planted(cluster, *items):
        yield


def _network_policy(
    name: str, own: tuple[str, str], way: str, end: str, other: tuple[str, str]
) -> Object:
    peer = {
        "namespaceSelector": {"matchLabels": {NAMESPACE: other[0]}},
        "podSelector": {"matchLabels": {ACCOUNT: other[1]}},
    }
    spec = {
        "podSelector": {"matchLabels": {ACCOUNT: own[1]}},
        "policyTypes": [way.capitalize()],
        way: [{end: [peer]}],
    }
    meta = _meta(name, own[0])
    return {"apiVersion": _POLICY, "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def _meta(name: str, namespace: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": {LABEL: FAULT}}


@contextmanager
def _reads_secrets(context: Context) -> Iterator[None]:
    """A Role that lets the embedder's account read the gateway's Secrets."""
    cluster = context.target.cluster
    meta = _meta(unique(cluster, "reader"), "rag-gateway")
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    who = {"kind": "ServiceAccount", "name": "embedding", "namespace": "rag-embedding"}
    kind = {"apiVersion": f"{_RBAC}/v1", "metadata": meta}
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": meta["name"]}
    role = {**kind, "kind": "Role", "rules": rules}
    binding = {**kind, "kind": "RoleBinding", "roleRef": reference, "subjects": [who]}
    with planted(cluster, role, binding):
        yield


@contextmanager
def _wide_role(context: Context) -> Iterator[None]:
    """The vault's role of the guard, which signs for tenants, is open to retrieval's account too."""
    guard, retrieval = ("rag-gateway", "guard"), ("rag-retrieval", "retrieval")
    with (
        _vault.reached(context) as server,
        server.role_bound_to(_vault.role_of(guard), guard, retrieval),
    ):
        yield


GATE = Gate(
    id="compromised-pod",
    phase=Phase.INTELLIGENCE,
    title="A compromised pod gets what is declared, and nothing else",
    promise="Security review as an attacker inside the cluster: nothing beyond the declared matrix",
    measure=measure,
    faults=(
        Fault("policies that let ingestion speak to retrieval's cache", _way_to_the_cache),
        Fault("a Role that lets the embedder's account read the gateway's Secrets", _reads_secrets),
        Fault("the vault gives the guard's folder to retrieval as well", _wide_role),
    ),
)
