"""`python -m conformance.static.admission [ENVIRONMENT]`: what a real API server says to every object.

A throwaway etcd and API server get the real CRDs and the environment's namespaces; every object is then
applied in a server-side dry run, and every pod template as a pod, so that Pod Security Admission judges
it. What charts make of our values and upstream's install manifests under our patches are applied too.
Not judged: what webhooks would say.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator

import httpx

from conformance.errors import SuiteError
from conformance.static import unserved
from conformance.static.apiserver import throwaway
from conformance.static.environment import Environment, load
from conformance.static.finding import Finding, Object, name_of
from conformance.static.pods import Pod, pods
from conformance.static.sources import definitions
from conformance.static.upstream import expand

_MANAGER = "kustomize-controller"
_OF_A_RUNTIME = ("containers", "volumes", "nodeSelector", "tolerations", "affinity")
_DRY = {"dryRun": "All"}
_ESTABLISHED_SECONDS = 60.0


class Api:
    """Server-side apply over plain HTTP; resource names come from the server's own discovery."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._known: dict[str, dict[str, tuple[str, bool]]] = {}

    def apply(self, item: Object, *, dry: bool) -> str | None:
        """What the server has against the object, or nothing."""
        path = self._path(item)
        if path is None:
            return f"the server has no {item['apiVersion']} {item['kind']}"
        query = {"fieldManager": _MANAGER, "force": "true", "fieldValidation": "Strict"}
        answer = self._client.patch(
            path,
            params={**query, **(_DRY if dry else {})},
            content=json.dumps(item),
            headers={"content-type": "application/apply-patch+yaml"},
        )
        return None if answer.is_success else str(answer.json().get("message", answer.text))

    def knows(self, item: Object) -> bool:
        """Whether the server serves the object's kind by now."""
        self._known.pop(item["apiVersion"], None)
        return self._path(item) is not None

    def _path(self, item: Object) -> str | None:
        version = item["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = self._resources(version, root)
        if item["kind"] not in resources:
            return None
        plural, namespaced = resources[item["kind"]]
        meta = item["metadata"]
        scope = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{meta['name']}"

    def _resources(self, version: str, root: str) -> dict[str, tuple[str, bool]]:
        if version not in self._known:
            answer = self._client.get(root)
            listed = answer.json().get("resources", []) if answer.is_success else []
            self._known[version] = {
                r["kind"]: (r["name"], r["namespaced"]) for r in listed if "/" not in r["name"]
            }
        return self._known[version]


def judge(environment: Environment, client: httpx.Client) -> Iterator[Finding]:
    """What the server refuses of the environment; raises `SuiteError` when its CRDs do not stand."""
    api = Api(client)
    _prepare(environment, api)
    for item in environment.objects:
        if item["apiVersion"].partition("/")[0] in unserved.groups():
            continue
        if said := api.apply(item, dry=True):
            yield Finding("admission", name_of(item), said)
    for pod in pods(environment):
        if pod.owner["kind"] not in ("Pod", "InferenceService") and (
            said := api.apply(_pod(pod), dry=True)
        ):
            yield Finding("admission", f"the pod of {pod.where}", said)


def _prepare(environment: Environment, api: Api) -> None:
    """Make for real, on the throwaway server, what the others need: CRDs, namespaces, priorities."""
    crds = list(definitions())
    flux: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}}
    for item in [*crds, flux, *environment.of("Namespace", "PriorityClass")]:
        if said := api.apply(item, dry=False):
            raise SuiteError(f"{name_of(item)} cannot be made: {said}")
    deadline = time.monotonic() + _ESTABLISHED_SECONDS
    for crd in crds:
        while not api.knows(_sample(crd)):
            if time.monotonic() > deadline:
                raise SuiteError(f"{name_of(crd)} is not served after {_ESTABLISHED_SECONDS:.0f} s")
            time.sleep(0.2)


def _sample(crd: Object) -> Object:
    spec = crd["spec"]
    served = next(v["name"] for v in spec["versions"] if v["served"])
    version = f"{spec['group']}/{served}"
    return {"apiVersion": version, "kind": spec["names"]["kind"], "metadata": {"name": "x"}}


def _pod(pod: Pod) -> Object:
    """The pod that a template makes; its claims are the StatefulSet controller's to fill in."""
    spec = copy.deepcopy(pod.spec)
    if pod.owner["kind"] == "ServingRuntime":
        spec = {key: value for key, value in spec.items() if key in _OF_A_RUNTIME}
    for claim in (pod.owner.get("spec") or {}).get("volumeClaimTemplates") or []:
        spec.setdefault("volumes", []).append({"name": claim["metadata"]["name"], "emptyDir": {}})
    meta = {"name": pod.owner["metadata"]["name"], "namespace": pod.namespace, "labels": pod.labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def main() -> int:
    """Print every refusal; 0 when there is none, 1 when there is one, 2 when it could not be judged."""
    parser = argparse.ArgumentParser(prog="python -m conformance.static.admission")
    parser.add_argument("environment", nargs="?", default="lab")
    name = parser.parse_args().environment
    try:
        environment = expand(load(name))
        with throwaway() as client:
            found = sorted(judge(environment, client))
    except SuiteError as error:
        print(error, file=sys.stderr)
        return 2
    for finding in found:
        print(f"{name}: {finding}")
    print(f"{name}: {len(environment.objects)} objects, {len(found)} refused")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
