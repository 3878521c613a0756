"""The lab's object store lets each account do its own and shuts its inner ports; the sync's script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from botocore.exceptions import ClientError

from conformance.gates.intelligence._compromise import data
from conformance.static.environment import ROOT
from conformance.targets.kube.scripts import service_raid
from conformance.tests import _object_store
from conformance.tests._powers import declared_for

LAB = _object_store.LAB
SYNC = ROOT / "apps/ingestion/base/schedule/sync.sh"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with _object_store.running(tmp_path_factory.mktemp("weed")) as made:
        yield made


@pytest.fixture(scope="module")
def buckets(store, tmp_path_factory):
    """Made by the Job's script, twice."""
    keys = store.keys("rag-ingestion/buckets", tmp_path_factory.mktemp("keys"))
    environment = {**os.environ, "S3_ENDPOINT_URL": store.url, "S3_CREDENTIALS_FILE": str(keys)}
    (container,) = yaml.safe_load((LAB / "buckets/job.yaml").read_text())["spec"]["template"][
        "spec"
    ]["containers"]
    words = [sys.executable, LAB / "buckets/buckets.py", *container["command"][2:]]
    told = [
        subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert told[0].count("made") == 2
    assert told[1].count("was there") == 2


def _listening(pid):
    """Addresses (hex) and ports on which the process listens."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link) if link.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                yield address, int(port, 16)


def test_beside_s3_only_its_grpc_port_listens_to_others_and_no_policy_opens_that(store):
    here = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    outside = {port for address, port in _listening(store.process.pid) if address not in here}
    port = int(store.url.rpartition(":")[2])
    assert outside == {port, port + 10_000}
    policy = yaml.safe_load((LAB / "object-store/callers/network-policy.yaml").read_text())
    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [
        [{"protocol": "TCP", "port": 8333}]
    ]


def test_each_account_may_do_its_own_and_nothing_else(store, buckets):
    suite, ingestion = store.client("vault/suite"), store.client("rag-ingestion/ingestion")
    backup = store.client("rag-vectordb/backup")
    suite.put_object(Bucket="documents", Key="demo/a.txt", Body=b"text")
    assert ingestion.get_object(Bucket="documents", Key="demo/a.txt")["Body"].read() == b"text"
    assert ingestion.list_objects_v2(Bucket="documents", Prefix="demo/")["KeyCount"] == 1
    backup.put_object(Bucket="backups", Key="b", Body=b"dump")
    assert backup.get_object(Bucket="backups", Key="b")["Body"].read() == b"dump"
    backup.delete_object(Bucket="backups", Key="b")
    refused = (
        lambda: ingestion.put_object(Bucket="documents", Key="demo/b.txt", Body=b""),
        lambda: ingestion.delete_object(Bucket="documents", Key="demo/a.txt"),
        lambda: ingestion.list_objects_v2(Bucket="backups"),
        lambda: backup.get_object(Bucket="documents", Key="demo/a.txt"),
        lambda: suite.list_objects_v2(Bucket="backups"),
        lambda: suite.create_bucket(Bucket="another"),
    )
    for call in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            call()


@pytest.mark.parametrize(("code", "told"), [(0, 0), (3, 0), (1, 1)])
def test_a_pod_syncs_its_own_line_and_a_busy_index_is_no_failure(tmp_path, code, told):
    fake = tmp_path / "rag-ingest"
    fake.write_text(f'#!/bin/sh\necho "$*"\nexit {code}\n')
    fake.chmod(0o755)
    done = _sync(tmp_path, "1")
    assert (done.returncode, done.stdout) == (told, "s3://documents/b --tenant b\n")


def test_more_completions_than_tenants_is_an_error_that_says_so(tmp_path):
    done = _sync(tmp_path, "2")
    assert done.returncode == 1
    assert "no tenant on line 3" in done.stderr


def _sync(folder, index):
    (folder / "tenants.txt").write_text("a\nb\n")
    more = {"PATH": f"{folder}:{os.environ['PATH']}", "TENANTS": str(folder / "tenants.txt")}
    more |= {"JOB_COMPLETION_INDEX": index, "SOURCE_BUCKET": "s3://documents"}
    return subprocess.run(["sh", SYNC], env={**os.environ, **more}, capture_output=True, text=True)


def test_the_lab_has_a_pod_for_each_tenant_with_a_source_a_store_and_keys_for_all():
    listed = (LAB / "tenants.txt").read_text().split()
    stored = set((ROOT / "apps/vectordb/lab/tenants.txt").read_text().split())
    assert set(listed) <= stored
    job = yaml.safe_load((LAB / "cron-job.yaml").read_text())["spec"]["jobTemplate"]
    assert job["spec"]["completions"] == len(listed)
    keys = {name.partition(".")[0] for name in _object_store.secrets()["vault/suite/api-keys"]}
    assert keys == stored


@pytest.mark.parametrize(
    "who", ["rag-ingestion/ingestion", "rag-vectordb/backup", "rag-ingestion/buckets"]
)
def test_stolen_keys_are_good_for_what_is_declared(store, buckets, who, tmp_path):
    (tmp_path / "object-store.json").write_text(store.keys(who, tmp_path).read_text())
    _, one = data._SERVICES["s3"]
    told = service_raid.raid({"s3": {**one, "url": store.url}}, tmp_path)["s3"]
    worked = {w for w, (status, said) in told.items() if data._got("s3", status, said)}
    assert worked == declared_for(who, "s3"), told
