"""A Deployment under a ScaledObject, whose replicas are what a test says."""

from conformance.probes.cluster.scaling import KEDA
from conformance.tests._memory_cluster import MemoryCluster, named

OFFICE = {
    "timezone": "Europe/Berlin",
    "start": "0 8 * * 1-5",
    "end": "0 18 * * 1-5",
    "desiredReplicas": "1",
}
QUEUE = {"type": "prometheus", "metadata": {"query": "sum(rag_inference_queue_depth)"}}


class Elastic(MemoryCluster):
    """`count(spec of the ScaledObject)` is how many replicas there are, all of them ready."""

    def __init__(self, namespace, deployment, count, **spec):
        spec = {
            "scaleTargetRef": {"name": deployment},
            "maxReplicaCount": 4,
            "triggers": [],
            **spec,
        }
        self.ref = (KEDA, "ScaledObject", "scaler", namespace)
        super().__init__(named("ScaledObject", "scaler", namespace, KEDA, spec=spec))
        self.count, self.deployment = count, (deployment, namespace)

    @property
    def spec(self):
        return self.objects[self.ref]["spec"]

    def get(self, api_version, kind, name, namespace=""):
        if kind == "Deployment" and (name, namespace) == self.deployment:
            number = self.count(self.spec)
            status = {"replicas": number, "readyReplicas": number}
            return named(
                kind, name, namespace, api_version, spec={"replicas": number}, status=status
            )
        return super().get(api_version, kind, name, namespace)
