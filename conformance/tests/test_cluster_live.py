"""A cluster that Flux keeps: all is applied, all runs, and what is changed by hand comes back."""

import time

import pytest
from kubernetes import client, config

from conformance.cluster.flux import Flux

pytest_plugins = ["conformance.cluster.fixture"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
DRIFT_SECONDS = 90


@pytest.fixture
def api(cluster):
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


def test_everything_is_applied(cluster):
    Flux(cluster.kubeconfig).wait("", 120, lambda text: None)
    assert [item for item in Flux(cluster.kubeconfig).everything() if not item.ready] == []


def test_every_pod_runs_or_has_ended_well(api):
    for pod in api.list_pod_for_all_namespaces().items:
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        assert pod.status.phase in {"Running", "Succeeded"}, where
        if pod.status.phase == "Running":
            states = pod.status.container_statuses
            assert all(container.ready for container in states), where


def test_what_is_edited_by_hand_is_put_back(api):
    name, namespace = "prometheus", "monitoring"
    at = next(m for m in api.list_namespaced_config_map(namespace).items if name in m.metadata.name)
    key = next(iter(at.data))
    edited = {"data": {key: at.data[key] + "\n# by hand\n"}}
    api.patch_namespaced_config_map(at.metadata.name, namespace, edited)
    deadline = time.monotonic() + DRIFT_SECONDS
    while api.read_namespaced_config_map(at.metadata.name, namespace).data != at.data:
        assert time.monotonic() < deadline, f"not put back within {DRIFT_SECONDS} s"
        time.sleep(1)
