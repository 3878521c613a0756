"""What several objects of an environment say must be the same: store, bucket, number of tenants."""

import pytest

from conformance.static import environment
from conformance.static.pods import pods

EVERY = pytest.mark.parametrize("name", environment.names())
SHARED = ("VECTOR_DB_URL", "SOURCE_BUCKET", "S3_ENDPOINT_URL", "EVENTS_URL")


def said(loaded: environment.Environment, variable: str) -> dict[str, str]:
    """The variable's value in each container of the layers that has it."""
    return {
        f"{pod.where} {container['name']}": entry["value"]
        for pod in pods(loaded)
        for container in pod.containers()
        for entry in container.get("env") or []
        if entry["name"] == variable and pod.namespace.startswith("rag-")
    }


@EVERY
@pytest.mark.parametrize("variable", SHARED)
def test_every_part_means_the_same(name, variable):
    found = said(environment.load(name), variable)
    assert found and len(set(found.values())) == 1, found


@EVERY
def test_whoever_reads_documents_knows_where_they_are(name):
    loaded = environment.load(name)
    readers = {
        f"{pod.where} {container['name']}"
        for pod in pods(loaded)
        for container in pod.containers()
        if pod.labels.get("app.kubernetes.io/name") == "ingestion"
    }
    assert len(readers) == 2  # the schedule and the events
    assert readers == set(said(loaded, "SOURCE_BUCKET")) & set(said(loaded, "S3_ENDPOINT_URL"))


@EVERY
def test_each_tenant_of_the_list_is_synced(name):
    loaded = environment.load(name)
    (schedule,) = (x for x in loaded.of("CronJob") if x["metadata"]["name"] == "rag-doc-ingestion")
    spec = schedule["spec"]["jobTemplate"]["spec"]
    lists = [
        item["data"]["tenants.txt"]
        for item in loaded.of("ConfigMap")
        if item["metadata"]["namespace"] == "rag-ingestion" and "tenants.txt" in item["data"]
    ]
    assert [spec["completions"]] == [len(text.splitlines()) for text in lists]
