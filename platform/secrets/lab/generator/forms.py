"""The forms that secrets take, each from 32 random bytes: standard library and the `openssl` program."""

import base64
import hashlib
import json
import subprocess

_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # PKCS 8 around a seed, RFC 8410
_ROUNDS = 10000


def access_key(value: bytes) -> str:
    """A name for S3, as long as AWS's own."""
    return "LAB" + hashlib.sha256(value).hexdigest()[:17].upper()


def private_pem(seed: bytes) -> str:
    """The Ed25519 private key of a seed, PKCS 8 in PEM."""
    return _pem("PRIVATE KEY", _ED25519 + seed)


def public_pem(seed: bytes) -> str:
    """The public key that belongs to it, in PEM."""
    return _pem("PUBLIC KEY", _public_der(seed))


def jwks(seed: bytes) -> str:
    """The public key as a JSON Web Key Set, its thumbprint (RFC 7638) as its id."""
    key = {"crv": "Ed25519", "kty": "OKP", "x": _urlsafe(_public_der(seed)[-32:])}
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"))
    kid = _urlsafe(hashlib.sha256(canonical.encode()).digest())
    return json.dumps({"keys": [{**key, "alg": "EdDSA", "kid": kid, "use": "sig"}]})


def file_realm(password: str, salt: bytes) -> str:
    """A password's hash in a file realm of Elasticsearch: PBKDF2 with HMAC-SHA512."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS, 32)
    return f"{{PBKDF2}}{_ROUNDS}${_base64(salt)}${_base64(digest)}"


def _public_der(seed: bytes) -> bytes:
    done = subprocess.run(
        ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],  # noqa: S607
        input=_ED25519 + seed,
        capture_output=True,
        check=True,
    )
    return done.stdout


def _pem(kind: str, der: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{_base64(der)}\n-----END {kind}-----\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
