"""What must hold for every file that is committed."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# The hosts of package indexes, spelt so that this file does not name them either.
INDEX_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("registry", "npmjs", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("static", "crates", "io"),
        ("deb", "debian", "org"),
    ]
]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def committed() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    return [p for name in names if name and (p := ROOT / name.decode()).is_file()]


@pytest.mark.parametrize("host", INDEX_HOSTS)
def test_no_file_names_a_package_index(host):
    found = [p for p in committed() if host.encode() in p.read_bytes()]
    assert found == []


def test_there_is_no_lock_that_records_addresses():
    names = {p.name for p in committed()}
    assert names.isdisjoint({"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"})


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_every_requirement_is_exact_and_hashed(lock):
    text = lock.read_text()
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", "\n" + text)
    requirements = [b for b in blocks if re.match(r"[a-zA-Z0-9]", b)]
    assert requirements
    for block in requirements:
        assert "==" in block.splitlines()[0], block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_images_agree_with_the_common_lock():
    def pins(path: Path) -> set[tuple[str, str]]:
        found = re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", path.read_text(), re.M)
        return set(found)

    everything = pins(ROOT / "requirements" / "dev.txt")
    for image in ("audit", "embedding", "guard", "ingestion", "llm", "retrieval", "conformance"):
        assert pins(ROOT / "requirements" / f"{image}.txt") <= everything


def test_gpu_engines_are_never_in_the_default_install():
    text = (ROOT / "requirements" / "dev.txt").read_text().lower()
    for name in ("torch", "vllm", "flagembedding"):
        assert not re.search(rf"^{name}==", text, re.M)


def test_the_workspace_has_every_member():
    members = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    assert set(members["members"]) == {"images/*", "cli", "conformance"}
    for project in [*ROOT.glob("images/*/pyproject.toml"), ROOT / "cli" / "pyproject.toml"]:
        data = tomllib.loads(project.read_text())["project"]
        assert data["requires-python"] == ">=3.11"


def test_shell_scripts_stop_at_the_first_error():
    for path in committed():
        head = path.read_bytes()[:40]
        if head.startswith(b"#!") and b"bash" in head:
            assert "set -euo pipefail" in path.read_text(), path


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_have_least_privilege(workflow):
    data = yaml.safe_load(workflow.read_text())
    assert data["permissions"] == {"contents": "read"}


def test_no_committed_file_looks_like_a_key():
    for path in committed():
        if path.suffix in {".pem", ".key", ".p12"}:
            pytest.fail(f"{path} looks like a key")
        if path.suffix == ".py" and "tests" in path.parts:
            continue
        assert b"-----BEGIN PRIVATE" + b" KEY-----" not in path.read_bytes(), path


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda p: p.name)
def test_actions_are_pinned_by_sha_with_their_version_beside(workflow):
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
