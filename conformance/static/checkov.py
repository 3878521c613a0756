"""checkov over the rendered manifests, in an environment of its own, with a skip list that must match."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from conformance import locked
from conformance.errors import SuiteError
from conformance.static.environment import ROOT, Environment, elsewhere
from conformance.static.finding import Finding, Object, identity

LOCK = ROOT / "requirements" / "checkov.txt"
SKIPS = Path(__file__).with_name("checkov.yaml")
_SECONDS = 300
_UNREAD = {"kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"}


def program() -> Path:
    """checkov as locked, installed once into the cache; raises `SuiteError`."""
    return locked.environment("checkov", LOCK) / "bin" / "checkov"


def checkov(environment: Environment) -> Iterator[Finding]:
    """What checkov finds and no skip explains, and skips that explain nothing."""
    skips = yaml.safe_load(SKIPS.read_text(encoding="utf-8"))
    skipped = {(skip["check"], where) for skip in skips for where in skip["where"]}
    unused = set(skipped)
    for check, where, title in sorted(failed(environment)):
        hit = skipped & {(check, where), (check, "*")}
        unused -= hit
        if not hit:
            yield Finding("checkov", where, f"{check} {title}")
    for check, where in sorted(unused):
        if not elsewhere(where, environment, resource):
            yield Finding("checkov-skip-unused", where, f"{check} is skipped and does not occur")


def resource(item: Object) -> str:
    """What checkov calls an object."""
    meta = item["metadata"]
    return f"{item['kind']}.{meta.get('namespace', 'default')}.{meta['name']}"


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
