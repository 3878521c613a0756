"""image-scan with a program in trivy's place: a scanner that saw nothing passes nothing."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import image_scan
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

SCRIPT = """#!/usr/bin/env python3
import json, sys
told = json.load(open({path!r}))
key = "version" if "version" in sys.argv else "db" if "--download-db-only" in sys.argv else sys.argv[-1]
answer = told.get(key, told["else"])
if isinstance(answer, str):
    sys.exit(answer)
print(json.dumps(answer))
"""


def result(*ids):
    return {"Results": [{"Vulnerabilities": [{"VulnerabilityID": i} for i in ids] or None}]}


@pytest.fixture
def trivy(tmp_path, monkeypatch):
    told = tmp_path / "told.json"
    program = tmp_path / "trivy"
    program.write_text(SCRIPT.format(path=str(told)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def tell(**answers):
        now = datetime.now(UTC).isoformat()
        base = {"version": {"VulnerabilityDB": {"UpdatedAt": now}}, "db": {}, "else": result()}
        told.write_text(json.dumps(base | answers))

    tell()
    return tell


def pod(name, *images, ids=()):
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]
    told = [{"name": f"c{i}", "imageID": image} for i, image in enumerate(ids)]
    return named(
        "Pod", name, "rag-llm", spec={"containers": containers}, status={"containerStatuses": told}
    )


def test_clean_images_are_green(trivy):
    seen = image_scan.measure(Context(MemoryCluster(pod("a", "x:1", "y:1"), pod("b", "x:1"))))
    assert (values(seen), seen.metrics["critical"].n) == ({"critical": 0}, 2)


def test_critical_ones_are_counted_by_image(trivy):
    trivy(**{"x:1": result("CVE-1", "CVE-2", "CVE-1")})
    seen = image_scan.measure(Context(MemoryCluster(pod("a", "x:1", "y:1"))))
    assert values(seen) == {"critical": 2}
    assert seen.notes == ["x:1: CVE-1, CVE-2"]


def test_the_digest_that_runs_is_scanned():
    digest = "ghcr.io/x@sha256:" + "0" * 64
    cluster = MemoryCluster(pod("a", "x:1", "y:1", ids=(f"docker-pullable://{digest}", "sha256:1")))
    assert image_scan.images(cluster) == [digest, "y:1"]
    with pytest.raises(ProbeError, match="no pod"):
        image_scan.images(MemoryCluster())


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"db": "no route to the database"}, "no route"),
        ({"version": {"Version": "0.1"}}, "no vulnerability database"),
        ({"else": {"Results": []}}, "nothing was scanned"),
        ({"else": "no such image"}, "no such image"),
    ],
)
def test_a_scanner_that_saw_nothing_is_an_error(trivy, answers, told):
    trivy(**answers)
    with pytest.raises(ProbeError, match=told):
        image_scan.measure(Context(MemoryCluster(pod("a", "x:1"))))


def test_an_old_database_is_an_error(trivy):
    old = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    trivy(version={"VulnerabilityDB": {"UpdatedAt": old}})
    with pytest.raises(ProbeError, match="too old"):
        image_scan.measure(Context(MemoryCluster(pod("a", "x:1"))))


def test_no_scanner_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProbeError, match="not on the PATH"):
        image_scan.measure(Context(MemoryCluster(pod("a", "x:1"))))


def test_the_fault_is_found_and_taken_back(trivy):
    trivy(**{"old:1": result("CVE-0")})
    cluster = MemoryCluster(pod("a", "x:1"))
    context = Context(cluster, vulnerable_image="old:1")
    with image_scan.GATE.faults[0].plant(context):
        assert values(image_scan.measure(context))["critical"] == 1
    assert values(image_scan.measure(context))["critical"] == 0
    assert cluster.planted == []
