"""gpu-nodes: which nodes count, and what is missing data."""

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import gpu_nodes
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values


def node(name, gpus="2", memory="81920", ready="True", taints=(), **spec):
    labels = {gpu_nodes.MEMORY: memory} if memory else {}
    status = {
        "allocatable": {"cpu": "8", **({gpu_nodes.GPU: gpus} if gpus else {})},
        "conditions": [{"type": "Ready", "status": ready}],
    }
    return named("Node", name, labels=labels, spec={"taints": list(taints), **spec}, status=status)


def taint(key, effect="NoSchedule"):
    return {"key": key, "effect": effect}


def measured(*nodes):
    return values(gpu_nodes.measure(Context(MemoryCluster(*nodes))))


def test_nodes_gpus_and_the_least_memory_are_counted():
    seen = measured(node("a"), node("b", "4", "40960"), node("cpu", ""))
    assert seen == {"nodes": 2, "gpus": 6, "memory_gib_per_gpu": 40}


@pytest.mark.parametrize(
    "off",
    [
        node("off", ready="False"),
        node("off", unschedulable=True),
        node("off", gpus="0"),
        node("off", taints=[taint("maintenance")]),
        node("off", taints=[taint("maintenance", "NoExecute")]),
    ],
)
def test_a_node_that_takes_no_pod_does_not_count(off):
    assert measured(node("a"), off)["nodes"] == 1


@pytest.mark.parametrize("taints", [[taint(gpu_nodes.GPU)], [taint("busy", "PreferNoSchedule")]])
def test_a_taint_that_a_gpu_pod_tolerates_does_not_matter(taints):
    assert measured(node("a", taints=taints))["nodes"] == 1


def test_without_a_gpu_the_memory_is_not_measured():
    assert measured(node("cpu", "")) == {"nodes": 0, "gpus": 0}


def test_a_node_without_the_memory_label_is_an_error():
    with pytest.raises(ProbeError, match="feature discovery"):
        measured(node("a", memory=""))


def test_a_cluster_without_nodes_is_an_error():
    with pytest.raises(ProbeError, match="no node"):
        measured()


def test_the_fault_cordons_the_gpu_nodes_and_opens_them_again():
    cluster = MemoryCluster(node("a"), node("b"), node("cpu", ""))
    asked = Context(cluster)
    with gpu_nodes.GATE.faults[0].plant(asked):
        assert values(gpu_nodes.measure(asked))["nodes"] == 0
        assert not cluster.get("v1", "Node", "cpu")["spec"].get("unschedulable")
    assert values(gpu_nodes.measure(asked))["nodes"] == 2
