"""Overlays rendered by kustomize, the library that Flux's controller uses too."""

import subprocess
from pathlib import Path

import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import programs
from conformance.errors import SuiteError
from conformance.static.finding import Object

_SECONDS = 60


class RenderError(SuiteError):
    """An overlay does not render; has kustomize's own words."""


def parse(text: str) -> list[Object]:
    """The objects of a YAML stream, empty documents left out."""
    return [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]


def render(folder: Path) -> list[Object]:
    """The objects of the kustomization in `folder`; raises `RenderError`."""
    try:
        kustomize = programs.program("kustomize")
    except ClusterError as error:
        raise RenderError(f"kustomize cannot be had: {error}") from error
    done = subprocess.run(  # noqa: S603 - our own program on our own folder
        [kustomize, "build", str(folder)], capture_output=True, text=True, timeout=_SECONDS
    )
    if done.returncode:
        raise RenderError(f"{folder}: {done.stderr.strip()}")
    return parse(done.stdout)
