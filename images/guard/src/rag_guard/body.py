"""The strings of a request's body; whatever two parsers could read differently is refused."""

import json
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import Headers

from rag_common.problem import Problem

MAX_BYTES = 65536


def strings(headers: Headers, body: bytes) -> list[str]:
    """Every string in the JSON object `body`, keys included; raises `Problem` 400, 413 or 415."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Unsupported encoding", "send the body uncompressed")
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Unsupported media type", "send application/json")
    if len(body) > MAX_BYTES:
        raise Problem(413, "Content too large", f"the body has more than {MAX_BYTES} bytes")
    return list(_strings(_object(body)))


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(
            body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Not valid JSON", f"the body cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Problem(400, "Not a JSON object", "send an object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
