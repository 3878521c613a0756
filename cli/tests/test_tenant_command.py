"""`ragctl tenant`: a tenant comes and goes as a change of manifests that the static rules accept."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from conformance.static import environment, rules
from conformance.static.render import parse, render
from ragctl.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "apps", tmp_path / "apps")
    return tmp_path


def run(root, *words, overlay="lab"):
    return CliRunner().invoke(main, ["tenant", *words, "--overlay", overlay, "--root", str(root)])


def content(root):
    return {p.relative_to(root): p.read_text() for p in root.rglob("*") if p.is_file()}


def names(root, layer, overlay="lab"):
    (found,) = (root / "apps" / layer / overlay).rglob("tenants.txt")
    return found.read_text().split()


def completions(root):
    text = (root / "apps/ingestion/lab/cron-job.yaml").read_text()
    return yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]["completions"]


def limits(root):
    return yaml.safe_load((root / "apps/guard/lab/limits.yaml").read_text())["tenants"]


def test_a_tenant_is_added_everywhere(root):
    done = run(root, "add", "acme", "--requests-per-minute", "90", "--burst", "9")
    assert done.exit_code == 0, done.output
    assert names(root, "vectordb")[-1] == names(root, "ingestion")[-1] == "acme"
    assert completions(root) == len(names(root, "ingestion"))
    assert limits(root)["acme"] == {"requests_per_minute": 90, "burst": 9}
    made = {
        (o["kind"], o["metadata"].get("namespace")) for o in render(root / "apps/tenants/lab/acme")
    }
    assert made == {
        ("Namespace", None),
        ("LimitRange", "tenant-acme"),
        ("NetworkPolicy", "tenant-acme"),
        ("ResourceQuota", "tenant-acme"),
        ("RoleBinding", "tenant-acme"),
    }
    assert "+  acme: {requests_per_minute: 90, burst: 9}" in done.output
    assert "+++ b/apps/tenants/lab/acme/namespace.yaml" in done.output
    render(root / "apps/tenants/lab")


def test_the_rules_find_nothing_against_a_tenant():
    objects = []
    for template in files("ragctl").joinpath("tenant_template").iterdir():
        text = template.read_text().replace("TENANT", "acme")
        objects += [o for o in parse(text) if o["kind"] != "Kustomization"]
    lab = environment.load("lab")
    before = {str(f) for f in rules.findings(lab)}
    assert {str(f) for f in rules.findings(lab.having(objects))} == before


def test_a_dry_run_writes_nothing(root):
    before = content(root)
    done = run(root, "add", "acme", "--dry-run")
    assert "+acme" in done.output
    assert content(root) == before


def test_what_comes_and_goes_leaves_nothing_behind(root):
    before = content(root)
    assert run(root, "add", "acme").exit_code == 0
    done = run(root, "remove", "acme")
    assert done.exit_code == 0, done.output
    assert names(root, "vectordb")[-1] == "-acme"
    assert "acme" not in names(root, "ingestion")
    assert not (root / "apps/tenants/lab/acme").exists()
    assert run(root, "remove", "acme", "--done").exit_code == 0
    assert content(root) == before


def test_who_left_may_come_back(root):
    assert run(root, "add", "acme").exit_code == 0
    assert run(root, "remove", "acme").exit_code == 0
    assert run(root, "add", "acme").exit_code == 0
    assert "-acme" not in names(root, "vectordb")


REFUSED = {
    "a name that is none": (["add", "Not A Tenant"], "lower-case letters"),
    "a way out of the folder": (["add", "../x"], "lower-case letters"),
    "a tenant that is there": (["add", "demo"], "is there already"),
    "a tenant that is not": (["remove", "nobody"], "is not in"),
    "the end before the way out": (["remove", "demo", "--done"], "remove the tenant first"),
    "no rate": (["add", "acme", "--burst", "0"], "0 is not in the range"),
}


@pytest.mark.parametrize("words, said", REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_and_writes_nothing(root, words, said):
    before = content(root)
    done = run(root, *words)
    assert done.exit_code != 0
    assert said in " ".join(done.output.split())
    assert content(root) == before


def test_an_overlay_that_is_none_is_named(root):
    done = run(root, "add", "acme", overlay="moon")
    assert done.exit_code == 1
    assert "cloud, lab" in done.output


def test_the_last_tenant_stays(root):
    (root / "apps/vectordb/lab/tenants.txt").write_text("demo\n")
    assert "the last tenant stays" in run(root, "remove", "demo").output


def test_a_list_that_is_missing_is_named(root):
    (root / "apps/vectordb/lab/tenants.txt").unlink()
    assert "0 files tenants.txt" in run(root, "add", "acme").output
