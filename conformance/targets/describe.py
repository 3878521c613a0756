"""Reading `target.json` and checking that what it describes answers."""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema

from conformance.errors import TargetError
from conformance.targets.base import Description, RateLimit, Schedule

CONNECT_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "qdrant": 6333, "qdrants": 6333}
_PATHS = (
    "kubeconfig",
    "jwt_signing_key",
    "tenant_signing_key",
    "audit_dir",
    "flag_log",
    "access_log",
)
_URLS = ("gateway_url", "retrieval_url", "embedding_url", "guard_url", "vector_db_url")
_OPTIONAL = ("llm_url", "supervisor", "revision")
_TEXT = {"type": "string", "minLength": 1}
_FILES = {"type": "object", "additionalProperties": _TEXT}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_LIMIT = {
    "type": "object",
    "required": ["requests_per_minute", "burst"],
    "properties": {"requests_per_minute": _POSITIVE, "burst": {"type": "integer", "minimum": 1}},
}
_SCHEMA = {
    "type": "object",
    "required": ["environment"],
    "if": {"not": {"required": ["kubeconfig"]}},
    "then": {"required": [*_URLS]},  # without a cluster these are all there is
    "properties": {
        **dict.fromkeys(("environment", *_OPTIONAL, *_URLS, *_PATHS), _TEXT),
        "credentials": _FILES,
        "api_keys": _FILES,
        "schedule": {
            "type": "object",
            "required": ["tenant", "source", "every_seconds"],
            "properties": {"tenant": _TEXT, "source": _TEXT, "every_seconds": _POSITIVE},
        },
        "rate_limits": {"type": "object", "additionalProperties": _LIMIT},
    },
}


def read(file: Path) -> Description:
    """The description in `file`; relative paths are relative to it. Raises `TargetError`."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"{file}: {error.strerror}; start the platform first") from error
    except ValueError as error:
        raise TargetError(f"{file}: not JSON: {error}") from error
    wrong = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(_SCHEMA).iter_errors(data)
    )
    if wrong is not None:
        raise TargetError(f"{file}: {wrong.json_path}: {wrong.message}")
    return _description(data, file.parent.resolve())


def _description(data: Mapping[str, Any], base: Path) -> Description:
    known = {k: data[k] for k in ("environment", *_URLS, *_OPTIONAL) if k in data}
    known |= {k: base / data[k] for k in _PATHS if k in data}
    for name in ("credentials", "api_keys"):
        known[name] = {k: base / v for k, v in data.get(name, {}).items()}
    fields = ("requests_per_minute", "burst")
    limits = data.get("rate_limits", {}).items()
    known["rate_limits"] = {k: RateLimit(*(v[f] for f in fields)) for k, v in limits}
    if told := data.get("schedule"):
        known["schedule"] = Schedule(told["tenant"], told["source"], float(told["every_seconds"]))
    extra = {k: v for k, v in data.items() if k not in known}
    return Description(**known, extra=extra)


def addresses(url: str) -> tuple[str, int] | str:
    """Host and port, or the path of a Unix socket, behind a URL."""
    if url.startswith("unix:"):
        return "/" + url.removeprefix("unix:").lstrip("/")
    parts = urlsplit(url)
    if folder := parse_qs(parts.query).get("host"):
        return (
            f"{folder[0]}/.s.PGSQL.{parts.port or parse_qs(parts.query).get('port', ['5432'])[0]}"
        )
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)


def connects(url: str) -> str:
    """Why a connection to `url` cannot be made, or ''."""
    address = addresses(url)
    try:
        if isinstance(address, str):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(address)
        else:
            socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as error:
        return str(error.strerror or error)
    return ""


def unreachable(description: Description) -> Iterator[str]:
    """One line for every endpoint that does not accept a connection."""
    for name in (*_URLS, "llm_url", "supervisor"):
        url = getattr(description, name)
        if url and (reason := connects(url)):
            yield f"{name} {url}: {reason}"
