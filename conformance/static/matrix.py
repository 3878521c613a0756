"""The allowed matrix, `platform/network-policies/matrix.yaml`: one edge a flow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import SuiteError
from conformance.static.environment import ROOT

FILE = ROOT / "platform" / "network-policies" / "matrix.yaml"
ANY = "*"
OUTSIDE = "outside"
TENANTS = "tenants"  # every namespace with the label of a tenant
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
    """Flows between accounts, to and from outside, and what every layer needs of the platform."""

    flows: frozenset[Edge]
    outside: frozenset[Edge]
    reached: frozenset[tuple[str, int]]
    reaching: frozenset[tuple[str, int]]
    leaving: frozenset[Edge] = frozenset()
    known: frozenset[tuple[str, str]] = frozenset()  # accounts of any cluster's choices
    # Service accounts that an operator names, and whose pods run as them.
    identities: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    @property
    def accounts(self) -> set[tuple[str, str]]:
        """Namespace and name of every service account that calls or is called."""
        return _accounts(self.flows)

    @property
    def layer_accounts(self) -> set[tuple[str, str]]:
        """Those of the layers that we name: each has a folder in the vault."""
        ours = self.accounts - set(self.identities.values())
        return {account for account in ours if account[0].startswith(LAYER)}


def of(environment: str) -> Matrix:
    """The matrix under the vars of `clusters/<environment>`; raises `SuiteError`."""
    return read(variables=variables(environment))


def variables(environment: str) -> dict[str, str]:
    """The vars of `clusters/<environment>`, with the overlay that they are of."""
    file = ROOT / "clusters" / environment / "vars.yaml"
    data = yaml.safe_load(file.read_text(encoding="utf-8"))["data"] if file.exists() else {}
    return {**data, "overlay": "lab" if environment == "lab" else "cloud"}


def _accounts(edges: Iterable[Edge]) -> set[tuple[str, str]]:
    ends = [((e.from_namespace, e.from_account), (e.to_namespace, e.to_account)) for e in edges]
    return {end for pair in ends for end in pair}


def read(path: Path = FILE, variables: Mapping[str, str] | None = None) -> Matrix:
    """The matrix of a cluster with these vars; raises `SuiteError` when the file does not have its form."""
    vars_ = {"overlay": "lab", **(variables or {})}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        every = {edge for entry in data["flows"] for edge in _edges(entry)}
        flows = {edge for entry in data["flows"] if holds(entry, vars_) for edge in _edges(entry)}
        leaving = {
            edge
            for entry in data.get("leaving") or []
            if holds(entry, vars_)
            for edge in _edges({**entry, "to": f"{OUTSIDE}/{ANY}"})
        }
        outside = {
            edge
            for entry in data["outside"]
            if holds(entry, vars_)
            for edge in _edges({"from": OUTSIDE, **entry})
        }
        reached = {(e["to"], p) for e in data["exceptions"] if "to" in e for p in e["ports"]}
        reaching = {(e["from"], p) for e in data["exceptions"] if "from" in e for p in e["ports"]}
        operated = [entry for entry in data.get("identities") or [] if holds(entry, vars_)]
        identities = {_pair(entry["is"]): _pair(entry["account"]) for entry in operated}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise SuiteError(
            f"{path}: not a matrix of flows, exceptions and outside: {error!r}"
        ) from error
    return Matrix(
        frozenset(flows),
        frozenset(outside),
        frozenset(reached),
        frozenset(reaching),
        frozenset(leaving),
        frozenset(_accounts(every)),
        identities,
    )


def holds(entry: Mapping[str, Any], variables: Mapping[str, str]) -> bool:
    """Whether the vars are what the entry's `when` says, and not what its `unless` says."""
    when, unless = entry.get("when") or {}, entry.get("unless") or {}
    return all(_is(variables, *one) for one in when.items()) and not any(
        _is(variables, *one) for one in unless.items()
    )


def _is(variables: Mapping[str, str], name: str, value: str | list[str]) -> bool:
    return variables.get(name) in ([value] if isinstance(value, str) else value)


def _pair(account: str) -> tuple[str, str]:
    namespace, name = account.split("/")
    return namespace, name


def _edges(entry: dict[str, Any]) -> list[Edge]:
    if not entry["why"]:
        raise ValueError(f"{entry}: why?")
    from_namespace, _, from_account = entry["from"].partition("/")
    to_namespace, to_account = entry["to"].split("/")
    ends = (from_namespace, from_account or ANY, to_namespace, to_account)
    return [Edge(*ends, port) for port in entry["ports"]]
