"""The platform's Prometheus, asked through the API server."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.gate import ProbeError
from conformance.probes.cluster import Cluster

_IN_CLUSTER = re.compile(r"^http://([a-z0-9-]+)\.([a-z0-9-]+)(?:\.svc(?:\.[a-z0-9.-]+)?)?:(\d+)/*$")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server of Prometheus's HTTP API behind a Service."""

    cluster: Cluster
    namespace: str = "monitoring"
    service: str = "prometheus"
    port: int = 9090

    @classmethod
    def at(cls, cluster: Cluster, url: str) -> "Prometheus | None":
        """The server at a URL as pods dial it; None where it is not a Service of this cluster."""
        match = _IN_CLUSTER.match(url)
        return cls(cluster, match[2], match[1], int(match[3])) if match else None

    @property
    def url(self) -> str:
        """The URL that pods dial."""
        return f"http://{self.service}.{self.namespace}.svc:{self.port}"

    def query(self, expression: str) -> Sequence[Any]:
        """The series of an expression now; raises `ProbeError` when it cannot be evaluated."""
        data = self._get("query", query=expression)
        found: Sequence[Any] = data["result"]
        # A scalar is its own pair of time and value.
        return [found] if data["resultType"] in ("scalar", "string") else found

    def targets(self) -> Sequence[dict[str, Any]]:
        """What it scrapes."""
        found: Sequence[dict[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return found

    def rule_groups(self) -> Sequence[dict[str, Any]]:
        """The rules that it has loaded, by group."""
        found: Sequence[dict[str, Any]] = self._get("rules")["groups"]
        return found

    def _get(self, path: str, **params: str) -> Any:
        answer = self.cluster.proxy(
            self.namespace, self.service, self.port, f"/api/v1/{path}", params
        )
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise ProbeError(f"{self.url}/api/v1/{path}: {str(answer)[:200]}")
        return answer["data"]

    def selectors(self, expression: str) -> list[str]:
        """Every selector of series in an expression, as its own parser (3.0 and later) has it."""
        found = dict.fromkeys(_selectors(self._get("parse_query", query=expression)))
        return [*found]


def _selectors(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _selectors(item)
    elif isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            yield _selector(node)
        for value in node.values():
            yield from _selectors(value)


def _selector(node: dict[str, Any]) -> str:
    matchers = node["matchers"]
    if node.get("name") and all(m["name"] != "__name__" for m in matchers):
        matchers = [{"name": "__name__", "type": "=", "value": node["name"]}, *matchers]
    told = (f"{m['name']}{m['type']}{json.dumps(m['value'])}" for m in matchers)
    return f"{{{','.join(told)}}}"
