"""What a Prometheus must scrape, held against what it does scrape."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SCRAPE, PORT = "prometheus.io/scrape", "prometheus.io/port"
Object = Mapping[str, Any]


def asked_for(pods: Iterable[Object]) -> dict[str, str]:
    """The pods that run and ask to be scraped: address (without a port where none is named) to name."""
    return {_address(pod): _name(pod) for pod in pods if _asks(pod)}


def down(
    asked: Mapping[str, str], jobs: Iterable[str], targets: Sequence[Object]
) -> dict[str, str]:
    """What is not scraped with success: its name, and why."""
    found = {_instance(t): t for t in targets}
    missing = {
        name: f"{address} is no target"
        for address, name in asked.items()
        if not any(_same(address, instance) for instance in found)
    }
    present = {t["labels"].get("job") for t in targets}
    without = {f"job {job}": "has no target" for job in jobs if job not in present}
    failed = {
        _named(target, asked): str(target.get("lastError") or target["health"])
        for target in targets
        if target["health"] != "up"
    }
    return {**missing, **without, **failed}


def judged(asked: Mapping[str, str], jobs: Iterable[str], targets: Sequence[Object]) -> set[str]:
    """The names of everything that is looked at."""
    named = {_named(target, asked) for target in targets}
    return {*asked.values(), *(f"job {job}" for job in jobs), *named}


def _asks(pod: Object) -> bool:
    meta, status = pod["metadata"], pod.get("status") or {}
    wanted = (meta.get("annotations") or {}).get(SCRAPE) == "true"
    runs = status.get("phase") == "Running" and "podIP" in status
    return wanted and runs and not meta.get("deletionTimestamp")


def _address(pod: Object) -> str:
    port = pod["metadata"]["annotations"].get(PORT)
    ip = pod["status"]["podIP"]
    return f"{ip}:{port}" if port else ip


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _instance(target: Object) -> str:
    return str(target["labels"].get("instance", target.get("scrapeUrl", "")))


def _named(target: Object, asked: Mapping[str, str]) -> str:
    instance = _instance(target)
    pod = next((name for address, name in asked.items() if _same(address, instance)), "")
    return pod or f"{target['labels'].get('job')} {instance}"


def _same(address: str, instance: str) -> bool:
    return instance == address or instance.rpartition(":")[0] == address
