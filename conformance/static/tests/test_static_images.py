"""How new images reach staging: each of ours has a policy, each tag a marker, and production has neither."""

import re

import pytest
import yaml

from conformance.static import environment
from conformance.static.environment import ROOT
from conformance.static.pods import pods

MARKED = re.compile(r'newTag: (\S+) # \{"\$imagepolicy": "flux-system:([\w-]+):tag"\}')
FOLDER = ROOT / "apps" / "components" / "images"


@pytest.fixture(scope="module")
def staging():
    return environment.load("staging")


def named(loaded, kind):
    return {item["metadata"]["name"]: item["spec"] for item in loaded.of(kind)}


def markers():
    """The tag that stands in Git now, by the policy that may change it."""
    files = FOLDER.rglob("kustomization.yaml")
    return {name: tag for file in files for tag, name in MARKED.findall(file.read_text())}


def test_each_image_that_the_cloud_runs_of_ours_is_looked_for(staging):
    registry = staging.variables["image_registry"]
    images = {c["image"] for pod in pods(staging) for c in pod.containers()}
    ours = {name.partition(":")[0] for name in images if name.startswith(f"{registry}/")}
    looked_for = {spec["image"] for spec in named(staging, "ImageRepository").values()}
    assert ours == looked_for and len(ours) == 5


def test_each_marker_names_a_policy_and_each_policy_has_its_marker(staging):
    policies = named(staging, "ImagePolicy")
    assert markers().keys() == policies.keys()
    repositories = named(staging, "ImageRepository")
    assert {p["imageRepositoryRef"]["name"] for p in policies.values()} == repositories.keys()
    # Each image stands once in its file, with its marker.
    for file in FOLDER.rglob("kustomization.yaml"):
        assert len(MARKED.findall(file.read_text())) == len(
            yaml.safe_load(file.read_text())["images"]
        )


def test_a_policy_takes_releases_of_its_own_build_only(staging):
    policies, now = named(staging, "ImagePolicy"), markers()
    tags = ["0.1.0", "0.2.0", "0.2.0-flagembedding", "0.2.0-rc.1", "latest", "sha256-0a.sig"]
    for name, spec in policies.items():
        wanted = spec.get("filterTags", {}).get("pattern", r"^\d+\.\d+\.\d+$")
        taken = [tag for tag in tags if re.match(wanted, tag)]
        build = name == "embedding-gpu"
        assert taken == (["0.2.0-flagembedding"] if build else ["0.1.0", "0.2.0"])
        assert re.match(wanted, now[name]), f"{name} would never go on from {now[name]}"
        # Without a suffix a range leaves pre-releases out by itself.
        assert spec["policy"]["semver"]["range"] == ">=0.1.0"


def test_flux_writes_to_stagings_branch_and_to_the_images_alone(staging):
    (update,) = named(staging, "ImageUpdateAutomation").values()
    branch = staging.variables["branch"]
    assert update["git"]["push"]["branch"] == update["git"]["checkout"]["ref"]["branch"] == branch
    assert (ROOT / update["update"]["path"]).resolve() == FOLDER
    source = named(staging, "GitRepository")[update["sourceRef"]["name"]]
    assert source["url"] == staging.variables["repository"] and "secretRef" in source


def test_nothing_writes_for_production():
    production = environment.load("production")
    kinds = ("ImageRepository", "ImagePolicy", "ImageUpdateAutomation")
    assert not list(production.of(*kinds))
    assert production.variables["branch"] != environment.load("staging").variables["branch"]
