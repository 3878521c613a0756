"""HTTP, S3 and Valkey with the logins that the pod's files hold: statuses of what the order lists."""

import base64
import datetime
import hashlib
import hmac
import json
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SECONDS = 10
FOLDER = Path("/vault/secrets")
_NOTHING = hashlib.sha256(b"").hexdigest()


def login(name: str, folder: Path = FOLDER) -> tuple[str, str] | None:
    """User and password of a file, or None without one."""
    file = folder / name
    if not file.exists():
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    user = told.get("username") or told.get("access_key")
    return user, told.get("password") or told.get("secret_key")


def _send(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
    """The status, 0 without an answer, and how the answer begins."""
    asked = urllib.request.Request(url, data=body, headers=headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read(200).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(200).decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def basic(order: dict[str, Any], who: tuple[str, str]) -> dict[str, Any]:
    """Requests with a password."""
    code = base64.b64encode(":".join(who).encode()).decode()
    return _with(order, "Authorization", f"Basic {code}")


def key(order: dict[str, Any], who: tuple[str, str]) -> dict[str, Any]:
    """Requests with a key, or with a token in its place."""
    return _with(order, "api-key", who[1])


def _with(order: dict[str, Any], header: str, value: str) -> dict[str, Any]:
    headers = {header: value, "Content-Type": "application/json"}
    return {
        name: _send(method, order["url"] + path, body.encode() if body else None, headers)
        for name, (method, path, body) in order["attempts"].items()
    }


def signed(method: str, url: str, who: tuple[str, str], now: str) -> dict[str, str]:
    """The headers of a request without a body, signed as AWS's version 4 has it."""
    at = urlsplit(url)
    day, scope = now[:8], f"{now[:8]}/us-east-1/s3/aws4_request"
    head = f"host:{at.netloc}\nx-amz-content-sha256:{_NOTHING}\nx-amz-date:{now}\n"
    names = "host;x-amz-content-sha256;x-amz-date"
    asked = "\n".join([method, at.path or "/", at.query, head, names, _NOTHING])
    plain = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(asked.encode()).hexdigest()])
    key = f"AWS4{who[1]}".encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, plain.encode(), "sha256").hex()
    return {
        "x-amz-date": now,
        "x-amz-content-sha256": _NOTHING,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={who[0]}/{scope},"
        f"SignedHeaders={names},Signature={signature}",
    }


def s3(order: dict[str, Any], who: tuple[str, str]) -> dict[str, Any]:
    """Requests without a body, signed."""
    found = {}
    for name, (method, path, _) in order["attempts"].items():
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")  # noqa: UP017
        url = order["url"] + path
        body = b"" if method == "PUT" else None
        found[name] = _send(method, url, body, signed(method, url, who, now))
    return found


def valkey(order: dict[str, Any], who: tuple[str, str] | None) -> dict[str, Any]:
    """Commands, each told as 200 when it was carried out and as 403 with the server's words if not."""
    found = {}
    for name, (host, port, command) in order["attempts"].items():
        try:
            with socket.create_connection((host, port), SECONDS) as session:
                reader = session.makefile("rb")
                for words in ([["AUTH", *who]] if who else []) + [command]:
                    session.sendall(_words(words))
                    told = reader.readline().decode(errors="replace").strip()
        except OSError as error:
            found[name] = (0, str(error))
            continue
        found[name] = (403 if told.startswith("-") or not told else 200, told[:100])
    return found


def _words(words: list[str]) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


def raid(order: dict[str, Any], folder: Path = FOLDER) -> dict[str, Any]:
    """By service what became of each attempt; None for one that the pod has no login for."""
    found: dict[str, Any] = {}
    for name, one in order.items():
        who = login(one["login"], folder) if one["login"] else None
        if one["login"] and who is None:
            found[name] = None
        elif one["kind"] == "valkey":
            found[name] = valkey(one, who)
        elif who is not None:
            found[name] = {"s3": s3, "key": key, "basic": basic}[one["kind"]](one, who)
    return found


if __name__ == "__main__":
    print(json.dumps(raid(json.loads(sys.stdin.readline()))))
