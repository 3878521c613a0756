"""Where this machine gets packages from, as builds are told: a secret of a build, in no image."""

import os
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from conformance.cluster.node.commands import run

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # of the image; the machine's is mounted over it
_PIP = ("index-url", "extra-index-url", "no-index", "trusted-host", "default-timeout", "retries")
_UV = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST"),
    *("UV_HTTP_TIMEOUT", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_UV_FILES = ("~/.config/uv/uv.toml", "/etc/uv/uv.toml")
_BUNDLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def settings() -> str:
    """Shell assignments of the machine's settings of pip, uv and proxies, by file or environment."""
    found = {**_pip(), **_uv_file(), **_environment()}
    if bundle():
        found |= {"PIP_CERT": BUNDLE, "SSL_CERT_FILE": BUNDLE}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(found.items()))


def bundle() -> Path | None:
    """The machine's own certificate authorities, where it names a file of them."""
    named = (Path(value) for name in _BUNDLES if (value := os.environ.get(name)))
    return next((path for path in named if path.is_file()), None)


def _pip() -> dict[str, str]:
    """pip's settings, whichever of its files they stand in."""
    lines = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    pairs = (line.partition("=")[::2] for line in lines)
    found = {key.rpartition(".")[2]: value.strip("'\"") for key, value in pairs}
    return {f"PIP_{key.upper().replace('-', '_')}": found[key] for key in _PIP if key in found}


def _uv_file() -> dict[str, str]:
    """The indexes of uv's configuration file, the user's before the machine's."""
    path = next((p for name in _UV_FILES if (p := Path(name).expanduser()).is_file()), None)
    data = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    return {**_plain(data), **_indexes(data.get("index", []))}


def _plain(data: Mapping[str, object]) -> dict[str, str]:
    if extra := data.get("extra-index-url"):
        data = {**data, "extra-index-url": " ".join(extra) if isinstance(extra, list) else extra}
    keys = {"index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL"}
    return {name: str(data[key]) for key, name in keys.items() if key in data}


def _indexes(entries: list[Mapping[str, object]]) -> dict[str, str]:
    default = [str(entry["url"]) for entry in entries if entry.get("default")]
    others = [str(entry["url"]) for entry in entries if not entry.get("default")]
    found = {"UV_DEFAULT_INDEX": " ".join(default), "UV_INDEX": " ".join(others)}
    return {name: value for name, value in found.items() if value}


def _environment() -> dict[str, str]:
    names = (*_UV, *_PROXIES, *map(str.lower, _PROXIES))
    credentials = [name for name in os.environ if name.startswith("UV_INDEX_")]
    return {name: os.environ[name] for name in {*names, *credentials} if os.environ.get(name)}
