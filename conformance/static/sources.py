"""The real schemas, read from the pinned modules: CustomResourceDefinitions and Kubernetes' own OpenAPI."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.node import golang
from conformance.errors import SuiteError
from conformance.static import generated
from conformance.static.finding import Object
from conformance.static.render import parse

_LIST = Path(__file__).with_name("crds.yaml")
_KUBERNETES = ("common", "k8s.io/kubernetes", "api/openapi-spec/v3")


def definitions() -> Iterator[Object]:
    """Every CustomResourceDefinition of `crds.yaml`, and those that are generated.

    Raises `SuiteError` for a pattern that finds none.
    """
    for module_set, modules in yaml.safe_load(_LIST.read_text(encoding="utf-8")).items():
        for module, patterns in modules.items():
            folder = golang.module(module_set, module)
            for pattern in patterns:
                yield from _read(folder, pattern)
    yield from generated.definitions()


def _read(folder: Path, pattern: str) -> Iterator[Object]:
    found = [
        item
        for path in sorted(folder.glob(pattern))
        for item in parse(path.read_text(encoding="utf-8"))
        if item.get("kind") == "CustomResourceDefinition"
    ]
    if not found:
        raise SuiteError(f"{folder}/{pattern}: no CustomResourceDefinition; correct {_LIST.name}")
    yield from found


@cache
def openapi(group: str, version: str) -> dict[str, Any]:
    """Kubernetes' OpenAPI document of a group and version; empty when Kubernetes has no such API."""
    module_set, module, folder = _KUBERNETES
    name = f"apis__{group}__{version}_openapi.json" if group else f"api__{version}_openapi.json"
    path = golang.module(module_set, module) / folder / name
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
