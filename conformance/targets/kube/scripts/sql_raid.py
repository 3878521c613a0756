"""Runs the statements of the order on stdin with the PostgreSQL login that the pod's files hold.

Speaks the protocol itself, so that any image with Python will do. Every attempt is rolled back.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

SECONDS = 10
FOLDER = Path("/vault/secrets")


class RefusedError(Exception):
    """What the server said instead."""


def logins(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """User and password of every file that holds a login: JSON with both, or a pgpass line."""
    found = []
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue
        if file.name.startswith("pgpass"):
            found.append((text.split(":")[3], text.split(":", 4)[4]))
        elif file.name.startswith("store"):
            told = json.loads(text)
            found.append((told["username"], told["password"]))
    return found


class Session:
    """One connection."""

    def __init__(self, host: str, port: int, user: str, password: str, **options: str) -> None:
        self._socket = socket.create_connection((host, port), SECONDS)
        self._file = self._socket.makefile("rb")
        pairs = {"user": user, **options}
        body = b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
        self._socket.sendall(struct.pack("!ii", len(body) + 8, 196608) + body)
        self._authenticate(user, password)

    def _read(self) -> tuple[bytes, bytes]:
        kind = self._file.read(1)
        if not kind:
            raise RefusedError("the connection was closed")
        (size,) = struct.unpack("!i", self._file.read(4))
        body = self._file.read(size - 4)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0")}
            raise RefusedError(fields.get(b"M", "an error without a message"))
        return kind, body

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _authenticate(self, user: str, password: str) -> None:
        """SCRAM-SHA-256, as RFC 5802 has it."""
        kind, body = self._read()
        if struct.unpack("!i", body[:4])[0] != 10:
            raise RefusedError("the server does not ask for SCRAM")
        bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
        first = ("n,," + bare).encode()
        self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        server = self._read()[1][4:].decode()
        told = dict(part.split("=", 1) for part in server.split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", password.encode(), base64.b64decode(told["s"]), int(told["i"])
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = "c=biws,r=" + told["r"]
        signed = hmac.digest(
            hashlib.sha256(key).digest(), f"{bare},{server},{without}".encode(), "sha256"
        )
        proof = bytes(a ^ b for a, b in zip(key, signed, strict=True))
        self._send(b"p", f"{without},p={base64.b64encode(proof).decode()}".encode())
        while kind != b"Z":
            kind, body = self._read()

    def run(self, statement: str) -> list[list[str]]:
        """Its rows; raises `RefusedError`."""
        self._send(b"Q", statement.encode() + b"\0")
        rows: list[list[str]] = []
        error, kind = None, b""
        while kind != b"Z":
            try:
                kind, body = self._read()
            except RefusedError as refused:
                if "closed" in str(refused):
                    raise
                error = refused
                continue
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"H":  # COPY sends data to us
                continue
        if error:
            raise error
        return rows

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def _row(body: bytes) -> list[str]:
    (count,) = struct.unpack("!h", body[:2])
    values, at = [], 2
    for _ in range(count):
        (size,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        values.append("" if size < 0 else body[at : at + size].decode(errors="replace"))
        at += max(size, 0)
    return values


def _tenant(session: Session) -> dict[str, str]:
    """Names of a tenant that is there, by placeholder."""
    found = session.run(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE 'tenant\\_%'"
        " ORDER BY tablename LIKE 'chunk\\_%' DESC, 1, 2 LIMIT 1"
    )
    if not found:
        return {}
    schema, table = found[0]
    return {
        "schema": f'"{schema}"',
        "reader": f'"{schema}_reader"',
        "writer": f'"{schema}_writer"',
        "chunk": f'"{schema}"."{table}"',
    }


def _attempt(session: Session, statements: list[str], names: dict[str, str]) -> tuple[bool, str]:
    """Whether all succeeded, the last with a row if it selects; what was said otherwise."""
    rows: list[list[str]] = []
    try:
        session.run("BEGIN")
        for statement in statements:
            rows = session.run(statement.format(**names))
    except RefusedError as error:
        return False, str(error)
    finally:
        session.run("ROLLBACK")
    if statements[-1].startswith("SELECT") and (not rows or rows[0][0] in ("", "f")):
        return False, "nothing came back"
    return True, f"{len(rows)} rows" if rows else "done"


def _connects(order: dict[str, Any], login: tuple[str, str], **options: str) -> tuple[bool, str]:
    try:
        session = Session(order["host"], order["port"], *login, **options)
    except (OSError, RefusedError) as error:
        return False, str(error)
    try:
        session.run("IDENTIFY_SYSTEM" if "replication" in options else "SELECT 1")
        return True, "connected"
    except RefusedError as error:
        return False, str(error)
    finally:
        session.close()


def raid(order: dict[str, Any], folder: Path = FOLDER) -> list[dict[str, Any]]:
    """For each login what became of each attempt; `None` for one that could not be made."""
    found = []
    for login in logins(folder):
        told: dict[str, Any] = {
            "replicate everything": _connects(order, login, replication="true"),
            "connect to another database": _connects(order, login, database="postgres"),
        }
        found.append({"user": login[0], "told": told})
        try:
            session = Session(order["host"], order["port"], *login, database="rag")
        except (OSError, RefusedError) as error:
            told["connect"] = (False, str(error))
            continue
        told["connect"] = (True, "connected")
        session.run("SET lock_timeout = '2s'")
        names = _tenant(session)
        for name, statements in order["attempts"].items():
            needs = any("{" in statement for statement in statements)
            told[name] = _attempt(session, statements, names) if names or not needs else None
        session.close()
    return found


if __name__ == "__main__":
    print(json.dumps(raid(json.loads(sys.stdin.readline()))))
