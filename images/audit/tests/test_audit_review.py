"""What a reviewer finds in Kibana: the objects hold together, and a refusal is told."""

import json
from importlib.resources import files

import httpx
import pytest

from rag_audit import review
from rag_audit.errors import AuditError, UnavailableError
from rag_audit.settings import ReviewSettings

OBJECTS = [json.loads(line) for line in review.objects().splitlines()]
TEMPLATE = json.loads(files("rag_audit").joinpath("template.json").read_text())


@pytest.fixture
def settings(credentials):
    return ReviewSettings(kibana_url="http://kibana", kibana_credentials_file=credentials)


def fields(mapping, prefix=""):
    """The names of a mapping's fields."""
    for name, field in mapping.get("properties", {}).items():
        yield prefix + name
        yield from fields(field, f"{prefix}{name}.")


def used(item):
    """The fields that an object shows or counts by."""
    attributes = item["attributes"]
    state = json.loads(attributes.get("visState", "{}"))
    yield from attributes.get("columns", [])
    yield from (name for name, _ in attributes.get("sort", []))
    yield from (a["params"]["field"] for a in state.get("aggs", []) if "field" in a["params"])
    if "timeFieldName" in attributes:
        yield attributes["timeFieldName"]
    source = json.loads(attributes.get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}"))
    words = source.get("query", {}).get("query", "").replace(" and ", ",").split(",")
    yield from (word.split()[0] for word in words if word)


def test_every_reference_is_to_an_object_of_the_file():
    there = {(item["type"], item["id"]) for item in OBJECTS}
    assert len(there) == len(OBJECTS)
    for item in OBJECTS:
        assert {(r["type"], r["id"]) for r in item["references"]} <= there, item["id"]
    assert {kind for kind, _ in there} == {"index-pattern", "search", "visualization", "dashboard"}


def test_every_panel_of_the_dashboard_has_its_reference():
    (board,) = (item for item in OBJECTS if item["type"] == "dashboard")
    panels = json.loads(board["attributes"]["panelsJSON"])
    wanted = {(p["type"], f"{p['panelIndex']}:{p['panelRefName']}") for p in panels}
    assert wanted == {(r["type"], r["name"]) for r in board["references"]} and len(wanted) == 6


def test_every_field_is_one_that_records_have():
    known = set(fields(TEMPLATE["template"]["mappings"]))
    for item in OBJECTS:
        assert set(used(item)) <= known, item["id"]


def test_every_object_says_how_old_its_form_is():
    """Kibana takes one without that for a form before the first, and makes it unreadable."""
    assert all({"coreMigrationVersion", "typeMigrationVersion"} <= item.keys() for item in OBJECTS)


def test_the_objects_are_put_in_place_of_the_old_ones(settings):
    def answer(request):
        assert request.url.path == "/api/saved_objects/_import"
        assert request.url.params["overwrite"] == "true" and request.headers["kbn-xsrf"] == "true"
        assert b'filename="review.ndjson"' in request.content
        assert review.objects() in request.content
        return httpx.Response(200, json={"success": True, "successCount": len(OBJECTS)})

    assert review.put(settings, httpx.MockTransport(answer)) == len(OBJECTS)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(403, text="no such right"), "403 no such right"),
        (httpx.Response(200, json={"success": False, "errors": ["a conflict"]}), "a conflict"),
    ],
)
def test_a_refusal_is_told(settings, answer, said):
    with pytest.raises(AuditError, match=said):
        review.put(settings, httpx.MockTransport(lambda _: answer))


def test_without_a_login_nothing_is_asked(settings, credentials):
    credentials.unlink()
    with pytest.raises(UnavailableError, match=r"login\.json"):
        review.put(settings)


def test_without_its_server_the_job_fails_with_the_reason(credentials, monkeypatch, capsys):
    monkeypatch.setenv("KIBANA_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("KIBANA_CREDENTIALS_FILE", str(credentials))
    assert review.main() == 1
    assert "kibana" in capsys.readouterr().err
