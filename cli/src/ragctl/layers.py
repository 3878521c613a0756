"""Asking and filling a cluster's layers, over the doors that the conformance suite takes."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets.cluster import ClusterTarget
from ragctl.errors import RagctlError

_TIMEOUT_SECONDS = 180  # a language model at zero replicas comes up first


def reached(target: Path) -> ClusterTarget:
    """The cluster that the file describes; raises `RagctlError` when it does not answer."""
    try:
        return ClusterTarget.load(target)
    except TargetError as error:
        raise RagctlError(str(error)) from error


def ask(target: Path, question: str, tenant: str) -> httpx.Response:
    """The gateway's response to POST /v1/answer with the tenant's API key."""
    platform = reached(target)
    try:
        with platform.gateway(tenant, timeout=_TIMEOUT_SECONDS) as client:
            return client.post("/v1/answer", json={"question": question})
    except (httpx.HTTPError, ProbeError) as error:
        raise RagctlError(f"{error}; see `ragctl cluster status`") from error


def ingest(target: Path, source: str, tenant: str, *options: str) -> int:
    """`rag-ingest SOURCE --tenant TENANT` on this machine, into the cluster; its exit code.

    SOURCE is this machine's and need not be uploaded; the writer's password stays in memory.
    """
    try:
        settings = reached(target).ingest_environment()
    except ProbeError as error:
        raise RagctlError(f"{error}; see `ragctl cluster status`") from error
    command = [sys.executable, "-m", "rag_ingestion", source, "--tenant", tenant, *options]
    return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode  # noqa: S603
