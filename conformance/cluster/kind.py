"""The `kind` provider: Kubernetes in Docker, through pytest-kind, where a Docker engine answers."""

import contextlib
import subprocess
from pathlib import Path
from shutil import which

from pytest_kind import KindCluster as Kind

from conformance.cluster.base import ClusterError

_TIMEOUT_SECONDS = 10


def docker_answers() -> bool:
    """Whether there is a Docker engine that this user may use."""
    if which("docker") is None:
        return False
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    try:
        found = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return found.returncode == 0


class KindCluster:
    """A kind cluster; its kubeconfig stays in `state`."""

    def __init__(self, name: str, state: Path) -> None:
        self._kubeconfig = state / "kubeconfig"
        state.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(state):  # pytest-kind makes a folder wherever it is called
            self._kind = Kind(name, kubeconfig=self._kubeconfig, kind_path=state / "kind")

    @property
    def kubeconfig(self) -> Path:
        """The file that kind writes."""
        return self._kubeconfig

    def create(self) -> None:
        """Make it unless it is there."""
        self._call("create")

    def load_image(self, reference: str) -> None:
        """Copy an image from Docker into its nodes."""
        self._call("load_docker_image", reference)

    def delete(self) -> None:
        """Remove its containers."""
        self._call("delete")
        self._kubeconfig.unlink(missing_ok=True)

    def _call(self, operation: str, *arguments: object) -> None:
        try:
            getattr(self._kind, operation)(*arguments)
        except Exception as error:  # kind's exit code, a failed download, Docker's own trouble
            raise ClusterError(f"kind {operation} {self._kind.name}: {error}") from error
