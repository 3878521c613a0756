"""The newest backup, restored by the project's own Job into a server of its pod."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from conformance.gate import Context, ProbeError
from conformance.probes.cluster import Cluster, Object, changed, planted, unique
from conformance.probes.cluster.jobs import logs, pod_of

RESTORE = Path(__file__).parents[4] / "apps" / "vectordb" / "restore"
CRON_JOB, NAMESPACE = "backup", "rag-vectordb"
SERVE_SECONDS = 900


@contextmanager
def restored(
    context: Context, container: str, serves: Callable[[Object], bool], seconds: float
) -> Iterator[Object]:
    """The Job's pod inside the block, once `serves` says so of it; raises `ProbeError`."""
    cluster = context.target.cluster
    job = job_of(context.target.environment, unique(cluster, "restore"), container)
    with planted(cluster, job, evidence=context.evidence):
        try:
            pod = cluster.wait(
                lambda: _serving(cluster, job, serves), seconds, "the backup is restored and served"
            )
        except ProbeError as error:
            raise ProbeError(f"{error}: {logs(cluster, job)[-400:].strip()}") from error
        finally:
            context.evidence.write("restore.txt", logs(cluster, job))
        yield pod


@contextmanager
def dumping(cluster: Cluster, command_of: Callable[[list[str]], list[str]]) -> Iterator[None]:
    """Inside the block the backup's CronJob dumps by what `command_of` makes of its command."""
    cron_job = cluster.get("batch/v1", "CronJob", CRON_JOB, NAMESPACE)
    containers = deepcopy(cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"])
    for container in containers:
        if container["name"] == "dump":
            container["command"] = command_of(container["command"])
    template = {"spec": {"template": {"spec": {"containers": containers}}}}
    patch = {"spec": {"jobTemplate": template}}
    with changed(cluster, "batch/v1", "CronJob", CRON_JOB, patch, NAMESPACE):
        yield


def job_of(environment: str, name: str, container: str) -> Object:
    """The restore Job as the environment's overlay has it, its server `container` serving for a while."""
    from conformance.static import matrix
    from conformance.static.render import RenderError, render
    from conformance.static.substitution import substitute

    variables = matrix.variables(environment)
    names = (environment, variables.get("vector_store", "base"), "base")
    folder = next((RESTORE / name for name in names if (RESTORE / name).is_dir()), None)
    if folder is None:
        raise ProbeError(f"{RESTORE}: no restore Job in this checkout")
    try:
        found = [substitute(i, variables) for i in render(folder) if i["kind"] == "Job"]
    except RenderError as error:
        raise ProbeError(f"{folder}: {error}") from error
    if len(found) != 1:
        raise ProbeError(f"{folder}: one Job wanted, there are {len(found)}")
    job: Object = deepcopy(found[0])
    job["metadata"]["name"] = name
    containers: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
    serving = next((c for c in containers if c["name"] == container), None)
    if serving is None:
        raise ProbeError(f"{folder}: no container {container}: it restores into the store itself")
    env = [e for e in serving.get("env") or [] if e["name"] != "KEEP_SECONDS"]
    serving["env"] = [*env, {"name": "KEEP_SECONDS", "value": str(SERVE_SECONDS)}]
    return job


def _serving(cluster: Cluster, job: Object, serves: Callable[[Object], bool]) -> Object | None:
    """The pod, once its server answers from outside of the restore itself; `ProbeError` if it failed."""
    pod = pod_of(cluster, job)
    if pod is None:
        return None
    if (pod.get("status") or {}).get("phase") == "Failed":
        raise ProbeError("the restore Job's pod failed")
    return pod if serves(pod) else None
