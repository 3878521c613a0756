"""What a cluster has recorded: the audit trail's index, the guard's flags, the gateway's requests."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from conformance.gate import ProbeError
from conformance.targets.kube.client import Cluster
from conformance.targets.layers import doors
from conformance.targets.layers.places import forward, place, pods
from conformance.targets.layers.vault import Vault

Record = dict[str, Any]
INDEXES = "audit-*"
PAGE = 500  # a record holds a whole prompt
_CAUGHT_UP_SECONDS, _POLL_SECONDS = 120.0, 0.5
_GAUGE_SECONDS = 3.0  # the indexer measures its lag with every batch
_REFRESH_SECONDS = 1.5  # the index shows what it has a second later
_TIMEOUT_SECONDS = 30.0
_LOG_LINES = 20_000
_LAG = "audit_lag_records"
_COUNTS = ("audit_indexed_total", "audit_duplicates_total", "audit_dead_lettered_total")


def audit(cluster: Cluster, vault: Vault, since: str, *, settle: bool = True) -> list[Record]:
    """All audit records with a time from `since` (ISO 8601) on, in the order of their times.

    The log is ahead of the index: to `settle` is to wait for the indexer first. Raises `ProbeError`.
    """
    if settle:
        caught_up(cluster)
    who = vault.secret("elasticsearch")
    login = (str(who["username"]), str(who["password"]))
    with (
        forward(cluster, "elasticsearch") as door,
        httpx.Client(
            base_url=f"http://{door.address}",
            auth=login,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        ) as client,
    ):
        try:
            return [hit["_source"] for hit in _hits(client, since)]
        except httpx.HTTPError as error:
            raise ProbeError(f"elasticsearch: {door.trouble or repr(error)}") from error


def _hits(client: httpx.Client, since: str) -> Iterator[Record]:
    body: Record = {
        "size": PAGE,
        "query": {"range": {"time": {"gte": since}}},
        "sort": [{"time": "asc"}, {"request_id": "asc"}, {"event": "asc"}],
    }
    while True:
        answer = client.post(f"/{INDEXES}/_search", json=body)
        if answer.status_code != httpx.codes.OK:
            raise ProbeError(f"elasticsearch: {answer.status_code}: {answer.text[:300]}")
        found = answer.json()
        if found.get("timed_out") or found["_shards"]["failed"]:
            raise ProbeError(f"elasticsearch: a search of a part: {found['_shards']}")
        hits = found["hits"]["hits"]
        yield from hits
        if len(hits) < PAGE:
            return
        body["search_after"] = hits[-1]["sort"]


def caught_up(cluster: Cluster) -> None:
    """Wait until the index has, and shows, all that the log has now; raises `ProbeError`.

    Others may go on asking: their records are not waited for.
    """
    time.sleep(_GAUGE_SECONDS)
    end = time.monotonic() + _CAUGHT_UP_SECONDS
    behind, done = _progress(cluster)
    wanted = done + behind
    while behind and done < wanted:
        if time.monotonic() > end:
            raise ProbeError(f"the audit indexer is {wanted - done:g} records behind its log")
        time.sleep(_POLL_SECONDS)
        before, (behind, done) = done, _progress(cluster)
        if done < before:  # another pod, which counts from zero
            wanted = done + behind
    time.sleep(_REFRESH_SECONDS)


def _progress(cluster: Cluster) -> tuple[float, float]:
    """Records of the log that are not committed as read, and those that were dealt with."""
    told = doors.metrics(cluster, "indexer")
    if _LAG not in told:
        raise ProbeError(f"the audit indexer exports no {_LAG}")
    return told[_LAG], sum(v for k, v in told.items() if k.partition("{")[0] in _COUNTS)


def flagged(cluster: Cluster) -> list[Record]:
    """What the guard's pods have flagged: each is a line of their logs; raises `ProbeError`."""
    found = _lines(cluster, "guard", place("guard").account)
    return [line["flag"] for line in found if line.get("message") == "flagged" and "flag" in line]


def access(cluster: Cluster) -> list[Record]:
    """The gateway's access log, the last lines of each of its pods; raises `ProbeError`."""
    found = _lines(cluster, "gateway", "istio-proxy")
    return [line for line in found if "request_id" in line and "status" in line]


def _lines(cluster: Cluster, name: str, container: str) -> Iterator[Record]:
    at = place(name)
    found = pods(cluster, at)
    if not found:
        raise ProbeError(f"{at.namespace}/{at.account}: no pod is ready")
    for pod in found:
        text = cluster.logs(at.namespace, pod["metadata"]["name"], container, lines=_LOG_LINES)
        yield from filter(None, map(_object, text.splitlines()))


def _object(line: str) -> Record | None:
    """The JSON object on a line; other programs' lines lie between."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
