"""The workflows run what runs here: each step is a make target, and the scripts behind them say no."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from conformance.errors import SuiteError
from conformance.static import workflows

ROOT = Path(__file__).parents[1]
FILES = sorted(workflows.FOLDER.glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
LOGIN = "docker login ghcr.io "  # the registry takes no other credential than the job's own


def steps():
    for file in FILES:
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            yield from ((file.stem, step) for step in job["steps"])


def test_github_and_zizmor_find_nothing():
    assert workflows.problems(workflows.FOLDER) == []


CHECKOUT = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8"
TITLE = "run: echo ${{ github.event.pull_request.title }}"
BROKEN = {
    "an action that is not pinned": (CHECKOUT, "actions/checkout@v5", "unpinned-uses"),
    "a credential that stays": ("        with: {persist-credentials: false}\n", "", "artipacked"),
    "too much permission": ("{contents: read}", "write-all", "excessive-permissions"),
    "an injection": ("run: make test", TITLE, "template-injection"),
    "no valid workflow": ("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "runs_on"),
}


@pytest.mark.parametrize("old, new, said", BROKEN.values(), ids=BROKEN)
def test_a_bad_workflow_is_found(tmp_path, old, new, said):
    text = (workflows.FOLDER / "validate.yaml").read_text()
    assert old in text
    (tmp_path / "bad.yaml").write_text(text.replace(old, new))
    assert said in "\n".join(workflows.problems(tmp_path))


def test_nothing_to_judge_is_an_error(tmp_path):
    with pytest.raises(SuiteError):
        workflows.problems(tmp_path)
    (tmp_path / "one.yml").touch()
    with pytest.raises(SuiteError):
        workflows.problems(tmp_path)


def test_every_step_is_a_make_target_that_exists():
    for name, step in steps():
        run = step.get("run", "make help")
        if run.startswith(LOGIN):
            continue
        command, *words = run.split()
        assert command == "make", (name, run)
        assert {w for w in words if "=" not in w and not w.startswith('"')} <= TARGETS, (name, run)


def test_make_leaves_the_environment_that_a_job_names():
    told = {**os.environ, "ENVIRONMENT": "staging"}
    done = subprocess.run(
        ["make", "-n", "promote-check"], cwd=ROOT, env=told, capture_output=True, text=True
    )
    assert '--environment "staging"' in done.stdout


def test_what_the_issue_asks_for_is_there():
    assert {f.stem for f in FILES} >= {"validate", "images", "conformance", "go-live", "promote"}


@pytest.fixture
def checkout(tmp_path):
    """The scripts in a repository of their own, with programs that say how they were called."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "images").mkdir()
    shutil.copy(ROOT / "images/Dockerfile", tmp_path / "images")
    (tmp_path / ".gitignore").write_text("*\n")
    git(tmp_path, "init", "-q", "-b", "production")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path, "switch", "-q", "-c", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "second")
    for name in ("python", "ragctl"):
        program(tmp_path / ".venv/bin" / name, f'echo {name} "$@"')
    return tmp_path


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(checkout, script, *words, **environment):
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        [checkout / "tools" / script, *words],
        env={"PATH": path, "HOME": str(checkout), **environment},
        capture_output=True,
        text=True,
    )


def promote(checkout, **environment):
    asked = {"REVISION": git(checkout, "rev-parse", "main"), "BASE": "production"}
    return run(checkout, "promote.sh", **(asked | environment))


def test_promotion_fetches_the_report_of_the_revision(checkout):
    program(checkout / "bin/gh", 'echo "gh $*" >> calls; [ "$2" = list ] && echo 17; exit 0')
    done = promote(checkout, REPORT_PUBLIC_KEY="key")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"-m conformance.promotion \S+/report --revision [0-9a-f]{40} "
        r"--environment staging --public-key \S+/public-key --hours 72\n",
        done.stdout,
    )
    assert "run download 17 --name go-live-report" in (checkout / "calls").read_text()


def test_promotion_without_a_run_is_refused(checkout):
    program(checkout / "bin/gh", "exit 0")
    done = promote(checkout, REPORT_PUBLIC_KEY="key")
    assert (done.returncode, "refused: no go-live run" in done.stdout) == (1, True)


def test_promotion_of_what_lacks_production_is_refused(checkout):
    git(checkout, "switch", "-q", "production")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "hotfix")
    done = promote(checkout, REPORT="r", PUBLIC_KEY="k")
    assert (done.returncode, "does not contain production" in done.stdout) == (1, True)


def test_promotion_without_a_key_is_no_promotion(checkout):
    done = promote(checkout, REPORT="r")
    assert done.returncode != 0
    assert "REPORT_PUBLIC_KEY" in done.stderr


def test_go_live_judges_this_commit_and_keeps_the_key_from_the_gates(checkout):
    program(
        checkout / ".venv/bin/ragctl",
        'echo "$@"; env | grep -c SIGNING_KEY=; for l; do k=$l; done; cat "$k"; exit 1',
    )
    done = run(checkout, "go-live.sh", KUBECONFIG_FILE="k.yaml", REPORT_SIGNING_KEY="the key")
    said, inherited, key, summary = done.stdout.splitlines()
    assert done.returncode == 1
    head = git(checkout, "rev-parse", "HEAD")
    assert said.startswith(
        f"cluster --kubeconfig k.yaml --environment staging --revision main@sha1:{head} gates"
    )
    assert (inherited, key) == ("0", "the key")
    assert summary == "python -m conformance.report.summary report"
    assert not Path(said.rpartition(" ")[2]).exists()


def test_go_live_without_a_kubeconfig_uses_the_jobs_identity(checkout):
    told = {"GO_LIVE_SERVER": "https://s", "GO_LIVE_CA": "pem", "GO_LIVE_AUDIENCE": "a"}
    done = run(checkout, "go-live.sh", REPORT_SIGNING_KEY_FILE="k", **told)
    assert done.returncode == 0, done.stderr
    assert re.match(
        r"python -m conformance.cluster.oidc \S+/kubeconfig --server https://s --ca \S+ --audience a\n",
        done.stdout,
    )


@pytest.mark.parametrize("missing", ["REPORT_SIGNING_KEY_FILE", "GO_LIVE_CA"])
def test_go_live_says_what_it_lacks(checkout, missing):
    told = {"REPORT_SIGNING_KEY_FILE": "k", "GO_LIVE_CA": "pem", "GO_LIVE_SERVER": "s"}
    del told[missing]
    done = run(checkout, "go-live.sh", **told)
    assert done.returncode != 0
    assert missing in done.stderr


def images(checkout, *words):
    names = [p.name for p in (ROOT / "images").iterdir() if p.is_dir()]
    for name in ("docker", "trivy", "cosign"):
        digest = '[ "$2" = inspect ] && echo d@sha256:1; exit 0'
        program(checkout / "bin" / name, f'echo "{name} $*" >> calls; {digest}')
    done = run(checkout, "images.sh", *words)
    assert done.returncode == 0, done.stderr
    calls = (checkout / "calls").read_text().splitlines()
    return names, calls


def test_every_image_is_built_scanned_and_signed_by_digest(checkout):
    names, calls = images(checkout, "build")
    built = [re.search(r"--target (\S+) -t ghcr.io/rag-blueprint/(\S+):0.1.0", c) for c in calls]
    assert all(m and m[1] == m[2] and m[1] in names for m in built)
    assert len(built) >= 5
    calls = images(checkout, "scan")[1][len(built) :]
    assert sum("--severity CRITICAL" in c and "--exit-code 1" in c for c in calls) == len(built)
    assert sum("--format cyclonedx" in c for c in calls) == len(built)
    calls = images(checkout, "publish")[1]
    assert sum(c == "cosign sign --yes d@sha256:1" for c in calls) == len(built)
    assert sum(c.startswith("cosign attest --yes --type cyclonedx") for c in calls) == len(built)


def test_a_finding_ends_the_scan(checkout):
    program(checkout / "bin/trivy", 'case "$*" in *CRITICAL*) exit 1;; esac')
    assert run(checkout, "images.sh", "scan").returncode == 1


@pytest.mark.parametrize("word", ["build", "scan", "publish"])
def test_a_program_that_is_missing_is_named(checkout, word):
    if shutil.which("docker", path="/usr/bin:/bin"):
        pytest.skip("docker is here")
    done = run(checkout, "images.sh", word)
    assert done.returncode == 2
    assert "is not installed" in done.stderr


def test_conformance_says_what_it_needs(checkout):
    if os.geteuid() == 0 and 'VERSION_ID="12"' in Path("/etc/os-release").read_text():
        pytest.skip("this machine has it")
    done = run(checkout, "conformance.sh")
    assert done.returncode == 2
    assert "Debian 12" in done.stderr
