"""Rules for `clusters/<environment>/vars.yaml`: each value has the form that `vars.schema.json` gives."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema

from conformance.static.environment import ROOT, Environment
from conformance.static.finding import Finding, identity

SCHEMA = ROOT / "clusters" / "vars.schema.json"
_NAME = ("", "ConfigMap", "flux-system", "cluster-vars")


@cache
def schema() -> dict[str, Any]:
    """The schema of the vars."""
    parsed: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return parsed


def alternatives() -> dict[str, list[str]]:
    """The vars that are a choice between folders, and the folders."""
    return {
        name: part["enum"] for name, part in schema()["properties"].items() if part.get("folder")
    }


def cluster_vars(environment: Environment) -> Iterator[Finding]:
    """A variable that is missing, unknown, or not of its form; or that names another environment."""
    for item in environment.of("ConfigMap"):
        if identity(item) == _NAME:
            data = item.get("data") or {}
            yield from (Finding("cluster-vars", *said) for said in wrong(data))
            if data.get("environment") != environment.name:
                message = f"{data.get('environment')!r}, allowed: {environment.name}, the folder"
                yield Finding("cluster-vars", "environment", message)


def wrong(data: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each variable with a mistake, and what is allowed instead."""
    properties = schema()["properties"]
    for error in jsonschema.Draft202012Validator(schema()).iter_errors(data):
        if error.validator == "additionalProperties":
            for name in sorted(set(data) - set(properties)):
                yield name, f"is no variable of {SCHEMA.name}"
        elif error.validator == "required":
            name = next(name for name in error.validator_value if f"'{name}'" in error.message)
            yield name, f"is missing, allowed: {properties[name]['form']}"
        elif error.path:
            name = str(error.path[0])
            yield name, f"{error.instance!r}, allowed: {properties[name]['form']}"


RULES = (cluster_vars,)
