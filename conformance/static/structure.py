"""Rules for the whole: everything renders, nothing is there twice, nothing points at what is not there."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from conformance.static.cluster_vars import alternatives
from conformance.static.environment import Environment, is_ours, load, names
from conformance.static.finding import CLUSTER_SCOPED, Finding, identity, name_of
from conformance.static.substitution import undefined

_GIVEN_NAMESPACES = {"default", "flux-system", "kube-system"}


def renders(environment: Environment) -> Iterator[Finding]:
    """An overlay that does not render, or renders to nothing."""
    for overlay in environment.overlays:
        if overlay.error:
            yield Finding("renders", overlay.path, overlay.error)
        elif not overlay.objects:
            yield Finding("renders", overlay.path, "renders to nothing")


def duplicate(environment: Environment) -> Iterator[Finding]:
    """An object that two overlays apply: they would fight over it."""
    count = Counter(identity(item) for item in environment.objects)
    seen = {identity(item): name_of(item) for item in environment.objects}
    for key, times in count.items():
        if times > 1:
            yield Finding("duplicate", seen[key], f"applied {times} times")


def orphan(environment: Environment) -> Iterator[Finding]:
    """An overlay of this environment on disk that Flux is not told of, in another one neither."""
    there = {
        path.relative_to(environment.root)
        for top in ("platform", "apps")
        for name in environment.folders
        for folder in environment.root.glob(f"{top}/*/{name}")
        for path in _roots(folder)
    }
    found = there - _paths(environment)
    for other in (name for name in names() if found and name != environment.name):
        found -= _paths(load(other))
    for path in sorted(found):
        yield Finding("orphan", str(path), "no Flux Kustomization has this path")


def _paths(environment: Environment) -> set[Path]:
    return {Path(overlay.path) for overlay in environment.overlays}


def _roots(folder: Path) -> list[Path]:
    if (folder / "kustomization.yaml").exists():
        return [folder]
    found = [p.parent for p in folder.glob("*/kustomization.yaml")]
    # Beside alternatives lies what they share.
    folders = {name for choice in alternatives().values() for name in choice}
    return [] if {p.name for p in found} & folders else found


def depends_on(environment: Environment) -> Iterator[Finding]:
    """A dependsOn that names no Kustomization or HelmRelease of the cluster, or a circle of them."""
    for kind in ("Kustomization", "HelmRelease"):
        needs = {}
        for item in environment.of(kind):
            wanted = (item.get("spec") or {}).get("dependsOn") or []
            needs[item["metadata"]["name"]] = [d["name"] for d in wanted]
        for name, wanted in needs.items():
            for other in wanted:
                if other not in needs:
                    yield Finding("depends-on", f"{kind} {name}", f"{other} is not there")
            if name in _reached(needs, wanted):
                yield Finding("depends-on", f"{kind} {name}", "waits for itself")


def _reached(needs: dict[str, list[str]], names: list[str]) -> set[str]:
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs.get(name, [])
    return found


def variables(environment: Environment) -> Iterator[Finding]:
    """A `${name}` that the cluster's variables do not have."""
    for overlay in environment.overlays:
        for item in overlay.objects:
            for name in sorted(undefined(item, environment.variables)):
                message = f"${{{name}}} is not in clusters/{environment.name}/vars.yaml"
                yield Finding("variables", name_of(item), message)


def namespace_known(environment: Environment) -> Iterator[Finding]:
    """An object in no namespace, or in one that nobody makes."""
    made = {item["metadata"]["name"] for item in environment.of("Namespace")} | _GIVEN_NAMESPACES
    for item in environment.objects:
        if item.get("kind") in CLUSTER_SCOPED:
            continue
        namespace = item["metadata"].get("namespace")
        if namespace not in made:
            yield Finding("namespace-known", name_of(item), f"namespace {namespace!r} is not made")


def flux_bounds(environment: Environment) -> Iterator[Finding]:
    """A Kustomization that does not prune, wait, time out soon, or retry soon."""
    for item in environment.of("Kustomization"):
        if is_ours(item):
            spec = item["spec"]
            waits = spec.get("wait") is True or bool(spec.get("healthChecks"))
            good = spec.get("prune") is True and waits
            if not (good and spec.get("timeout") and spec.get("retryInterval")):
                message = "needs prune, wait, timeout and retryInterval"
                yield Finding("flux-bounds", name_of(item), message)


RULES = (renders, duplicate, orphan, depends_on, variables, namespace_known, flux_bounds)
