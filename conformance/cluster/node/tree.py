"""The node's file tree: Debian's, with the lab's configuration and programs in it."""

import hashlib
import shutil
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import debian, images, programs
from conformance.cluster.node.commands import run
from conformance.cluster.node.config import DATA, State, network
from conformance.cluster.node.files import feed, place, under
from rag_common.files import write_atomic

_KUBERNETES = ("kubeadm", "kubectl", "kubelet")
_TOOLS = ("crane",)
_HOSTS_TOML = """\
server = "http://{registry}/v2/{upstream}"
override_path = true

[host."http://{registry}/v2/{upstream}"]
  capabilities = ["pull", "resolve"]
  override_path = true
"""


def prepare(state: State) -> bool:
    """Make the tree if it is not there, bring it up to date; whether its configuration changed."""
    if not state.tree.exists():
        extract(state)
    for name in _KUBERNETES:
        place(programs.program("kube"), state.tree / "usr/local/bin" / name)
    for name in _TOOLS:
        place(programs.program(name), state.tree / "usr/local/bin" / name)
    return configure(state)


def configure(state: State) -> bool:
    """Lay the lab's configuration over the tree, once: a network plugin may have changed its own since."""
    done, digest = state.tree / "etc/lab/.digest", _digest()
    if done.exists() and done.read_text(encoding="utf-8") == digest:
        return False
    shutil.copytree(DATA / "rootfs", state.tree, dirs_exist_ok=True)
    shutil.copytree(state.tree / "usr/lib/cni", state.tree / "opt/cni/bin", dirs_exist_ok=True)
    for upstream in upstream_registries():
        text = _HOSTS_TOML.format(registry=network().registry, upstream=upstream)
        write_atomic(state.tree / f"etc/containerd/certs.d/{upstream}/hosts.toml", text.encode())
    write_atomic(state.tree / "etc/kubernetes/kubeadm.yaml", (DATA / "kubeadm.yaml").read_bytes())
    write_atomic(done, digest.encode())
    return True


def _digest() -> str:
    total = hashlib.sha256((DATA / "kubeadm.yaml").read_bytes())
    feed(total, DATA, under(DATA / "rootfs"))
    total.update("\n".join(upstream_registries()).encode())
    return total.hexdigest()


def upstream_registries() -> list[str]:
    """The registries whose names the images go by."""
    return sorted({reference.partition("/")[0] for reference in images.declared()})


def extract(state: State) -> None:
    """Unpack Debian's tree, whole or not at all."""
    partial = state.tree.with_name(f".{state.tree.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    run(["tar", "-x", "-p", "--numeric-owner", "-f", debian.tree("node"), "-C", partial])
    partial.rename(state.tree)


def remove(state: State) -> None:
    """Remove the lab's folder; raises `ClusterError` where something is still mounted in it."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if Path(line.split()[1]).is_relative_to(state.root):
            raise ClusterError(f"{line.split()[1]} is still mounted; unmount it, then try again")
    if state.root.exists():
        shutil.rmtree(state.root)


def tools(state: State) -> Path:
    """The folder with `kubectl` and `helm` of the lab's versions, for use from the machine."""
    folder = state.root / "bin"
    place(programs.program("kube"), folder / "kubectl")
    place(programs.program("helm"), folder / "helm")
    return folder
