"""The node's data (`clusters/lab/node/`) and where its things are kept."""

import ipaddress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "clusters" / "lab" / "node"


@cache
def load(name: str) -> Any:
    """The parsed YAML file `name` of the node's data."""
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Network:
    """The node's addresses."""

    name: str
    host: ipaddress.IPv4Interface
    node: ipaddress.IPv4Interface
    pods: ipaddress.IPv4Network
    services: ipaddress.IPv4Network
    registry: str

    @property
    def registry_url(self) -> str:
        """The lab's registry as the machine reaches it."""
        return f"http://{self.node.ip}:{self.registry.rpartition(':')[2]}"


@cache
def network() -> Network:
    """What `node.yaml` says."""
    data = load("node.yaml")
    return Network(
        name=data["name"],
        host=ipaddress.IPv4Interface(data["host_address"]),
        node=ipaddress.IPv4Interface(data["node_address"]),
        pods=ipaddress.IPv4Network(data["pod_cidr"]),
        services=ipaddress.IPv4Network(data["service_cidr"]),
        registry=data["registry"],
    )


@dataclass(frozen=True, slots=True)
class State:
    """Paths of one lab under its state folder."""

    root: Path

    @property
    def tree(self) -> Path:
        """The node's file tree, with etcd's data, containers and volumes in it."""
        return self.root / "node"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, as used from the machine."""
        return self.root / "kubeconfig"

    @property
    def registry(self) -> Path:
        """The OCI image layout that the lab's registry serves."""
        return self.tree / "var" / "lib" / "registry"

    @property
    def log(self) -> Path:
        """What the bring-up's commands said."""
        return self.root / "up.log"

    @property
    def lock(self) -> Path:
        """Held by the command that is at work."""
        return self.root.with_name(f".{self.root.name}.lock")
