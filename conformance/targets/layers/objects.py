"""Objects of an S3 bucket, written and removed with requests of one signed part (SigV4)."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from conformance.gate import ProbeError

_REGION, _ALGORITHM = "us-east-1", "AWS4-HMAC-SHA256"
_TIMEOUT_SECONDS = 20.0


class Keys(NamedTuple):
    """An access key and its secret."""

    access: str
    secret: str

    def __repr__(self) -> str:
        return f"Keys(access={self.access!r}, secret=…)"


def put(endpoint: str, keys: Keys, bucket: str, key: str, content: bytes) -> None:
    """Write an object; raises `ProbeError`."""
    _send("PUT", endpoint, keys, f"/{bucket}/{quote(key)}", content)


def delete(endpoint: str, keys: Keys, bucket: str, key: str) -> None:
    """Remove an object; raises `ProbeError`."""
    _send("DELETE", endpoint, keys, f"/{bucket}/{quote(key)}", b"")


def _send(method: str, endpoint: str, keys: Keys, path: str, content: bytes) -> None:
    headers = signed(method, urlsplit(endpoint).netloc, path, content, keys, datetime.now(UTC))
    try:
        answer = httpx.request(
            method,
            endpoint + path,
            content=content,
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise ProbeError(f"object store: {method} {path}: {error!r}") from error
    if not answer.is_success:
        raise ProbeError(
            f"object store: {method} {path}: {answer.status_code}: {answer.text[:200]}"
        )


def signed(
    method: str, host: str, path: str, content: bytes, keys: Keys, now: datetime
) -> dict[str, str]:
    """The headers of a request without a query, signed."""
    digest = hashlib.sha256(content).hexdigest()
    headers = {
        "host": host,
        "x-amz-content-sha256": digest,
        "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join((method, path, "", lines, names, digest))
    scope = f"{now:%Y%m%d}/{_REGION}/s3/aws4_request"
    told = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join((_ALGORITHM, headers["x-amz-date"], scope, told))
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{_ALGORITHM} Credential={keys.access}/{scope}"
    return headers | {
        "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"
    }
