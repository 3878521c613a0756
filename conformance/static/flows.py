"""Rules for who may dial whom: the policies are the matrix, and the matrix keeps the seed's denials."""

from collections.abc import Iterator
from dataclasses import astuple, replace

from conformance.static import edges
from conformance.static.environment import Environment, elsewhere
from conformance.static.finding import Finding, Object, identity, name_of
from conformance.static.matrix import ANY, LAYER, OUTSIDE, Edge, Matrix, read

# The promises themselves, not the file: an edited matrix cannot make them green.
ONLY = {
    # and the vault, which rotates the logins there, and the operator that runs it
    "rag-vectordb": {"rag-retrieval", "rag-ingestion", "vault", "cnpg-system"},
    "rag-llm": {"rag-retrieval"},
    "rag-retrieval": {"rag-gateway"},
}
# Pods of the platform that the exceptions mean, by the label that the policies select.
_METRICS = "prometheus"
_ACCOUNTS = "service-accounts.txt"


def seed_denials(environment: Environment) -> Iterator[Finding]:
    """A flow into a protected layer from another one that the seed does not name."""
    matrix = read(variables=environment.variables)
    for edge in sorted(matrix.flows | set(edges.ingress(environment))):
        callers = ONLY.get(edge.to_namespace)
        exception = (edge.from_namespace, edge.port) in matrix.reaching
        own = edge.from_namespace == edge.to_namespace
        if callers and edge.from_namespace not in callers and not own and not exception:
            yield Finding("seed-denials", str(edge), f"only {', '.join(sorted(callers))} may")


def network_matrix(environment: Environment) -> Iterator[Finding]:
    """An edge that the policies allow and the matrix does not, or the other way round."""
    matrix = read(variables=environment.variables)
    layers = sorted({e["metadata"]["namespace"] for e in _denying(environment)})
    metrics = {
        Edge(name, _METRICS, layer, ANY, port) for layer in layers for name, port in matrix.reaching
    }
    outside = {
        Edge(e.from_namespace, ANY, e.to_namespace, e.to_account, e.port) for e in matrix.outside
    }
    into = matrix.flows | metrics | outside
    yield from _compare("let in", into, set(edges.ingress(environment)))
    let_out = set(edges.egress(environment))
    named = {e for e in let_out if not _is_exception(e, matrix)}
    ours = {e for e in matrix.flows if e.from_namespace.startswith(LAYER)}
    yield from _compare("let out", ours | matrix.leaving, named)
    for layer in layers:
        used = {(e.to_namespace, e.port) for e in let_out if e.from_namespace == layer}
        for name, port in sorted(matrix.reached - used):
            yield Finding("network-matrix", layer, f"no policy lets out to {name}:{port}")


def mesh_matrix(environment: Environment) -> Iterator[Finding]:
    """A caller that the mesh authorises and the matrix does not, or the other way round."""
    matrix = read(variables=environment.variables)
    outside = (e for e in matrix.outside if e.from_namespace == OUTSIDE)  # tenants are, too
    wanted = matrix.flows | {Edge(OUTSIDE, ANY, *e[2:]) for e in map(astuple, outside)}
    found = {_of_account(edge, matrix) for edge in edges.authorized(environment)}
    yield from _compare("authorise", wanted, found, "mesh-matrix")


def vault_accounts(environment: Environment) -> Iterator[Finding]:
    """A layer's account of the matrix without a vault role, or a role that no account can take."""
    matrix = read(variables=environment.variables)
    wanted = {" ".join(account) for account in matrix.layer_accounts}
    there = {" ".join(identity(item)[2:]) for item in environment.of("ServiceAccount")}
    lists = [
        {" ".join(line.split()[:2]) for text in _account_lists(item) for line in text.splitlines()}
        for item in environment.of("ConfigMap")
        if identity(item)[2] == "vault" and _ACCOUNTS in (item.get("data") or {})
    ]
    if not lists:
        yield Finding("vault-accounts", "vault", f"no ConfigMap with {_ACCOUNTS}")
    for name in sorted({name for listed in lists for name in wanted - listed}):
        yield Finding("vault-accounts", name, f"is in the matrix and not in {_ACCOUNTS}")
    operated = {" ".join(identity_) for identity_ in matrix.identities}
    known = {" ".join(account) for account in matrix.known} | operated
    for name in sorted(set().union(*lists) - there - known):
        account = f"ServiceAccount {name.replace(' ', '/')}"
        if not elsewhere(account, environment, name_of):
            yield Finding("vault-accounts", name, "has a role and is no service account")


def _account_lists(item: Object) -> Iterator[str]:
    return (text for key, text in item["data"].items() if key.endswith("accounts.txt"))


def _of_account(edge: Edge, matrix: Matrix) -> Edge:
    """The edge from the account whose pods run under the identity that is authorised."""
    caller = (edge.from_namespace, edge.from_account)
    if caller in matrix.identities.values():  # no pod runs under its account's own name
        return replace(edge, from_account=f"{edge.from_account}, which is no identity")
    namespace, account = matrix.identities.get(caller, caller)
    return replace(edge, from_namespace=namespace, from_account=account)


def _denying(environment: Environment) -> Iterator[dict[str, dict[str, str]]]:
    for item in environment.of("NetworkPolicy"):
        spec = item["spec"]
        both = set(spec.get("policyTypes") or []) == {"Ingress", "Egress"}
        if (
            both
            and not spec.get("podSelector")
            and not spec.get("ingress")
            and not spec.get("egress")
        ):
            yield item


def _is_exception(edge: Edge, matrix: Matrix) -> bool:
    return edge.from_account == ANY and (edge.to_namespace, edge.port) in matrix.reached


def _compare(
    verb: str, wanted: set[Edge] | frozenset[Edge], found: set[Edge], rule: str = "network-matrix"
) -> Iterator[Finding]:
    for edge in sorted(found - wanted):
        yield Finding(rule, str(edge), f"policies {verb} what matrix.yaml does not allow")
    for edge in sorted(wanted - found):
        yield Finding(rule, str(edge), f"matrix.yaml allows it, no policy does ({verb})")


RULES = (seed_denials, network_matrix, mesh_matrix, vault_accounts)
