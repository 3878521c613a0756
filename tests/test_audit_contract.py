"""The index has a place for every field of a record: those that retrieval writes, and those documented."""

import re
from pathlib import Path

import pytest

from rag_audit.template import template
from rag_common.tenancy import TenantClaims
from rag_retrieval.audit import AuditTrail
from rag_retrieval.metrics import Metrics

ROOT = Path(__file__).parents[1]


@pytest.fixture
def mapped():
    return set(template(1, 0)["template"]["mappings"]["properties"])


def test_every_documented_field_is_mapped(mapped):
    text = (ROOT / "docs" / "interfaces.md").read_text()
    (shape,) = re.findall(r'`(\{"event": "intent" \| "completion".*?\}\}?)`', text)
    flat = re.sub(r"\[\{.*?\}\]", "[]", shape)
    assert {"request_id", "chunks", "timings_ms"} <= set(re.findall(r'"(\w+)"', flat))
    assert set(re.findall(r'"(\w+)"', flat)) - {"intent", "completion"} <= mapped


def test_every_field_that_retrieval_writes_is_mapped(mapped):
    trail = AuditTrail(None, Metrics(), TenantClaims("acme", "ann", "r1", {}), "/v1/answer", "q")
    code = "".join(
        path.read_text() for path in (ROOT / "images/retrieval/src/rag_retrieval").rglob("*.py")
    )
    calls = re.findall(r"(?:\.note|record\.done|self\.done)\((.*?)\)\n", code, re.S)
    noted = {name for call in calls for name in re.findall(r"\b(\w+)=", call)}
    assert {"prompt", "response", "usage", "error"} <= noted
    assert set(trail._record) | noted <= mapped
