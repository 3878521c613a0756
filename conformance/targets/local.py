"""A platform that runs as processes on this machine, as `ragctl up` starts it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets import describe, http, logs, metrics
from conformance.targets.base import Description
from conformance.targets.processes import SupervisorProcesses
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

    def audit_records(self) -> list[dict[str, Any]]:
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
