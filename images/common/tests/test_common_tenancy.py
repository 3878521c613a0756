import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rag_common import tenancy
from rag_common.tenancy import (
    InvalidTenantError,
    InvalidTokenError,
    TenantClaims,
    TokenMinter,
    TokenVerifier,
    tenant_name,
)

CLAIMS = TenantClaims("acme", "alice", "req-1", {"flagged": False})


def write_pair(folder, name="key"):
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


def test_a_minted_token_verifies_to_its_claims(pair):
    private, public = pair
    assert TokenVerifier(public).verify(TokenMinter(private).mint(CLAIMS)) == CLAIMS


def test_a_token_of_another_key_is_refused(pair, tmp_path):
    other, _ = write_pair(tmp_path, "other")
    with pytest.raises(InvalidTokenError, match="[Ss]ignature"):
        TokenVerifier(pair[1]).verify(TokenMinter(other).mint(CLAIMS))


def test_rotation_needs_no_restart(pair, tmp_path):
    private, public = pair
    minter, verifier = TokenMinter(private), TokenVerifier(public)
    verifier.verify(minter.mint(CLAIMS))
    new_private, new_public = write_pair(tmp_path, "new")
    new_private.replace(private)
    new_public.replace(public)
    assert verifier.verify(minter.mint(CLAIMS)) == CLAIMS


def test_both_keys_verify_while_one_replaces_the_other(pair, tmp_path):
    new_private, new_public = write_pair(tmp_path, "new")
    other, _ = write_pair(tmp_path, "other")
    pair[1].write_bytes(pair[1].read_bytes() + new_public.read_bytes())
    verifier = TokenVerifier(pair[1])
    for private in (pair[0], new_private):
        assert verifier.verify(TokenMinter(private).mint(CLAIMS)) == CLAIMS
    with pytest.raises(InvalidTokenError, match="[Ss]ignature"):
        verifier.verify(TokenMinter(other).mint(CLAIMS))


def test_a_file_without_a_key_lets_nobody_in(pair):
    pair[1].write_text("")
    with pytest.raises(InvalidTokenError, match="no public key in PEM"):
        TokenVerifier(pair[1]).verify(TokenMinter(pair[0]).mint(CLAIMS))


@pytest.mark.parametrize("token", [None, "", "nonsense", "a.b.c"])
def test_no_token_or_nonsense_is_refused(pair, token):
    with pytest.raises(InvalidTokenError):
        TokenVerifier(pair[1]).verify(token)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "someone-else"}, "[Aa]udience"),
        ({"iss": "someone-else"}, "[Ii]ssuer"),
        ({"tenant": "Not A Tenant"}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"sub": None}, "sub"),
    ],
)
def test_each_claim_counts(pair, change, reason):
    payload = {
        "iss": tenancy.ISSUER,
        "aud": tenancy.AUDIENCE,
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "jti": "r",
        "sub": "u",
        "tenant": "acme",
        "verdict": {},
    } | change
    payload = {k: v for k, v in payload.items() if v is not None}
    token = jwt.encode(payload, pair[0].read_bytes(), algorithm="EdDSA")
    with pytest.raises(InvalidTokenError, match=reason):
        TokenVerifier(pair[1]).verify(token)


def test_an_unsigned_token_is_refused(pair):
    token = jwt.encode({"tenant": "acme"}, None, algorithm="none")
    with pytest.raises(InvalidTokenError):
        TokenVerifier(pair[1]).verify(token)


@pytest.mark.parametrize("name", ["a", "acme", "a-b-1", "a" * 40])
def test_tenant_names(name):
    assert tenant_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-", "-a", "a" * 41, "a b", 'a";drop'])
def test_what_may_not_name_a_tenant(name):
    with pytest.raises(InvalidTenantError, match="tenant"):
        tenant_name(name)


@pytest.mark.parametrize(("late_by", "passes"), [(2, True), (30, False)])
def test_clocks_may_differ_by_seconds_only(pair, monkeypatch, late_by, passes):
    private, public = pair
    minted = time.time() - tenancy.LIFETIME_SECONDS - late_by
    monkeypatch.setattr(tenancy.time, "time", lambda: minted)
    token = TokenMinter(private).mint(CLAIMS)
    if passes:
        assert TokenVerifier(public).verify(token) == CLAIMS
    else:
        with pytest.raises(InvalidTokenError, match="expired"):
            TokenVerifier(public).verify(token)
