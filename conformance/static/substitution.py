"""Flux's `${name}` in manifests, strictly: a name that the cluster's variables lack is an error."""

import re
from collections.abc import Mapping

import yaml

from conformance.static.finding import Object

_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OFF = "kustomize.toolkit.fluxcd.io/substitute"


def undefined(item: Object, variables: Mapping[str, str]) -> set[str]:
    """The names that the object uses and `variables` lacks."""
    return set() if _is_off(item) else set(_VARIABLE.findall(_text(item))) - set(variables)


def substitute(item: Object, variables: Mapping[str, str]) -> Object:
    """The object as it reaches the API server; names that `variables` lacks stay."""
    text = "" if _is_off(item) else _text(item)
    if not _VARIABLE.search(text):
        return item
    text = _VARIABLE.sub(lambda m: variables.get(m[1], m[0]), text)
    replaced: Object = yaml.load(text, yaml.CSafeLoader)
    return replaced


def _text(item: Object) -> str:
    return yaml.dump(item, Dumper=yaml.CSafeDumper, width=10**6, sort_keys=False)


def _is_off(item: Object) -> bool:
    meta = item.get("metadata") or {}
    marks = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    return marks.get(_OFF) == "disabled"
