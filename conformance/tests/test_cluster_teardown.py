"""What the node makes of a machine is gone when it is: seen from outside, with real namespaces."""

import os

import pytest

from conformance.cluster import traces
from conformance.cluster.base import ClusterError
from conformance.cluster.node import namespace, tree
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import State
from conformance.cluster.node.namespace import Namespace, running

pytestmark = [
    pytest.mark.network,  # the Debian tree comes from the cache or Debian's registry
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts take root"),
    pytest.mark.skipif(bool(running()), reason="a lab runs on this machine: one at a time"),
]


@pytest.fixture
def state(tmp_path):
    state = State(tmp_path / "lab")
    tree.extract(state)
    tree.configure(state)
    return state


def test_a_node_that_was_killed_leaves_no_trace(state):
    before = traces.snapshot()
    node = Namespace(state)
    node.start()
    node.start()  # a second time finds it running
    node.enter(["iptables", "-A", "FORWARD", "-j", "DROP"])
    node.enter(["mount", "-t", "tmpfs", "tmpfs", "/srv"])
    node.enter(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"])
    during = traces.left_behind(before, traces.snapshot())
    assert {"processes", "namespaces", "links", "routes", "cgroups"} <= set(during)
    assert {"mounts", "rules"}.isdisjoint(during)  # not even while it runs
    node.stop()
    assert traces.left_behind(before, traces.snapshot()) == {}
    tree.remove(state)
    assert not state.root.exists()


def test_a_cable_that_outlives_its_node_is_removed(monkeypatch):
    monkeypatch.setattr(namespace, "_LINK", "rag-test")
    run(["ip", "link", "add", "rag-test", "type", "veth", "peer", "name", "rag-test-peer"])
    assert namespace._disconnected()
    assert namespace._disconnected()  # nothing left to do
    assert "rag-test" not in run(["ip", "link", "show"])


def test_a_tree_in_which_something_is_mounted_is_not_removed(state):
    run(["mount", "--bind", "/etc", state.tree / "mnt"])
    try:
        with pytest.raises(ClusterError, match="still mounted"):
            tree.remove(state)
    finally:
        run(["umount", state.tree / "mnt"])
    assert (state.tree / "etc").is_dir()
