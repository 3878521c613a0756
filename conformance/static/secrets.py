"""`python -m conformance.static.secrets`: gitleaks over the whole history; exit code 1 at a finding."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance.cluster.node import programs
from conformance.errors import SuiteError
from conformance.git import git
from conformance.static.environment import ROOT

ALLOWED = ROOT / ".gitleaks.toml"
_SECONDS = 900
_FOUND = 3  # an exit code that gitleaks uses for nothing else


def findings(repository: Path, allowed: Path = ALLOWED) -> list[dict[str, Any]]:
    """Each credential in any commit of any branch; raises `SuiteError` where it was not looked for."""
    if git(repository, "rev-parse", "--is-shallow-repository").strip() != "false":
        raise SuiteError(f"{repository}: a shallow clone has no history; fetch it all")
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command: list[str | Path] = [programs.program("gitleaks"), "git", "--no-banner", "--redact"]
        command += ["--config", allowed, "--log-opts", "--all", "--exit-code", str(_FOUND)]
        command += ["--report-format", "json", "--report-path", report, repository]
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=_trusting(repository),
        )
        if done.returncode not in (0, _FOUND) or " commits scanned" not in done.stderr:
            raise SuiteError(f"gitleaks: {done.stderr.strip()[-600:]}")
        found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    if bool(found) != (done.returncode == _FOUND):
        raise SuiteError(f"gitleaks: exit code {done.returncode} and {len(found)} findings")
    return found


def _trusting(repository: Path) -> dict[str, str]:
    """The environment in which the git that gitleaks starts reads a checkout of another user."""
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", **trust, "GIT_CONFIG_VALUE_0": str(repository)}


def main() -> int:
    """Print each finding without its value; 0 none, 1 some, 2 it was not looked for."""
    try:
        found = findings(ROOT)
    except SuiteError as error:
        print(f"secrets-scan: {error}", file=sys.stderr)
        return 2
    for item in found:
        print(
            f"{item['File']}:{item['StartLine']}: {item['RuleID']} in commit {item['Commit'][:12]}"
        )
    print(f"{len(found)} findings in {git(ROOT, 'rev-list', '--all', '--count').strip()} commits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
