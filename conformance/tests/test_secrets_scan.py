"""gitleaks is really run: a secret in an old commit is found, and what could not be searched is an error."""

import hashlib
import secrets as randomness
import subprocess

import pytest

from conformance.cluster.node import programs
from conformance.errors import SuiteError
from conformance.static import secrets

needs_gitleaks = pytest.mark.skipif(
    not programs.is_cached("gitleaks"), reason="`make secrets-scan` builds gitleaks"
)


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("nothing\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@needs_gitleaks
def test_a_secret_that_only_the_history_has_is_found_and_not_shown(repository):
    assert secrets.findings(repository) == []
    value = "ghp_" + randomness.token_hex(18)
    (repository / "a.txt").write_text(f"token = {value}\n")
    git(repository, "commit", "-q", "-a", "-m", "oops")
    (repository / "a.txt").write_text("nothing\n")
    git(repository, "commit", "-q", "-a", "-m", "away")
    (found,) = secrets.findings(repository)
    assert (found["File"], found["RuleID"]) == ("a.txt", "github-pat")
    assert value not in str(found)


@needs_gitleaks
def test_a_secret_of_another_branch_is_found(repository):
    git(repository, "switch", "-q", "-c", "other")
    (repository / "a.txt").write_text(f"token = ghp_{randomness.token_hex(18)}\n")
    git(repository, "commit", "-q", "-a", "-m", "oops")
    git(repository, "switch", "-q", "main")
    assert len(secrets.findings(repository)) == 1


@needs_gitleaks
def test_a_configuration_that_is_none_is_an_error(repository, tmp_path):
    with pytest.raises(SuiteError, match="gitleaks"):
        secrets.findings(repository, tmp_path / "none.toml")


@needs_gitleaks
def test_what_is_allowed_is_allowed_there_only(repository):
    value = hashlib.sha256(b"a model").hexdigest()
    for name in ("images/assets/src/rag_assets/assets.yaml", "elsewhere/assets.yaml"):
        (repository / name).parent.mkdir(parents=True)
        (repository / name).write_text(f"tokenizer.json: {value}\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "digests")
    (found,) = secrets.findings(repository)
    assert found["File"] == "elsewhere/assets.yaml"


def test_a_shallow_clone_is_an_error(repository, tmp_path):
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    url = f"file://{repository}"
    subprocess.run(["git", "clone", "-q", "--depth", "1", url, tmp_path / "shallow"], check=True)
    with pytest.raises(SuiteError, match="no history"):
        secrets.findings(tmp_path / "shallow")


def test_a_folder_that_is_no_repository_is_an_error(tmp_path):
    with pytest.raises(SuiteError):
        secrets.findings(tmp_path)


@needs_gitleaks
def test_our_own_history_is_clean():
    assert secrets.findings(secrets.ROOT) == []
