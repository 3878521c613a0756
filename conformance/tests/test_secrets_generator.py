"""The lab's secrets: made once, in matching pairs, and put where their accounts read them."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.error

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from conformance.static.environment import ROOT
from conformance.tests import _openbao

GENERATOR = ROOT / "platform/secrets/lab/generator"
LISTS = sorted((ROOT / "platform/secrets").rglob("*-accounts.txt"))
ACCESS = ROOT / "platform/secrets/base/access"


@pytest.fixture(scope="module")
def generator():
    """The Job's modules, imported as the Job imports them."""
    sys.path.insert(0, str(GENERATOR))
    try:
        import generate

        yield generate
    finally:
        sys.path.remove(str(GENERATOR))


def _value(name):
    return hashlib.sha256(name.encode()).digest()


@pytest.fixture(scope="module")
def made(generator):
    return generator.contents.contents(_value)


def test_a_token_of_the_private_key_is_verified_by_the_public_one(made):
    private = load_pem_private_key(made["rag-gateway/guard/signing-key"]["key"].encode(), None)
    public = made["rag-retrieval/retrieval/tenant-public-key"]["key"]
    load_pem_public_key(public.encode()).verify(private.sign(b"tenant"), b"tenant")
    assert made["vault/suite/tenant-signing-key"] == made["rag-gateway/guard/signing-key"]


def test_a_jwt_of_the_suite_is_verified_by_the_key_set(made):
    pem = made["vault/suite/jwt-signing-key"]["key"]
    (key,) = jwt.PyJWKSet.from_json(made["rag-gateway/guard/jwt-issuer"]["jwks"]).keys
    token = jwt.encode({"tenant": "demo"}, pem, algorithm="EdDSA", headers={"kid": key.key_id})
    assert jwt.decode(token, key, algorithms=["EdDSA"]) == {"tenant": "demo"}


def test_every_api_key_is_in_the_table_by_its_hash_alone(made):
    keys = made["vault/suite/api-keys"]
    table = json.loads(made["rag-gateway/guard/api-keys"]["keys"])
    assert {hashlib.sha256(key.encode()).hexdigest() for key in keys.values()} == set(table)
    own = table[hashlib.sha256(keys["conformance-limited.2"].encode()).hexdigest()]
    assert own == {"tenant": "conformance-limited", "user": "conformance-limited-key-2"}
    assert not any(key in json.dumps(table) for key in keys.values())


def test_the_cache_and_the_index_hold_hashes_that_fit_the_passwords(made):
    password = made["rag-retrieval/retrieval/cache"]["password"]
    acl = made["rag-retrieval/cache/users"]["acl"]
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in acl
    assert "user default off" in acl
    users = dict(line.split(":") for line in made["rag-audit/elasticsearch/users"]["users"].split())
    for user, path in (("indexer", "rag-audit/indexer"), ("reader", "vault/suite")):
        rounds, salt, digest = users[user].removeprefix("{PBKDF2}").split("$")
        login = made[f"{path}/elasticsearch"]
        again = hashlib.pbkdf2_hmac(
            "sha512", login["password"].encode(), base64.b64decode(salt), int(rounds)
        )
        assert again[:32] == base64.b64decode(digest)


def test_the_object_store_knows_every_identity_by_its_own_keys(made):
    config = json.loads(made["rag-ingestion/object-store/s3"]["config"])
    known = {i["name"]: i["credentials"][0] for i in config["identities"]}
    for path in ("rag-ingestion/ingestion", "rag-vectordb/backup", "vault/suite"):
        keys = made[f"{path}/object-store"]
        name = path.split("/")[1]
        assert known[name] == {"accessKey": keys["access_key"], "secretKey": keys["secret_key"]}
    assert len({c["accessKey"] for c in known.values()}) == len(known)


def test_every_secret_belongs_to_an_account_and_is_documented(made):
    page = (ROOT / "docs/secrets.md").read_text()
    assert [path for path in made if f"`{path}`" not in page] == []
    fields = {
        path: set(content) for path, content in made.items() if path != "vault/suite/api-keys"
    }
    for path, names in fields.items():
        row = next(line for line in page.splitlines() if f"`{path}`" in line)
        assert [name for name in names if f"`{name}`" not in row] == []


@pytest.fixture(scope="module")
def bao(tmp_path_factory):
    with _openbao.running(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.mark.network
def test_it_makes_what_is_missing_once_and_reads_nobodys(bao, generator, made):
    vault = generator.Vault(bao.address, None, bao.token("secret-generator"))
    generated, there = generator.generate(vault)
    assert (set(generated), there) == (set(made), [])
    before = {path: bao.secret(path) for path in made}
    assert generator.generate(vault) == ([], generated)
    assert {path: bao.secret(path) for path in made} == before
    with pytest.raises(urllib.error.HTTPError, match="403"):
        vault.read("rag-gateway/guard/signing-key")
    with pytest.raises(urllib.error.HTTPError, match="40[03]"):
        vault.write("rag-gateway/guard/signing-key", {"key": "another"}, 0)


@pytest.mark.network
def test_a_run_that_was_cut_short_goes_on_with_the_same_values(bao, generator):
    vault = generator.Vault(bao.address, None, bao.token("secret-generator"))
    generator.generate(vault)
    pair = ("rag-gateway/guard/signing-key", "rag-retrieval/retrieval/tenant-public-key")
    before = [bao.secret(path) for path in pair]
    bao.run("kv", "metadata", "delete", f"secret/{pair[1]}")
    assert generator.generate(vault)[0] == [pair[1]]
    assert [bao.secret(path) for path in pair] == before


@pytest.fixture
def apply(bao, tmp_path):
    """Runs apply.sh; its login, which takes a cluster, answers with a token of the same policy."""
    shim = tmp_path / "vault"
    shim.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *auth/kubernetes/login*) echo {bao.token("vault-access")} ;;'
        f' *) exec {bao.program} "$@" ;; esac\n'
    )
    shim.chmod(0o755)

    def run(**lists):
        folder = tmp_path / "access"
        folder.mkdir(exist_ok=True)
        for name, text in lists.items():
            (folder / f"{name}-accounts.txt").write_text(text)
        path = f"{tmp_path}:{os.environ['PATH']}"
        more = {"PATH": path, "VAULT_ADDR": bao.address, "ACCESS": str(folder), "HOME": "/tmp"}
        subprocess.run(
            ["sh", ACCESS / "apply.sh"],
            env={**os.environ, **more, "TOKEN_AUDIENCE": "here"},
            check=True,
            capture_output=True,
        )

    return run


@pytest.mark.network
def test_an_account_reads_its_own_folder_and_its_grants(bao, apply):
    apply(
        service="rag-retrieval retrieval read:secret/data/shared/a\nrag-llm llm\n",
        lab="vault suite read:secret/data/shared/*\n",
    )
    for path in ("rag-retrieval/retrieval/own", "rag-llm/llm/own", "vault/suite/own", "shared/a"):
        bao.run("kv", "put", "-mount=secret", path, "value=x")
    readable = {
        "rag-retrieval.retrieval": {"rag-retrieval/retrieval/own", "shared/a"},
        "rag-llm.llm": {"rag-llm/llm/own"},
        "vault.suite": {"vault/suite/own", "shared/a"},
    }
    for role, paths in readable.items():
        bound = bao.read(f"auth/kubernetes/role/{role}")
        where = bound["bound_service_account_namespaces"] + bound["bound_service_account_names"]
        assert where == role.split(".")
        token = bao.token(role)
        for path in set().union(*readable.values()):
            if path in paths:
                assert bao.secret(path, token=token) == {"value": "x"}
            else:
                with pytest.raises(AssertionError, match="permission denied"):
                    bao.secret(path, token=token)


@pytest.mark.network
def test_every_account_of_the_lists_is_one_that_the_role_may_make(bao, apply):
    lists = {f.name.removesuffix("-accounts.txt"): f.read_text() for f in LISTS}
    assert {"service", "lab"} <= lists.keys()
    apply(**lists)
    made = set(json.loads(bao.run("list", "-format=json", "auth/kubernetes/role")))
    named = [line.split()[:2] for text in lists.values() for line in text.splitlines()]
    assert {".".join(account) for account in named} <= made


@pytest.mark.network
def test_what_a_list_no_longer_names_is_taken_back(bao, apply):
    apply(service="rag-retrieval retrieval\nrag-llm llm\n")
    apply(service="rag-retrieval retrieval\n")
    assert json.loads(bao.run("list", "-format=json", "auth/kubernetes/role")) == [
        "rag-retrieval.retrieval"
    ]
    assert "rag-llm.llm" not in bao.run("policy", "list")
