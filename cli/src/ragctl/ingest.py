"""Running the ingestion of layer 1 against the local platform."""

import os
import subprocess
import sys

from ragctl.ask import target
from ragctl.layout import Layout


def ingest(layout: Layout, source: str, tenant: str, *options: str) -> int:
    """`rag-ingest SOURCE --tenant TENANT`; its exit code."""
    at = target(layout)
    settings = {
        "EMBEDDING_URL": at["embedding_url"],
        "VECTOR_DB_URL": at["vector_db_url"],
        "VECTOR_DB_CREDENTIALS_FILE": at["credentials"]["writer"],
    }
    command = [sys.executable, "-m", "rag_ingestion", source, "--tenant", tenant, *options]
    return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode  # noqa: S603
