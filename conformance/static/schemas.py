"""Each object against the schema of its kind; an unknown kind and an unknown field are refused."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema

from conformance.static import unserved
from conformance.static.closed import Schema, close
from conformance.static.environment import Environment
from conformance.static.finding import Finding, Object, name_of
from conformance.static.sources import definitions, openapi

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_SHOWN = 160
NAMES = ("unknown-kind", "unknown-field", "invalid-value")


def schema_rule(environment: Environment) -> Iterator[Finding]:
    """Objects of unknown kinds, with unknown fields, or with values that their schema refuses."""
    for item in environment.objects:
        yield from check(item)


def check(item: Object) -> Iterator[Finding]:
    """What the schema of its kind says about the object."""
    group, _, version = str(item.get("apiVersion", "")).rpartition("/")
    validator = _validator(group, version, str(item.get("kind", "")))
    if validator is None and group in unserved.groups():
        return
    if validator is None:
        known = f"{item.get('apiVersion')} {item.get('kind')}"
        yield Finding("unknown-kind", name_of(item), f"{known} is no API of this platform")
        return
    for error in validator.iter_errors(item):
        unknown = error.validator == "additionalProperties"
        rule = "unknown-field" if unknown else "invalid-value"
        yield Finding(rule, name_of(item), f"{error.json_path}: {error.message[:_SHOWN]}")


@cache
def _validator(group: str, version: str, kind: str) -> jsonschema.Draft202012Validator | None:
    schema = _custom().get((group, version, kind)) or _native(group, version, kind)
    return jsonschema.Draft202012Validator(schema) if schema else None


@cache
def _custom() -> dict[tuple[str, str, str], Schema]:
    found = {}
    for item in definitions():
        spec = item["spec"]
        for version in spec["versions"]:
            key = (spec["group"], version["name"], spec["names"]["kind"])
            found[key] = _top(version["schema"]["openAPIV3Schema"])
    return found


def _top(schema: Schema) -> Schema:
    """A custom resource's schema leaves out what every object has."""
    common = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    properties = {**schema.get("properties", {}), **common}
    closed = close({**schema, "type": "object", "properties": properties})
    closed["properties"]["metadata"] = {"$ref": f"#/$defs/{_META}"}
    return {**closed, "$defs": _parts("", "v1")}


def _native(group: str, version: str, kind: str) -> Schema | None:
    wanted = {"group": group, "kind": kind, "version": version}
    for name, schema in openapi(group, version).get("components", {}).get("schemas", {}).items():
        if wanted in schema.get("x-kubernetes-group-version-kind", []):
            return {"$ref": f"#/$defs/{name}", "$defs": _parts(group, version)}
    return None


@cache
def _parts(group: str, version: str) -> dict[str, Schema]:
    schemas = openapi(group, version)["components"]["schemas"]
    parts = {name: _local(close(schema)) for name, schema in schemas.items()}
    parts[_QUANTITY] = {"type": ["string", "number"]}
    return parts


def _local(part: Any) -> Any:
    if isinstance(part, dict):
        moved = {key: _local(value) for key, value in part.items()}
        if isinstance(moved.get("$ref"), str):
            moved["$ref"] = moved["$ref"].replace("#/components/schemas/", "#/$defs/")
        return moved
    return [_local(value) for value in part] if isinstance(part, list) else part
