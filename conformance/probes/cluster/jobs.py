"""Jobs run by a gate: a CronJob's own template now, instead of when its time comes."""

from conformance.gate import Evidence, ProbeError
from conformance.probes.cluster import Cluster, Object, containers


def job_of(cron_job: Object, name: str) -> Object:
    """A Job of the CronJob's template."""
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": cron_job["metadata"]["namespace"],
            "labels": metadata.get("labels") or {},
        },
        "spec": template["spec"],
    }


def pod_of(cluster: Cluster, job: Object) -> Object | None:
    """The Job's newest pod, or None while there is none."""
    metadata = job["metadata"]
    found = cluster.list("v1", "Pod", metadata["namespace"], f"job-name={metadata['name']}")
    found.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return found[-1] if found else None


def completed(cluster: Cluster, job: Object, seconds: float, evidence: Evidence) -> None:
    """Wait until the Job has succeeded; its logs go to `evidence`. Raises `ProbeError` if it fails."""
    metadata = job["metadata"]

    def ended() -> str:
        item = cluster.get("batch/v1", "Job", metadata["name"], metadata["namespace"])
        conditions = (item.get("status") or {}).get("conditions") or []
        done = [c for c in conditions if c["status"] == "True" and c["type"] in _ENDS]
        return str(done[0]["type"]) if done else ""

    try:
        how = cluster.wait(ended, seconds, f"Job {metadata['name']} ended")
    finally:
        told = logs(cluster, job)
        evidence.write(f"{metadata['name']}.txt", told)
    if how != "Complete":
        raise ProbeError(f"Job {metadata['name']} failed: {told[-400:].strip()}")


_ENDS = ("Complete", "Failed")


def logs(cluster: Cluster, job: Object) -> str:
    """What the containers of the Job's newest pod have printed; never raises `ProbeError`."""
    try:
        pod = pod_of(cluster, job)
        if pod is None:
            return "no pod"
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        return "\n".join(
            f"--- {container}\n{cluster.logs(namespace, name, container)}"
            for container in containers(pod)
        )
    except ProbeError as error:
        return str(error)
