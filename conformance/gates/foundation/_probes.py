"""What several gates plant: a namespace, a small web server in it; and how long they wait for it."""

import time
from collections.abc import Callable
from typing import Any

from conformance.gate import Context
from conformance.gates.foundation._layers import ENFORCED
from conformance.probes.cluster import Object, probe_pod

PORT = 8080
POLL_SECONDS = 0.5


def namespace(name: str) -> Object:
    """A namespace as strict as a layer's, outside the mesh and without policies."""
    metadata = {"name": name, "labels": {ENFORCED: "restricted"}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def server(context: Context, name: str, **options: Any) -> Object:
    """A pod in the namespace of its own name that answers HTTP on `PORT` and becomes Ready."""
    image = context.parameter("probe_image")
    pod = probe_pod(name, name, image, "serve", [str(PORT)], ready=True, **options)
    pod["spec"]["containers"][0]["ports"] = [{"containerPort": PORT}]
    pod["spec"]["containers"][0]["readinessProbe"] = {
        "tcpSocket": {"port": PORT},
        "periodSeconds": 1,
    }
    return pod


def lasting(pod: Object) -> Object:
    """The pod's spec as the template of a workload takes it."""
    return {
        k: v for k, v in pod["spec"].items() if k not in ("activeDeadlineSeconds", "restartPolicy")
    }


def condition(item: Object, kind: str) -> tuple[bool, str]:
    """Whether the condition is True, and what it says otherwise."""
    found = {c["type"]: c for c in (item.get("status") or {}).get("conditions") or []}
    told = found.get(kind, {"status": "Unknown", "message": f"no condition {kind} yet"})
    why = told.get("message") or told.get("reason") or told["status"]
    return told["status"] == "True", "" if told["status"] == "True" else str(why)


def seconds_until(holds: Callable[[], object], limit: float) -> float | None:
    """Seconds until it holds, None when it does not within `limit`."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > limit:
            return None
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started
