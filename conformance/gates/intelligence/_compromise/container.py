"""Getting out of the container: tried in the pod in its place, and in the real ones with their shell."""

from collections.abc import Callable, Iterator

from conformance.gate import ProbeError
from conformance.gates.foundation._credentials import configured
from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.gates.intelligence._compromise.footholds import Foothold
from conformance.gates.intelligence._compromise.targets import runs
from conformance.probes.cluster import Cluster, Object, containers, probes_own
from conformance.probes.cluster.dialling import run
from conformance.targets.layers.places import ACCOUNT

FAMILY = "container"
_LIMIT_SECONDS = 60.0
_NO_SHELL = ("executable file not found", "no such file or directory", "OCI runtime exec failed")
_HOST = ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace")
# A line `name=value` each; then the environment. Nothing but a shell is needed.
_FACTS = r"""
while read -r key value rest; do case "$key" in
  Uid:|CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) echo "$key$value" ;; esac
done < /proc/self/status
written=""
for folder in / /etc /usr/bin /app /opt; do
  file="$folder/.rag-conformance"
  if (: > "$file") 2>/dev/null; then written="$written $folder"; rm -f "$file"; fi
done
echo "written:$written"
node=""
for file in /proc/[0-9]*/comm; do
  read -r name < "$file" 2>/dev/null && case "$name" in
    kubelet|containerd|dockerd|crio|etcd|kube-apiserver) node="$node $name" ;; esac
done
echo "node:$node"
sockets=""
for file in /run/containerd/containerd.sock /var/run/docker.sock /run/crio/crio.sock; do
  [ -e "$file" ] && sockets="$sockets $file"
done
echo "sockets:$sockets"
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do
  if (: >> "$file") 2>/dev/null; then echo "kernel:$file"; fi
done
echo "environment:"
export -p
"""


def tried(cluster: Cluster, foothold: Foothold) -> Iterator[Attempt]:
    """Every way out of the pod in its place; raises `ProbeError`."""
    told: dict[str, tuple[bool, str]] = run(cluster, foothold.pod, "escape", {}, _LIMIT_SECONDS)
    for what, (got, said) in told.items():
        yield Attempt(str(foothold), FAMILY, what, got, said)


def real(cluster: Cluster, foothold: Foothold) -> Iterator[Attempt]:
    """What the containers of one running pod of the workload are; none where none runs."""
    labels = f"{ACCOUNT}={foothold.account}"
    pods = [
        pod
        for pod in cluster.list("v1", "Pod", foothold.namespace, labels)
        if not probes_own(pod) and runs(pod)
    ]
    for pod in pods[:1]:
        yield from _of_spec(foothold, pod)
        for name in _running(pod):
            yield from _inside(cluster, foothold, pod, name)


def _running(pod: Object) -> list[str]:
    status = pod["status"]
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    alive = {s["name"] for s in every if "running" in (s.get("state") or {})}
    return [name for name in containers(pod) if name in alive]


def _of_spec(foothold: Foothold, pod: Object) -> Iterator[Attempt]:
    spec = pod["spec"]
    shared = [name for name in _HOST if spec.get(name)]
    told = ", ".join(shared) or "none"
    yield Attempt(str(foothold), FAMILY, "share namespaces of the node", bool(shared), told)
    paths = [v["hostPath"]["path"] for v in spec.get("volumes") or [] if "hostPath" in v]
    told = ", ".join(paths) or "none"
    yield Attempt(str(foothold), FAMILY, "have folders of the node", bool(paths), told)


def _inside(cluster: Cluster, foothold: Foothold, pod: Object, name: str) -> Iterator[Attempt]:
    meta = pod["metadata"]
    try:
        text = cluster.exec(meta["namespace"], meta["name"], name, ["/bin/sh", "-c", _FACTS])
    except ProbeError as error:
        shell = not any(told in str(error) for told in _NO_SHELL)
        got, said = (None, str(error)) if shell else (False, "it has no shell")
        yield Attempt(str(foothold), FAMILY, f"use the shell of {name}", got, said)
        return
    for what, (got, said) in facts(text).items():
        yield Attempt(str(foothold), FAMILY, f"{what}, in {name}", got, said)


def facts(text: str) -> dict[str, tuple[bool | None, str]]:
    """What the shell told, as attempts: None for a fact that is missing."""
    head, _, environment = text.partition("environment:\n")
    pairs = [line.partition(":") for line in head.splitlines()]
    told = {key: value.strip() for key, _, value in pairs}
    credentials = sorted(_credentials(environment))
    return {
        "be root": _fact(told, "Uid", lambda v: v == "0"),
        "have a capability": _fact(told, "CapEff", lambda v: int(v, 16) != 0),
        "gain a capability by a program": _fact(
            told, "CapBnd", lambda v: int(v, 16) != 0 and told.get("NoNewPrivs") != "1"
        ),
        "make any system call": _fact(told, "Seccomp", lambda v: v != "2"),
        "write the root file system": _fact(told, "written", bool),
        "see a process of the node": _fact(told, "node", bool),
        "reach the container runtime": _fact(told, "sockets", bool),
        "set the kernel": ("kernel" in told, told.get("kernel", "read-only")),
        "find a credential in the environment": (
            bool(credentials) if environment else None,
            ", ".join(credentials) or "none",
        ),
    }


def _fact(told: dict[str, str], name: str, wrong: Callable[[str], bool]) -> tuple[bool | None, str]:
    if name not in told:
        return None, f"{name} is not told"
    return wrong(told[name]), told[name] or "none"


def _credentials(environment: str) -> Iterator[str]:
    """Names of variables that hold one, of lines as `export -p` prints them."""
    for line in environment.splitlines():
        name, _, value = line.removeprefix("declare -x ").removeprefix("export ").partition("=")
        if any(configured(name, value.strip("'\""))):
            yield name
