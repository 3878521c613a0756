"""The `existing` provider: a cluster that somebody else runs, reached by its kubeconfig."""

from pathlib import Path

from kubernetes import client, config

from conformance.cluster.base import ClusterError

_TIMEOUT_SECONDS = 10


class ExistingCluster:
    """A cluster of yours. Nothing about it is changed by `create` and `delete`."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    @property
    def kubeconfig(self) -> Path:
        """The file that was given."""
        return self._kubeconfig

    def create(self) -> None:
        """Check that it answers."""
        try:
            api = config.new_client_from_config(str(self._kubeconfig))  # type: ignore[no-untyped-call]
            client.VersionApi(api).get_code(_request_timeout=_TIMEOUT_SECONDS)
        except Exception as error:  # the client raises whatever its transports do
            message = (
                f"{self._kubeconfig}: the cluster does not answer ({error}); is it the right file?"
            )
            raise ClusterError(message) from error

    def load_image(self, reference: str) -> None:
        """Refuse: its nodes pull from their registries."""
        raise ClusterError(
            f"{reference}: an existing cluster pulls its images; push it to a registry"
        )

    def delete(self) -> None:
        """Leave it alone."""
