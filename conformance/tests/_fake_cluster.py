"""A cluster in memory: objects by kind, and what the test says about everything else."""

import json
from copy import deepcopy

from conformance.probes.cluster import ApiError, Cluster
from conformance.targets.kube.client import ref_of


class FakeCluster(Cluster):
    """Keeps objects as a cluster would; `admit` may refuse or change what is created."""

    def __init__(self, *items):
        super().__init__("no kubeconfig")
        self.objects = {}
        self.admit = lambda item: item
        self.commands = lambda namespace, pod, order: []
        self.log = lambda namespace, pod: ""
        for item in items:
            self.objects[ref_of(item)] = item

    def get(self, api_version, kind, name, namespace=""):
        try:
            return deepcopy(self.objects[api_version, kind, name, namespace])
        except KeyError:
            raise ApiError(f"get {kind} {name}", 404, "not found") from None

    def list(self, api_version, kind, namespace="", labels=""):
        found = [v for k, v in self.objects.items() if k[:2] == (api_version, kind)]
        key = labels.partition("=")[0]
        return [
            deepcopy(i)
            for i in found
            if namespace in ("", i["metadata"].get("namespace"))
            and (not key or key in i["metadata"].get("labels", {}))
        ]

    def create(self, item, *, dry_run=False):
        made = self.admit(deepcopy(item))
        if not dry_run:
            self.objects[ref_of(item)] = made
        return deepcopy(made)

    def patch(self, api_version, kind, name, body, namespace=""):
        item = self.objects[api_version, kind, name, namespace]
        _merge(item, body)
        return deepcopy(item)

    def delete(self, api_version, kind, name, namespace="", *, now=False):
        self.objects.pop((api_version, kind, name, namespace), None)

    def exec(self, namespace, pod, container, command, stdin="", seconds=30):
        return json.dumps(self.commands(namespace, pod, json.loads(stdin)))

    def logs(self, namespace, pod, container="", *, previous=False, lines=0):
        return self.log(namespace, pod)

    def token(self, namespace, account, audiences=()):
        return f"{namespace}/{account}"


def _merge(item, patch):
    for key, value in patch.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict):
            _merge(item.setdefault(key, {}), value)
        else:
            item[key] = value


def made(kind, name, namespace="", api_version="v1", **fields):
    """An object."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata |= fields.pop("metadata", {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


class FakeEvidence:
    """Keeps what is written."""

    def __init__(self):
        self.files = {}

    def write(self, name, data):
        self.files[name] = data if isinstance(data, str | dict) else list(data)


class FakeTarget:
    """A target that is a cluster only."""

    environment = "lab"

    def __init__(self, cluster):
        self.cluster = cluster


class FakeContext:
    """Parameters from a dictionary."""

    def __init__(self, cluster, **parameters):
        self.target = FakeTarget(cluster)
        self.evidence = FakeEvidence()
        self.parameters = {"probe_image": "probe:1", **parameters}

    def parameter(self, name):
        return self.parameters[name]

    def progress(self, done, total, what=""):
        pass
