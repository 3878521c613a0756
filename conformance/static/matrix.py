"""The allowed matrix, `platform/network-policies/matrix.yaml`: one edge a flow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import SuiteError
from conformance.static.environment import ROOT

FILE = ROOT / "platform" / "network-policies" / "matrix.yaml"
ANY = "*"
OUTSIDE = "outside"
LAYER = "rag-"  # how the namespaces of the layers begin


@dataclass(frozen=True, order=True, slots=True)
class Edge:
    """Who may dial whom on which TCP port; `*` is every pod of the namespace."""

    from_namespace: str
    from_account: str
    to_namespace: str
    to_account: str
    port: int

    def __str__(self) -> str:
        source = f"{self.from_namespace}/{self.from_account}"
        return f"{source} -> {self.to_namespace}/{self.to_account}:{self.port}"


@dataclass(frozen=True)
class Matrix:
    """Flows between accounts, flows from outside, and what every layer needs of the platform."""

    flows: frozenset[Edge]
    outside: frozenset[Edge]
    reached: frozenset[tuple[str, int]]
    reaching: frozenset[tuple[str, int]]

    @property
    def accounts(self) -> set[tuple[str, str]]:
        """Namespace and name of every service account that calls or is called."""
        ends = [
            ((e.from_namespace, e.from_account), (e.to_namespace, e.to_account)) for e in self.flows
        ]
        return {end for pair in ends for end in pair}

    @property
    def layer_accounts(self) -> set[tuple[str, str]]:
        """Those of the layers: each has a folder in the vault."""
        return {account for account in self.accounts if account[0].startswith(LAYER)}


def read(path: Path = FILE) -> Matrix:
    """The matrix; raises `SuiteError` when the file does not have its form."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        flows = {edge for entry in data["flows"] for edge in _edges(entry)}
        outside = {edge for entry in data["outside"] for edge in _edges({**entry, "from": OUTSIDE})}
        reached = {(e["to"], p) for e in data["exceptions"] if "to" in e for p in e["ports"]}
        reaching = {(e["from"], p) for e in data["exceptions"] if "from" in e for p in e["ports"]}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise SuiteError(
            f"{path}: not a matrix of flows, exceptions and outside: {error!r}"
        ) from error
    return Matrix(frozenset(flows), frozenset(outside), frozenset(reached), frozenset(reaching))


def _edges(entry: dict[str, Any]) -> list[Edge]:
    if not entry["why"]:
        raise ValueError(f"{entry}: why?")
    from_namespace, _, from_account = entry["from"].partition("/")
    to_namespace, to_account = entry["to"].split("/")
    ends = (from_namespace, from_account or ANY, to_namespace, to_account)
    return [Edge(*ends, port) for port in entry["ports"]]
