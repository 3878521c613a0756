"""A platform that runs as processes on this machine, as `ragctl up` starts it."""

import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets import describe, envoy, http, logs, metrics
from conformance.targets.base import Description
from conformance.targets.processes import SupervisorProcesses
from conformance.targets.reconfigured import running, started
from conformance.targets.services import Services
from rag_common.files import write_atomic

if TYPE_CHECKING:
    from conformance.targets.kube.client import Cluster


class LocalTarget(Services):
    """Implements `targets.base.Target` for a `target.json`."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.environment = description.environment
        self.processes = SupervisorProcesses(description)

    @classmethod
    def load(cls, file: Path) -> "LocalTarget":
        """The target in `file`; raises `TargetError` when an endpoint does not answer."""
        description = describe.read(file)
        if down := list(describe.unreachable(description)):
            raise TargetError(f"{file}: cannot be reached: {'; '.join(down)}")
        return cls(description)

    @property
    def cluster(self) -> "Cluster":
        """None here: raises `ProbeError`."""
        raise ProbeError("the target names no kubeconfig")

    @contextmanager
    def scheduled_document(self, name: str, text: str) -> Iterator[None]:
        """Inside the block the scheduled source holds a document; nobody starts a sync."""
        folder = Path(self.schedule().source)
        if not folder.is_dir():
            raise ProbeError(f"the scheduled source {folder} is no folder of this machine")
        document = folder / name
        try:
            write_atomic(document, text.encode())
            yield
        finally:
            document.unlink(missing_ok=True)

    def audit_records(
        self, since: datetime | None = None, *, settle: bool = True
    ) -> list[dict[str, Any]]:
        """All audit records so far, in file order."""
        return logs.read_folder(self.description.audit_dir, "audit-*.jsonl", "audit spool")

    def flagged(self) -> list[dict[str, Any]]:
        """The guard's flag log."""
        return logs.read(self.description.flag_log, "flag log")

    def access_records(self) -> list[dict[str, Any]]:
        """The gateway's access log."""
        return logs.read(self.description.access_log, "access log")

    def metrics(self, service: str) -> Mapping[str, float]:
        """A service's Prometheus samples by `name` or `name{label="value",…}`."""
        url = getattr(self.description, f"{service}_url", "")
        if not url:
            raise ProbeError(f"the target has no {service}_url")
        with http.client(url, 10) as session:
            return metrics.parse(session.get("/metrics").raise_for_status().text)

    @contextmanager
    def gateway_filters(self, change: Callable[[envoy.Filters], None]) -> Iterator[None]:
        """Inside the block the gateway runs with its HTTP filters changed in place by `change`."""
        how = started(self.processes.pid("envoy"))
        original = how.command[how.command.index("-c") + 1]
        config = envoy.changed(Path(original).read_text(encoding="utf-8"), change)
        with tempfile.TemporaryDirectory() as folder, self.processes.stopped("envoy"):
            path = Path(folder) / "envoy.yaml"
            path.write_text(config, encoding="utf-8")
            command = [str(path) if part == original else part for part in how.command]
            with running(how._replace(command=command)):
                self.processes.wait_ready("envoy")
                yield

    @contextmanager
    def audit_unwritable(self) -> Iterator[None]:
        """Inside the block retrieval cannot write to any file, as on a full disk (EFBIG)."""
        pid = self.processes.pid("retrieval")
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
