"""gpu-nodes: enough schedulable nodes with enough GPUs, each with enough memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation._probes import condition
from conformance.probes.cluster import Cluster, Object, changed
from conformance.stats import exactly

GPU = "nvidia.com/gpu"
MEMORY = "nvidia.com/gpu.memory"  # MiB of one GPU, by NVIDIA's feature discovery
MIB_PER_GIB = 1024


def measure(context: Context) -> Observation:
    """The nodes that take a pod with a GPU, by what their kubelet says is allocatable."""
    nodes = usable(context.target.cluster)
    gpus = {node["metadata"]["name"]: _gpus(node) for node in nodes}
    memory = {node["metadata"]["name"]: _memory_gib(node) for node in nodes}
    context.evidence.write("gpus.json", {"gpus": gpus, "GiB per GPU": memory})
    metrics = {"nodes": exactly(len(nodes), 1), "gpus": exactly(sum(gpus.values()), 1)}
    if nodes:
        metrics["memory_gib_per_gpu"] = exactly(min(memory.values()), len(nodes))
    return Observation(metrics)


def usable(cluster: Cluster) -> list[Object]:
    """Nodes with a GPU that are Ready and take pods that tolerate a GPU's taint."""
    nodes = cluster.list("v1", "Node")
    if not nodes:
        raise ProbeError("the cluster shows no node")
    return [n for n in nodes if _gpus(n) and condition(n, "Ready")[0] and not _closed(n)]


def _closed(node: Object) -> bool:
    taints = node["spec"].get("taints") or []
    foreign = [t for t in taints if t["effect"] != "PreferNoSchedule" and t["key"] != GPU]
    return bool(node["spec"].get("unschedulable") or foreign)


def _gpus(node: Object) -> int:
    return int((node["status"].get("allocatable") or {}).get(GPU, 0))


def _memory_gib(node: Object) -> float:
    name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
    if MEMORY not in labels:
        raise ProbeError(
            f"node {name} has no label {MEMORY}: does GPU feature discovery run there?"
        )
    return int(labels[MEMORY]) / MIB_PER_GIB


@contextmanager
def _cordoned(context: Context) -> Iterator[None]:
    """Every node with a GPU takes no new pod; what runs there goes on."""
    cluster = context.target.cluster
    with ExitStack() as stack:
        for node in usable(cluster):
            name = node["metadata"]["name"]
            stack.enter_context(
                changed(cluster, "v1", "Node", name, {"spec": {"unschedulable": True}})
            )
        yield


GATE = Gate(
    id="gpu-nodes",
    phase=Phase.FOUNDATION,
    title="GPU nodes for the language model",
    promise="Deploy GPU node pool (2× A100 40GB minimum for 70B model)",
    measure=measure,
    faults=(Fault("every GPU node is cordoned", _cordoned),),
)
