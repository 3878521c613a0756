"""checkov: what is committed passes, a bad pod is found, and a skip must match something."""

from dataclasses import replace

import pytest
import yaml

from conformance.errors import SuiteError
from conformance.static import checkov
from conformance.static.render import parse

ROOT_POD = """
apiVersion: v1
kind: Pod
metadata: {name: root, namespace: vault}
spec:
  hostNetwork: true
  containers: [{name: a, image: "docker.io/library/debian:12-slim", securityContext: {privileged: true}}]
"""


@pytest.fixture(scope="module")
def seen(lab):
    return checkov.failed(lab)


@pytest.fixture
def replayed(monkeypatch, seen):
    monkeypatch.setattr(checkov, "failed", lambda environment: seen)


def test_what_is_committed_passes(lab, replayed):
    assert list(checkov.checkov(lab)) == []


def test_a_privileged_pod_is_found(lab):
    checks = {
        check for check, where, _ in checkov.failed(lab.having(parse(ROOT_POD))) if "root" in where
    }
    assert {"CKV_K8S_16", "CKV_K8S_19"} <= checks


def test_every_skip_has_a_reason_and_is_needed(lab, replayed, monkeypatch, tmp_path):
    skips = yaml.safe_load(checkov.SKIPS.read_text())
    assert all(skip["reason"] for skip in skips)
    for left_out in skips:
        path = tmp_path / "skips.yaml"
        path.write_text(yaml.safe_dump([skip for skip in skips if skip is not left_out]))
        monkeypatch.setattr(checkov, "SKIPS", path)
        found = list(checkov.checkov(lab))
        assert found, f"{left_out['check']} is not needed"
        assert {f.message.split()[0] for f in found} == {left_out["check"]}


def test_a_skip_that_matches_nothing_is_found(lab, replayed, monkeypatch, tmp_path):
    path = tmp_path / "skips.yaml"
    skips = yaml.safe_load(checkov.SKIPS.read_text())
    skips.append({"check": "CKV_K8S_1", "where": ["Pod.a.b"], "reason": "none"})
    path.write_text(yaml.safe_dump(skips))
    monkeypatch.setattr(checkov, "SKIPS", path)
    assert [f.rule for f in checkov.checkov(lab)] == ["checkov-skip-unused"]


def test_nothing_to_read_is_an_error(lab):
    with pytest.raises(SuiteError, match="no report"):
        checkov.failed(replace(lab, cluster=(), overlays=()))
