"""A platform on a Kubernetes cluster, reached by an administrator's kubeconfig."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.targets import describe
from conformance.targets.base import Description, RateLimit, Schedule
from conformance.targets.kube.client import Cluster
from conformance.targets.layers import doors, edge, objects, records, schedule
from conformance.targets.layers.places import forward
from conformance.targets.layers.processes import ClusterProcesses
from conformance.targets.layers.secrets import Secrets
from conformance.targets.layers.vault import Vault
from conformance.targets.services import Services

_CLOCKS = timedelta(minutes=1)  # by which this machine's may be ahead of the cluster's

_LASTING, _ABOUT = "about.md", b"# Schedule\n\nThe conformance suite's own source; it stays.\n"


class ClusterTarget(Services):
    """Implements `targets.base.Target` for a cluster; the layers are reached when a gate asks."""

    def __init__(self, description: Description, kubeconfig: Path) -> None:
        self.environment = description.environment
        self.cluster = Cluster(kubeconfig)
        self.told = description
        self._since = datetime.now(UTC) - _CLOCKS

    @classmethod
    def load(cls, file: Path) -> "ClusterTarget":
        """The target in `file`; raises `TargetError` when its cluster does not answer."""
        description = describe.read(file)
        if description.kubeconfig is None:
            raise TargetError(f"{file}: names no kubeconfig")
        target = cls(description, description.kubeconfig)
        try:
            target.cluster.raw("/version")
        except ProbeError as error:
            raise TargetError(f"{file}: {error}; is the cluster up?") from error
        return target

    @cached_property
    def vault(self) -> Vault:
        """The platform's vault, as the suite's own account."""
        return Vault(self.cluster)

    @cached_property
    def secrets(self) -> Secrets:
        """The suite's keys and logins."""
        return Secrets(self.told, self.vault)

    @cached_property
    def processes(self) -> ClusterProcesses:
        """The layers' workloads."""
        return ClusterProcesses(self.cluster)

    @cached_property
    def description(self) -> Description:  # type: ignore[override]  # made on first use
        """`target.json`; what it does not name is a door into the cluster or a secret of its vault."""
        extra = {**self.told.extra, "second_api_keys": self.secrets.second_api_keys}
        urls = doors.urls(self.cluster, self.told)
        return replace(self.told, **urls, api_keys=self.secrets.api_keys, extra=extra)

    def outside(self) -> str:
        """The gateway's URL for clients that no node's agent carries; '' where only a door leads in."""
        return self.told.gateway_url or doors.outside(self.cluster)

    def _key(self, name: str) -> Path:
        return self.secrets.key(name)

    def _credentials_file(self, login: str) -> Path:
        return self.secrets.credentials(login)

    def _jwt_settings(self) -> Mapping[str, Any]:
        return {**edge.jwt_settings(self.cluster), **self.told.extra}

    @contextmanager
    def audit_unwritable(self) -> Iterator[None]:
        """Inside the block the log that retrieval writes its audit records to is down."""
        with self.processes.stopped("kafka"):
            yield

    def metrics(self, service: str) -> Mapping[str, float]:
        """A service's Prometheus samples, of all its pods together; see `doors.metrics`."""
        return doors.metrics(self.cluster, service)

    def rate_limit(self, tenant: str) -> RateLimit:
        """What the gateway is declared to allow the tenant."""
        if tenant in self.told.rate_limits:
            return self.told.rate_limits[tenant]
        return edge.rate_limit(self.cluster, tenant)

    def gateway_filters(
        self, change: Callable[[edge.Filters], None]
    ) -> AbstractContextManager[None]:
        """Inside the block the gateway runs with its HTTP filters changed in place by `change`."""
        return edge.filters_changed(self.cluster, change)

    def schedule(self) -> Schedule:
        """The declared schedule of the ingestion."""
        return self.told.schedule or schedule.declared(self.cluster)

    @contextmanager
    def scheduled_document(self, name: str, text: str) -> Iterator[None]:
        """Inside the block the scheduled source holds a document; nobody starts a sync."""
        bucket, _, prefix = self.schedule().source.removeprefix("s3://").partition("/")
        key = f"{prefix.rstrip('/')}/{name}".lstrip("/")
        found = self.vault.secret("object-store")
        keys = objects.Keys(str(found["access_key"]), str(found["secret_key"]))
        with forward(self.cluster, "object-store") as door:
            endpoint = f"http://{door.address}"
            lasting = f"{key.removesuffix(name)}{_LASTING}"  # a source that empties stops its sync
            objects.put(endpoint, keys, bucket, lasting, _ABOUT)
            objects.put(endpoint, keys, bucket, key, text.encode())
            try:
                yield
            finally:
                objects.delete(endpoint, keys, bucket, key)

    def audit_records(
        self, since: datetime | None = None, *, settle: bool = True
    ) -> list[dict[str, Any]]:
        """All audit records from `since`, or this run's beginning, on, in the order of their times."""
        first = (since or self._since).isoformat(timespec="seconds")
        return records.audit(self.cluster, self.vault, first, settle=settle)

    def flagged(self) -> list[dict[str, Any]]:
        """The guard's flag log, as far as its pods' logs reach."""
        return records.flagged(self.cluster)

    def access_records(self) -> list[dict[str, Any]]:
        """The gateway's access log, as far as its pods' logs reach."""
        return records.access(self.cluster)
