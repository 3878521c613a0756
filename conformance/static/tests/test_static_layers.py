"""What several objects of an environment say must be the same: store, bucket, number of tenants."""

import pytest

from conformance.static import environment
from conformance.static.pods import pods
from rag_audit import topics

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


TOPICS = {"audit", "audit.dead-letter", "documents", "documents.dead-letter"}


@EVERY
def test_each_topic_that_programs_name_is_made(name):
    loaded = environment.load(name)
    made = [item["metadata"]["name"] for item in loaded.of("KafkaTopic")]
    made += [
        word.partition(":")[0]
        for pod in pods(loaded)
        for container in pod.containers()
        if pod.labels.get("app.kubernetes.io/name") == "topics"
        for word in container["args"]
        if not word.startswith("--")
    ]
    assert sorted(made) == sorted(TOPICS)


def test_topics_of_a_cloud_are_set_as_the_labs_job_sets_them():
    for item in environment.load("staging").of("KafkaTopic"):
        spec = item["spec"]
        days = spec["config"]["retention.ms"] // 86_400_000
        wanted = topics.Topic(item["metadata"]["name"], spec["partitions"], days).settings(2)
        said = {key: str(value).lower() for key, value in spec["config"].items()}
        assert said == wanted and spec["replicas"] == 3


def test_logins_of_a_cloud_have_the_rights_that_the_labs_have():
    (job,) = (
        container
        for pod in pods(environment.load("lab"))
        for container in pod.containers()
        if pod.labels.get("app.kubernetes.io/name") == "topics" and container["name"] == "topics"
    )
    words = [word.removeprefix("--allow=") for word in job["command"] if "--allow=" in word]
    wanted = {tuple(word.split(":")) for word in words}
    found = {
        (user["metadata"]["name"], _right(acl), acl["resource"]["name"])
        for user in environment.load("staging").of("KafkaUser")
        for acl in user["spec"]["authorization"]["acls"]
    }
    assert found == wanted and len(wanted) == 7


def _right(acl):
    (operation,) = acl["operations"]
    return "group" if acl["resource"]["type"] == "group" else operation.lower()
