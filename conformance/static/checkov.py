"""checkov over the rendered manifests, in an environment of its own, with a skip list that must match."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from conformance.errors import SuiteError
from conformance.static.environment import ROOT, Environment
from conformance.static.finding import Finding, identity
from rag_assets import derived

LOCK = ROOT / "requirements" / "checkov.txt"
SKIPS = Path(__file__).with_name("checkov.yaml")
_SECONDS = 300
_UNREAD = {"kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"}


def program() -> Path:
    """checkov as locked, installed once into the cache; raises `SuiteError`."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    return derived("checkov", digest, _install) / "bin" / "checkov"


def _install(target: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    _run([uv, "venv", "-q", "--relocatable", "--clear", "--python", sys.executable, target])
    python = target / "bin" / "python"
    _run([uv, "pip", "sync", "-q", "--python", python, "--require-hashes", LOCK])


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SuiteError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-500:]}")


def checkov(environment: Environment) -> Iterator[Finding]:
    """What checkov finds and no skip explains, and skips that explain nothing."""
    skips = yaml.safe_load(SKIPS.read_text(encoding="utf-8"))
    unused = {(skip["check"], where) for skip in skips for where in skip["where"]}
    for check, where, title in sorted(failed(environment)):
        hit = {key for key in unused | _all(skips) if key[0] == check and key[1] in (where, "*")}
        unused -= hit
        if not hit:
            yield Finding("checkov", where, f"{check} {title}")
    for check, where in sorted(unused):
        yield Finding("checkov-skip-unused", where, f"{check} is skipped and does not occur")


def _all(skips: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(skip["check"], where) for skip in skips for where in skip["where"]}


def failed(environment: Environment) -> set[tuple[str, str, str]]:
    """Check id, `Kind.namespace.name` and title of each failed check; raises `SuiteError`."""
    items = [item for item in environment.objects if identity(item)[0] not in _UNREAD]
    with TemporaryDirectory() as folder:
        (Path(folder) / "rendered.yaml").write_text(yaml.safe_dump_all(items), encoding="utf-8")
        command: list[str | Path] = [
            program(),
            "-d",
            folder,
            "--framework",
            "kubernetes",
            "-o",
            "json",
        ]
        command += ["--compact", "--quiet", "--skip-download", "--soft-fail"]
        done = subprocess.run(  # noqa: S603 - our own program
            command, capture_output=True, text=True, timeout=_SECONDS
        )
    try:
        report = json.loads(done.stdout)
        results, summary = report["results"], report["summary"]
    except (ValueError, KeyError, TypeError) as error:
        said = (done.stderr or done.stdout)[-500:]
        raise SuiteError(f"checkov gave no report (exit code {done.returncode}): {said}") from error
    if not summary["passed"] or summary["parsing_errors"]:
        raise SuiteError(f"checkov read nothing or could not parse: {summary}")
    return {(c["check_id"], c["resource"], c["check_name"]) for c in results["failed_checks"]}
