"""Everything that Flux would apply to one environment, found the way Flux finds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from conformance.static.finding import Object, identity
from conformance.static.render import RenderError, changed, render
from conformance.static.substitution import substitute

ROOT = Path(__file__).resolve().parents[2]
FLUX = "kustomize.toolkit.fluxcd.io"
SOURCE = "rag-blueprint"


@dataclass(frozen=True)
class Overlay:
    """One Flux Kustomization of ours and what its path renders to, before substitution."""

    name: str
    path: str
    objects: tuple[Object, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Environment:
    """A cluster's folder, its overlays, and the variables that Flux puts in."""

    name: str
    cluster: tuple[Object, ...]
    overlays: tuple[Overlay, ...]
    variables: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT

    @property
    def folders(self) -> set[str]:
        """The names of the overlay folders that its paths go through: `lab`, `cloud`."""
        return {Path(overlay.path).parts[2] for overlay in self.overlays if is_overlay(overlay)}

    @cached_property
    def objects(self) -> tuple[Object, ...]:
        """Every object, as it reaches the API server."""
        ours = (item for overlay in self.overlays for item in overlay.objects)
        return (*self.cluster, *(substitute(item, self.variables) for item in ours))

    def of(self, *kinds: str) -> Iterator[Object]:
        """The objects of these kinds."""
        return (item for item in self.objects if item.get("kind") in kinds)

    def having(self, extra: list[Object]) -> "Environment":
        """The same with `extra` in it, each in place of the object of its identity."""
        new = {identity(item) for item in extra}
        kept = tuple(
            replace(o, objects=tuple(x for x in o.objects if identity(x) not in new))
            for o in self.overlays
        )
        cluster = tuple(x for x in self.cluster if identity(x) not in new)
        return replace(
            self, cluster=cluster, overlays=(*kept, Overlay("extra", "extra", tuple(extra)))
        )


def is_overlay(overlay: Overlay) -> bool:
    """Whether it is one of ./platform or ./apps."""
    return Path(overlay.path).parts[:1] in (("platform",), ("apps",))


def names() -> list[str]:
    """The environments that have a cluster's folder."""
    return sorted(path.parent.name for path in (ROOT / "clusters").glob("*/vars.yaml"))


def elsewhere(where: str, environment: Environment, name: Callable[[Object], str]) -> bool:
    """Whether the object that is called `where` is not of this environment, but of another one."""
    if any(name(item) == where for item in environment.objects):
        return False
    others = (load(other) for other in names() if other != environment.name)
    return any(name(item) == where for other in others for item in other.objects)


def is_ours(item: Object) -> bool:
    """Whether this is a Flux Kustomization over this repository, and not over the cluster's folder itself."""
    spec = item.get("spec") or {}
    named = (spec.get("sourceRef") or {}).get("name") == SOURCE
    itself = str(spec.get("path", "")).startswith("./clusters/")
    return identity(item)[:2] == (FLUX, "Kustomization") and named and not itself


@cache
def load(name: str) -> Environment:
    """Render the environment; raises `RenderError` only when its cluster's folder does not render."""
    cluster = tuple(render(ROOT / "clusters" / name))
    variables: dict[str, str] = {}
    for item in cluster:
        if identity(item)[1:] == ("ConfigMap", "flux-system", "cluster-vars"):
            variables = {key: str(value) for key, value in (item.get("data") or {}).items()}
    overlays = tuple(_overlay(item) for item in cluster if is_ours(item))
    return Environment(name, cluster, overlays, variables)


def _overlay(item: Object) -> Overlay:
    name, path = item["metadata"]["name"], item["spec"]["path"]
    try:
        return Overlay(name, path, tuple(changed(render(ROOT / path), item["spec"])))
    except RenderError as error:
        return Overlay(name, path, error=str(error))
