"""Rules for the mesh: STRICT everywhere, nothing that weakens it, deny by default."""

from collections.abc import Iterator

from conformance.static.environment import Environment
from conformance.static.finding import Finding, name_of

ROOT_NAMESPACE = "istio-system"


def strict_mtls(environment: Environment) -> Iterator[Finding]:
    """A PeerAuthentication that is not STRICT, or none for the whole mesh."""
    whole = False
    for item in environment.of("PeerAuthentication"):
        spec = item.get("spec") or {}
        modes = [spec.get("mtls", {}).get("mode", "UNSET")]
        modes += [port.get("mode", "UNSET") for port in spec.get("portLevelMtls", {}).values()]
        if weak := [mode for mode in modes if mode != "STRICT"]:
            yield Finding("strict-mtls", name_of(item), f"{', '.join(weak)} lets plaintext in")
        whole |= item["metadata"].get("namespace") == ROOT_NAMESPACE and "selector" not in spec
    if not whole:
        yield Finding("strict-mtls", ROOT_NAMESPACE, "no PeerAuthentication for the whole mesh")


def client_mtls(environment: Environment) -> Iterator[Finding]:
    """A DestinationRule by which clients leave the mesh's TLS."""
    for item in environment.of("DestinationRule"):
        text = repr(item.get("spec"))
        for mode in ("DISABLE", "SIMPLE"):
            if f"'mode': '{mode}'" in text:
                yield Finding("client-mtls", name_of(item), f"tls mode {mode} leaves the mesh")


def default_deny(environment: Environment) -> Iterator[Finding]:
    """No AuthorizationPolicy that denies by default, or one that allows everybody everything."""
    policies = list(environment.of("AuthorizationPolicy"))
    root = [p for p in policies if p["metadata"].get("namespace") == ROOT_NAMESPACE]
    if not any(not p.get("spec") for p in root):
        yield Finding("default-deny", ROOT_NAMESPACE, "no AuthorizationPolicy with an empty spec")
    for item in policies:
        if {} in ((item.get("spec") or {}).get("rules") or []):
            yield Finding("default-deny", name_of(item), "an empty rule allows everything")


RULES = (strict_mtls, client_mtls, default_deny)
