"""What replicas and volumes cost by an environment's price file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes.utils.quantity import parse_quantity

from conformance.gate import ProbeError

CLUSTERS = Path(__file__).parents[2] / "clusters"
SCHEMA = Path(__file__).parents[1] / "slos" / "prices.schema.json"
GIB, HOURS_A_MONTH = 2**30, 730
GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of an hour (a volume's: of a month) in `currency`."""

    currency: str
    vcpu_hour: float
    memory_gib_hour: float
    gpu_hour: float
    volume_gib_month: float

    def replica_hour(self, pod_spec: Mapping[str, Any]) -> float:
        """What an hour of a pod costs by its requests."""
        asked = [*_requests(pod_spec)]
        return (
            self.vcpu_hour * sum(amount(r.get("cpu", 0)) for r in asked)
            + self.memory_gib_hour * sum(amount(r.get("memory", 0)) for r in asked) / GIB
            + self.gpu_hour * sum(amount(r.get(GPU, 0)) for r in asked)
        )

    def volume_hour(self, gib: float) -> float:
        """What an hour of a volume costs."""
        return self.volume_gib_month * gib / HOURS_A_MONTH


def prices(environment: str, folder: Path = CLUSTERS) -> Prices:
    """The environment's prices; raises `ProbeError` with the place of what is wrong in the file."""
    file = folder / environment / "prices.yaml"
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        jsonschema.validate(data, json.loads(SCHEMA.read_text(encoding="utf-8")))
    except OSError as error:
        raise ProbeError(
            f"{file}: {error.strerror}: say there what is paid, as docs/fork.md shows"
        ) from error
    except (yaml.YAMLError, jsonschema.ValidationError) as error:
        where = "/".join(map(str, getattr(error, "path", ())))
        raise ProbeError(f"{file} {where}: {getattr(error, 'message', error)}") from error
    return Prices(**data)


def _requests(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The requests of what runs for the pod's whole life: containers and native sidecars."""
    sidecars = (c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always")
    for container in (*spec["containers"], *sidecars):
        resources = container.get("resources") or {}
        yield {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def amount(quantity: Any) -> float:
    """A quantity of Kubernetes as a number."""
    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]
