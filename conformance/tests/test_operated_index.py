"""How a node that ECK runs gets its users: the operator's own, then the vault's, as one file."""

import json
import secrets
import subprocess
import time

import httpx
import pytest

from conformance.servers.elasticsearch import Elasticsearch, hashed
from conformance.static.environment import ROOT

SCRIPT = ROOT / "platform/audit/cloud/elasticsearch/cluster/start.sh"
PATHS = {
    "/usr/share/elasticsearch/config": "config",
    "/mnt/elastic-internal/xpack-file-realm": "operator",
    "/vault/secrets": "vault",
    "/etc/rag": "ours",
}


@pytest.fixture
def node(tmp_path):
    """The folders of a node, as ECK's init container leaves them: links to the operator's Secret."""
    for name in PATHS.values():
        (tmp_path / name).mkdir()
    own = {
        "users": "elastic-internal:hash\n",
        "users_roles": "superuser:elastic-internal",
        "roles.yml": "probe:\n  cluster: [monitor]\n",
    }
    for name, text in own.items():
        (tmp_path / "operator" / name).write_text(text)
        (tmp_path / "config" / name).symlink_to(tmp_path / "operator" / name)
    (tmp_path / "vault" / "users").write_text("indexer:hash\n")
    (tmp_path / "vault" / "users_roles").write_text("audit_writer:indexer\n")
    (tmp_path / "ours" / "roles.yml").write_text("audit_writer:\n  cluster: [monitor]\n")
    return tmp_path


def follow(node):
    """What the script does before the server starts, in the node's folders."""
    text = SCRIPT.read_text()
    for path, name in PATHS.items():
        assert path in text
        text = text.replace(path, str(node / name))
    before, found, _ = text.partition("(while sleep")
    assert found
    subprocess.run(["sh", "-c", before], check=True)


def test_both_are_in_one_file_and_the_operators_stays_as_it_is(node):
    follow(node)
    lines = (node / "config/users").read_text().split()
    assert lines == ["elastic-internal:hash", "indexer:hash"]
    for name in (
        "users",
        "users_roles",
        "roles.yml",
    ):  # the server takes an empty line for a broken one
        assert all((node / "config" / name).read_text().splitlines())
    roles = (node / "config/users_roles").read_text().split()
    assert roles == ["superuser:elastic-internal", "audit_writer:indexer"]
    assert (node / "operator/users").read_text() == "elastic-internal:hash\n"
    assert not (node / "config/users").is_symlink()


def test_a_file_is_replaced_when_the_vault_has_another_one_and_only_then(node):
    follow(node)
    file = node / "config/users"
    before = file.stat().st_ino
    follow(node)
    assert file.stat().st_ino == before
    (node / "vault/users").write_text("indexer:rotated\n")
    follow(node)
    assert "indexer:rotated" in file.read_text() and file.stat().st_ino != before
    assert not list((node / "config").glob("*.new"))


@pytest.mark.servers
@pytest.mark.timeout(600)
def test_a_real_node_knows_the_operators_users_and_the_vaults(tmp_path):
    """Started with the operator's files alone; the others come while it runs."""
    server = Elasticsearch(tmp_path / "server", {"reviewer": "audit_review"})
    config = tmp_path / "server/config"
    node = tmp_path / "node"
    for name in PATHS.values():
        (node / name).mkdir(parents=True)
    for name in ("users", "users_roles"):
        (config / name).rename(node / "vault" / name)
    (config / "roles.yml").rename(node / "ours/roles.yml")
    salt = secrets.token_bytes(32)
    own = {
        "users": f"elastic-internal:{hashed('of-the-operator', salt)}\n",
        "users_roles": "superuser:elastic-internal\n",
        "roles.yml": "elastic_internal_probe:\n  cluster: [monitor]\n",
    }
    for name, text in own.items():
        (node / "operator" / name).write_text(text)
        (config / name).symlink_to(node / "operator" / name)
    (node / "config").rmdir()
    (node / "config").symlink_to(config)

    def known(name, password):
        answer = httpx.get(
            f"{server.url}/_security/_authenticate", auth=(name, password), trust_env=False
        )
        return answer.status_code == 200 and answer.json()["roles"]

    reviewer = json.loads(server.login("reviewer").read_text())["password"]
    server.start()
    try:
        assert known("elastic-internal", "of-the-operator") == ["superuser"]
        assert not known("reviewer", reviewer)
        follow(node)
        deadline = time.monotonic() + 60
        while not known("reviewer", reviewer) and time.monotonic() < deadline:
            time.sleep(1)
        assert known("reviewer", reviewer) == ["audit_review"]
        assert known("elastic-internal", "of-the-operator") == ["superuser"]
        # And the role is one that the node knows, not a name.
        asked = httpx.get(
            f"{server.url}/audit-*/_search", auth=("reviewer", reviewer), trust_env=False
        )
        assert asked.status_code == 200, asked.text
    finally:
        server.kill()
