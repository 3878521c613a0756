"""OpenAPI schemas as strict JSON Schema: a field that the schema does not know is refused."""

from typing import Any

_SUBSCHEMAS = ("properties", "patternProperties")
_DROPPED = ("format", "default", "description", "example", "externalDocs", "title")
Schema = dict[str, Any]


def close(schema: Schema) -> Schema:
    """The schema with every object in it closed, and Kubernetes' own keywords spelt in JSON Schema."""
    out = {key: value for key, value in schema.items() if key not in _DROPPED}
    for key in _SUBSCHEMAS:
        if key in out:
            out[key] = {name: close(part) for name, part in out[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = close(out[key])
    if _is_closed(out):
        out["additionalProperties"] = False
    if out.get("x-kubernetes-embedded-resource"):
        out.pop("additionalProperties", None)
    return _special(out)


def _is_closed(schema: Schema) -> bool:
    open_by_choice = schema.get("x-kubernetes-preserve-unknown-fields")
    return "properties" in schema and "additionalProperties" not in schema and not open_by_choice


def _special(schema: Schema) -> Schema:
    if schema.get("x-kubernetes-int-or-string"):
        schema = {**schema, "type": ["integer", "string"]}
        schema.pop("anyOf", None)
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema
