"""What upstream's charts and install manifests become under our values and patches."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.node import artifacts, golang, programs
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import load
from conformance.errors import SuiteError
from conformance.static import unserved
from conformance.static.environment import SOURCE, Environment, Overlay
from conformance.static.finding import CLUSTER_SCOPED, Object, name_of
from conformance.static.render import changed, parse, render

_SECONDS = 60
_KUBERNETES = "1.36.3"
_DEFINITION = "CustomResourceDefinition"


def expand(environment: Environment) -> Environment:
    """The environment with what its HelmReleases and bundles make; raises `SuiteError`.

    Their CRDs are left out: the schemas come from the same modules.
    """
    found = tuple(_releases(environment)) + tuple(_bundles(environment))
    return replace(environment, overlays=(*environment.overlays, *found))


def _releases(environment: Environment) -> Iterator[Overlay]:
    entries = {f"{e['name']}:{e['version']}": e for e in load("artifacts.yaml")["charts"]}
    for item in environment.of("HelmRelease"):
        if item["metadata"]["name"] in unserved.charts():
            continue
        objects = _template(item, _chart(environment, item["spec"]["chartRef"], entries))
        for renderer in item["spec"].get("postRenderers") or []:
            objects = changed(objects, renderer["kustomize"])
        yield _overlay(item, objects)


def _chart(environment: Environment, ref: Mapping[str, str], entries: Mapping[str, Any]) -> Path:
    """The folder of a release's chart, in its module."""
    if ref["kind"] == "HelmChart":
        (spec,) = (
            c["spec"] for c in environment.of("HelmChart") if name_of(c).endswith(ref["name"])
        )
        entry = unserved.modules()[f"{spec['chart']}:{spec['version']}"]
    else:
        entry = _entry(environment, ref["name"], entries)
    return golang.module(entry["set"], entry["module"]) / entry["path"]


def _bundles(environment: Environment) -> Iterator[Overlay]:
    entries = {f"{e['name']}:{e['version']}": e for e in load("artifacts.yaml")["bundles"]}
    for item in environment.of("Kustomization"):
        source, kind = item["spec"]["sourceRef"]["name"], item["spec"]["sourceRef"]["kind"]
        if kind == "GitRepository" and source != SOURCE:
            entry = unserved.repositories()[source]
            folder = golang.module(entry["set"], entry["module"]) / item["spec"]["path"]
            yield _overlay(item, changed(render(folder), item["spec"]))
        elif source != SOURCE:
            manifests = artifacts.bundle(_entry(environment, source, entries))["manifests.yaml"]
            yield _overlay(item, changed(parse(manifests.decode()), item["spec"]))


def _entry(environment: Environment, source: str, entries: Mapping[str, Any]) -> Any:
    for item in environment.of("OCIRepository"):
        if item["metadata"]["name"] == source:
            name = item["spec"]["url"].removeprefix("oci://")
            name = name.removeprefix(environment.variables.get("oci_mirror", ""))
            key = f"{name}:{item['spec']['ref'].get('tag')}"
            if key in entries:
                return entries[key]
            raise SuiteError(
                f"{key}: not in clusters/lab/node/artifacts.yaml, so it cannot be rendered"
            )
    raise SuiteError(f"there is no OCIRepository {source}")


def _template(release: Object, chart: Path) -> list[Object]:
    """The chart's objects, in the release's namespace."""
    spec = release["spec"]
    namespace = spec["targetNamespace"]
    helm = [programs.program("helm"), "template", spec["releaseName"], chart]
    values = yaml.safe_dump(spec.get("values") or {})
    command = [*helm, "--namespace", namespace, "--kube-version", _KUBERNETES, "--values", "-"]
    return parse(run(command, stdin=values, timeout=_SECONDS))


def _overlay(item: Object, objects: list[Object]) -> Overlay:
    """The objects without their CRDs, each in its namespace."""
    namespace = item["spec"].get("targetNamespace")
    kept = [o for o in objects if o["kind"] != _DEFINITION]
    for one in kept:
        if namespace and one["kind"] not in CLUSTER_SCOPED:
            one["metadata"].setdefault("namespace", namespace)
    name = item["metadata"]["name"]
    return Overlay(name, f"{item['kind']} {name}", tuple(kept))
