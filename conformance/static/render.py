"""Overlays rendered by kustomize, the library that Flux's controller uses too."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import programs
from conformance.cluster.node.commands import run
from conformance.errors import SuiteError
from conformance.static.finding import Object

_SECONDS = 60


class RenderError(SuiteError):
    """An overlay does not render; has kustomize's own words."""


class _Loader(yaml.CSafeLoader):
    """A plain `=` is a string, as for Kubernetes; YAML 1.1 made it a type of its own."""


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:value", _scalar)


def parse(text: str) -> list[Object]:
    """The objects of a YAML stream, empty documents left out."""
    return [item for item in yaml.load_all(text, _Loader) if item]


def render(folder: Path) -> list[Object]:
    """The objects of the kustomization in `folder`; raises `RenderError`."""
    try:
        return parse(run([programs.program("kustomize"), "build", folder], timeout=_SECONDS))
    except ClusterError as error:
        raise RenderError(f"{folder}: {error}") from error


def changed(objects: list[Object], spec: Mapping[str, Any]) -> list[Object]:
    """The objects under the `patches` and `images` of a Flux spec; raises `RenderError`."""
    wanted = {key: spec[key] for key in ("patches", "images") if spec.get(key)}
    if not wanted or not objects:
        return objects
    with TemporaryDirectory() as folder:
        kustomization = {"resources": ["objects.yaml"], **wanted}
        (Path(folder) / "objects.yaml").write_text(yaml.safe_dump_all(objects))
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(Path(folder))
