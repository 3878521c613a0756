"""Checksums over everything a report consists of, and their signature."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from conformance.errors import SuiteError

CHECKSUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(folder: Path, files: Iterable[Path], key_file: Path | None) -> Path:
    """Write the checksums of `files` and all evidence (as `sha256sum -c` reads them); sign them."""
    evidence = (p for name in ("evidence", "proof") for p in (folder / name).rglob("*"))
    every = sorted({*files, *(p for p in evidence if p.is_file())})
    lines = [f"{_digest(p)}  {p.relative_to(folder)}\n" for p in every]
    sums = folder / CHECKSUMS
    sums.write_text("".join(lines), encoding="utf-8")
    (folder / SIGNATURE).unlink(missing_ok=True)
    if key_file is not None:
        signature = private_key(key_file).sign(sums.read_bytes())
        (folder / SIGNATURE).write_text(base64.b64encode(signature).decode() + "\n")
    return sums


def private_key(file: Path) -> Ed25519PrivateKey:
    """The signing key; raises `SuiteError` when it is not an Ed25519 key in PEM."""
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SuiteError(f"signing key {file}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SuiteError(f"signing key {file}: not an Ed25519 key")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """The key that signatures are held against; raises `SuiteError` when it is not Ed25519 in PEM."""
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SuiteError(f"public key {file}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SuiteError(f"public key {file}: not an Ed25519 key")
    return key


def verify(folder: Path, public_key_file: Path) -> list[str]:
    """What is wrong with a sealed report: its signature, else its files; empty when good."""
    key = public_key(public_key_file)
    try:
        sums = (folder / CHECKSUMS).read_bytes()
    except OSError as error:
        return [f"{CHECKSUMS}: {error.strerror}: the report is not sealed"]
    if problem := _signature_problem(folder, key, sums):
        return [problem]  # what is not signed says nothing about the files
    lines = (line.partition("  ") for line in sums.decode().splitlines())
    return [f"{n}: changed or missing" for d, _, n in lines if not _holds(folder / n, d)]


def _signature_problem(folder: Path, key: Ed25519PublicKey, sums: bytes) -> str:
    try:
        signature = (folder / SIGNATURE).read_bytes()
    except OSError:
        return f"{SIGNATURE}: missing: the report is not signed"
    try:
        key.verify(base64.b64decode(signature), sums)
    except (InvalidSignature, ValueError):
        return f"{SIGNATURE}: the signature does not fit"
    return ""


def _holds(file: Path, digest: str) -> bool:
    return file.is_file() and _digest(file) == digest


def sealed(folder: Path) -> set[str]:
    """The names that the checksums cover."""
    text = (folder / CHECKSUMS).read_text(encoding="utf-8")
    return {line.partition("  ")[2] for line in text.splitlines()}
