"""Probes of a live Kubernetes cluster; all of it works on any cluster with an administrator's kubeconfig.

Everything here raises `ProbeError` when the cluster could not be asked: never a verdict.

- `Cluster(kubeconfig)`: get, find, list, create, apply, patch and delete of any kind by apiVersion and
  kind; exec, logs, proxy, token, raw; `wait(holds, seconds, what)` polls. A refusal of the API server is
  an `ApiError` with the HTTP `status` and the server's `message`.
- `planted(cluster, *objects, evidence=None)`: inside the block the objects are there, labelled with the
  run; gone after it. Their kinds are those of `KINDS`, so that `sweep(cluster)` finds what a killed run
  left; `clear(cluster)` waits until all of this run's is gone.
- `changed(cluster, api_version, kind, name, patch, namespace="")`: inside the block an object of the
  platform's is patched and Flux leaves it alone; the patch is undone after it, by `sweep` if need be.
- `probe_pod(name, namespace, image, script, args=(), ...)`: a pod within Pod Security `restricted` that
  runs one of `scripts/` (`serve`, `dial`, `ask`, `watch`). `running(cluster, pods)` waits for it.
- `dial(cluster, pod, dials)`: connections really tried from a running probe pod; `await_open`
  waits until all of them connect.
- `ask(cluster, pod, requests, ca)`: HTTPS requests from a running probe pod; secrets travel on stdin.
"""

from conformance.probes.cluster.asking import Reply, Request, ask
from conformance.probes.cluster.dialling import Answer, Dial, await_open, dial
from conformance.targets.kube.autopsy import containers
from conformance.targets.kube.changing import changed
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import ApiError, Object, Objects
from conformance.targets.kube.planting import FAULT, KINDS, LABEL, planted, probes_own, unique
from conformance.targets.kube.pods import CONTAINER, probe_pod, running, statuses
from conformance.targets.kube.sweeping import clear, sweep

__all__ = [
    "CONTAINER",
    "FAULT",
    "KINDS",
    "LABEL",
    "Answer",
    "ApiError",
    "Cluster",
    "Dial",
    "Object",
    "Objects",
    "Reply",
    "Request",
    "ask",
    "await_open",
    "changed",
    "clear",
    "containers",
    "dial",
    "planted",
    "probe_pod",
    "probes_own",
    "running",
    "statuses",
    "sweep",
    "unique",
]
