"""image-scan: every image that runs in the layers, scanned by trivy with a database of today."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation._layers import LAYERS
from conformance.probes.cluster import FAULT, LABEL, Cluster, planted, probe_pod, statuses, unique
from conformance.stats import exactly

SECONDS = 600.0
FRESH = timedelta(days=2)
NAMESPACE = "rag-retrieval"


def measure(context: Context) -> Observation:
    """Critical vulnerabilities of the images of all pods of the layers, n images."""
    trivy = _trivy()
    _database(trivy)
    names = images(context.target.cluster)
    found: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        context.progress(number, len(names), name)
        found[name] = _scanned(trivy, name)
    context.evidence.write("critical.json", found)
    wrong = {name: ids for name, ids in found.items() if ids}
    return Observation(
        {"critical": exactly(sum(map(len, found.values())), len(found))},
        notes=[f"{name}: {', '.join(ids[:5])}" for name, ids in wrong.items()],
    )


def images(cluster: Cluster) -> list[str]:
    """The images of the layers' pods, by the digest that runs where the runtime tells it."""
    found: set[str] = set()
    for namespace in LAYERS:
        for pod in cluster.list("v1", "Pod", namespace):
            told = {s["name"]: str(s.get("imageID") or "") for s in statuses(pod)}
            spec = pod["spec"]
            for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
                running = told.get(container["name"], "").rpartition("://")[2]
                found.add(running if "@sha256:" in running else container["image"])
    if not found:
        raise ProbeError("no pod runs in any layer")
    return sorted(found)


def _trivy() -> str:
    found = shutil.which("trivy")
    if not found:
        raise ProbeError("trivy is not on the PATH: nothing can be scanned")
    return found


def _database(trivy: str) -> None:
    """Fetch the vulnerability database; raises `ProbeError` when there is none, or an old one."""
    _run(trivy, "image", "--download-db-only", "--quiet")
    told = json.loads(_run(trivy, "version", "--format", "json"))
    try:
        updated = datetime.fromisoformat(told["VulnerabilityDB"]["UpdatedAt"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError(
            "trivy has no vulnerability database: its silence means nothing"
        ) from error
    if datetime.now(UTC) - updated > FRESH:
        raise ProbeError(f"trivy's database is of {updated:%Y-%m-%d}: too old to pass anything")


def _scanned(trivy: str, image: str) -> list[str]:
    """Ids of critical vulnerabilities; raises `ProbeError` when trivy could not look inside."""
    options = ("--severity", "CRITICAL", "--scanners", "vuln", "--skip-db-update", "--quiet")
    told = json.loads(_run(trivy, "image", "--format", "json", *options, image))
    results: list[Mapping[str, Any]] = told.get("Results") or []
    if not results:
        raise ProbeError(f"{image}: trivy found no package at all in it: nothing was scanned")
    return sorted(
        {str(v["VulnerabilityID"]) for r in results for v in r.get("Vulnerabilities") or []}
    )


def _run(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - trivy with our own arguments
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProbeError(f"{' '.join(command[1:3])}: {error}") from error
    if done.returncode:
        told = done.stderr.strip()[-300:]
        raise ProbeError(f"trivy {' '.join(command[1:3])} exited {done.returncode}: {told}")
    return done.stdout


@contextmanager
def _vulnerable(context: Context) -> Iterator[None]:
    """A pod of an image that is known to be vulnerable; it need not start to be found."""
    cluster = context.target.cluster
    image = str(context.parameter("vulnerable_image"))
    pod = probe_pod(
        unique(cluster, "vulnerable"), NAMESPACE, image, "serve", ["8080"], labels={LABEL: FAULT}
    )
    with planted(cluster, pod):
        yield


GATE = Gate(
    id="image-scan",
    phase=Phase.INTELLIGENCE,
    title="No image of a layer has a critical vulnerability",
    promise="Security audit: run Trivy container scanning",
    measure=measure,
    faults=(Fault("a pod runs an image that is known to be vulnerable", _vulnerable),),
)
