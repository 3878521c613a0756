"""Every rule is green on what is committed and red on the fixture that is named after it."""

import re
from pathlib import Path

import pytest

from conformance.static import environment, references, rules, schemas, unserved
from conformance.static.finding import identity, name_of
from conformance.static.render import parse

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.yaml"))
# Broken by a file tree, not by an object: their own tests are in test_static_structure.py.
ELSEWHERE = {"renders", "orphan"}


@pytest.mark.parametrize("name", environment.names())
def test_every_environment_keeps_every_rule(name):
    found = [str(finding) for finding in rules.findings(environment.load(name))]
    assert found == []


def test_every_rule_has_a_fixture():
    named = {rule.__name__.replace("_", "-") for rule in rules.RULES[1:]} | set(schemas.NAMES)
    assert named - ELSEWHERE == {path.stem for path in FIXTURES}


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_a_fixture_breaks_its_rule(lab, fixture):
    text = fixture.read_text()
    also = set(re.findall(r"^# also: (.*)$", text, re.M))
    found = {finding.rule for finding in rules.findings(lab.having(parse(text)))}
    assert fixture.stem in found
    assert found - {fixture.stem} <= also, "breaks more than its own rule"


def test_only_what_occurs_is_excused_from_schemas_and_selectors():
    loaded = [environment.load(name) for name in environment.names()]
    items = [item for one in loaded for item in one.objects]
    assert set(unserved.groups()) <= {identity(item)[0] for item in items}
    files = [p for top in ("apps", "platform") for p in (environment.ROOT / top).rglob("*.yaml")]
    releases = {p.stem for p in files if "kind: HelmRelease\n" in p.read_text()}
    assert set(unserved.charts()) <= releases
    operated = parse(references.OPERATED.read_text())[0]
    assert {entry["by"] for entry in operated} <= {name_of(item) for item in items}
