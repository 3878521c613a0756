"""A fake cluster that acts: controllers and answers are what a test writes. Waiting does not wait."""

import itertools
from copy import deepcopy
from types import SimpleNamespace

from conformance.gate import ProbeError
from conformance.probes.cluster import ApiError
from conformance.targets.kube.client import ref_of
from conformance.tests._fake_cluster import FakeCluster, FakeContext, made


def _labelled(item, wanted, unwanted):
    labels = item["metadata"].get("labels", {})
    return wanted.items() <= labels.items() and not unwanted & labels.keys()


class MemoryCluster(FakeCluster):
    """Tells `on_create`, `on_patch` and `on_delete`, which may return the object as it then is."""

    def __init__(self, *items):
        super().__init__()
        self.made, self.uids = set(), itertools.count(1)
        self.on_create = self.on_patch = self.on_delete = lambda item: None
        self.answers = {}  # path of `raw` or `proxy` to what it answers, or raises
        self.missing_kinds = set()
        for item in items:
            self.put(item)

    def put(self, item):
        """The object is there as it is, with a new identity unless it has one."""
        item = deepcopy(item)
        item["metadata"].setdefault("uid", f"uid-{next(self.uids)}")
        self.objects[ref_of(item)] = item
        return deepcopy(item)

    def list(self, api_version, kind, namespace="", labels=""):
        if kind in self.missing_kinds:
            raise ApiError(f"{api_version} {kind}", 404, "no such kind here")
        wanted = dict(pair.split("=") for pair in labels.split(",") if "=" in pair)
        unwanted = {name[1:] for name in labels.split(",") if name.startswith("!")}
        found = super().list(api_version, kind, namespace, labels)
        return [i for i in found if _labelled(i, wanted, unwanted)]

    def create(self, item, *, dry_run=False):
        answer = self.on_create(deepcopy(item))
        if dry_run:
            return item
        self.made.add(ref_of(item))
        return self.put(answer or item)

    def apply(self, item):
        return self.put(item)

    def patch(self, api_version, kind, name, body, namespace=""):
        item = super().patch(api_version, kind, name, body, namespace)
        return self.put(self.on_patch(item) or item)

    def delete(self, api_version, kind, name, namespace="", *, now=False):
        gone = self.objects.pop((api_version, kind, name, namespace), None)
        if gone:
            self.on_delete(gone)

    def raw(self, path, params=None, **more):
        answer = self.answers.get(path, ApiError(path, 404, "not found"))
        if callable(answer):
            answer = answer(params or {})
        if isinstance(answer, Exception):
            raise answer
        return deepcopy(answer)

    def proxy(self, namespace, service, port, path="/", params=None):
        return self.raw(f"{namespace}/{service}:{port}/{path.lstrip('/')}", params)

    def logs(self, namespace, pod, container="", *, previous=False, lines=0):
        return self.raw(f"log {namespace}/{pod}")

    def wait(self, holds, seconds, what):
        if answer := holds():
            return answer
        raise ProbeError(f"{what}: not within {seconds:g} s")

    @property
    def planted(self):
        """What was made and not taken away."""
        return sorted(self.made & self.objects.keys())


class Context(FakeContext):
    """A gate's context over `cluster`; a parameter that is not given is an error."""

    def __init__(self, cluster, revision="", **parameters):
        super().__init__(cluster, **parameters)
        self.target.description = SimpleNamespace(revision=revision)

    def parameter(self, name):
        if name not in self.parameters:
            raise ProbeError(f"no parameter {name}")
        return super().parameter(name)


def values(observation):
    """The metrics' values by name."""
    return {name: m.value for name, m in observation.metrics.items()}


def named(kind, name, namespace="", api_version="v1", /, **content):
    """An object; labels, annotations and generation go into its metadata."""
    metadata = {k: content.pop(k) for k in ("labels", "annotations", "generation") if k in content}
    return made(kind, name, namespace, api_version, metadata=metadata, **content)
