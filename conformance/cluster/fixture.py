"""The cluster as a pytest fixture: `pytest_plugins = ["conformance.cluster.fixture"]`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.cluster.base import Cluster
from conformance.cluster.choose import choose
from conformance.cluster.node.config import ROOT

FILE, MAKE = "KUBECONFIG_FILE", "RAG_TEST_CLUSTER"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Yours of `$KUBECONFIG_FILE`, else the lab that stands.

    `RAG_TEST_CLUSTER=make` makes one where none stands, and removes it afterwards. Else the test
    is skipped, and says what it needs.
    """
    given = os.environ.get(FILE)
    state = Path(os.environ.get("RAG_STATE_DIR") or ROOT / ".state") / "lab"
    found = choose(state, Path(given) if given else None)
    if given or found.kubeconfig.exists():
        yield found
    elif os.environ.get(MAKE) == "make":
        yield from _made(found)
    else:
        pytest.skip(f"needs a cluster: `make up`, {FILE}, or {MAKE}=make")


def _made(cluster: Cluster) -> Iterator[Cluster]:
    try:
        cluster.create()
        yield cluster
    finally:
        cluster.delete()
