"""Pinning what tags mean: read from a real registry, put where Flux takes it, and all or nothing."""

import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import yaml

from conformance.children import free_port
from conformance.cluster.node import images
from conformance.cluster.node.commands import run
from conformance.cluster.node.oci import MANIFEST, Artifact, in_memory
from conformance.cluster.node.programs import is_cached, program
from conformance.errors import SuiteError
from conformance.static import digests, environment
from conformance.static.pods import pods
from conformance.static.render import changed
from conformance.static.upstream import expand

needs_programs = pytest.mark.skipif(
    not all(is_cached(name) for name in ("crane", "helm", "kube")),
    reason="needs crane, helm and kubectl: make up",
)


@contextmanager
def registry(references):
    """`crane registry serve` with a small artifact of its own under each reference."""
    address = f"127.0.0.1:{free_port()}"
    command = [program("crane"), "registry", "serve", "--address", address]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(
            base_url=f"http://{address}", transport=httpx.HTTPTransport(retries=5)
        ) as http:
            yield f"{address}/", {name: _put(http, name) for name in references}
    finally:
        process.terminate()
        process.wait()


def _put(http, reference):
    artifact = Artifact(reference, in_memory(reference.encode(), "text/plain"), [])
    path, _, tag = reference.rpartition(":")
    config = artifact.config
    where = http.post(f"/v2/{path}/blobs/uploads/").headers["location"]
    http.put(where, params={"digest": config.digest}, content=config.content).raise_for_status()
    headers = {"Content-Type": MANIFEST}
    put = http.put(f"/v2/{path}/manifests/{tag}", content=artifact.manifest, headers=headers)
    return put.raise_for_status().headers["docker-content-digest"]


def wanted(lab):
    found = [*digests.images_of(expand(lab))]
    found += [digests.artifact_of(source, lab) for source in digests.sources(lab)]
    return found


@needs_programs
def test_what_the_registry_says_is_what_flux_will_apply(lab, tmp_path):
    shutil.copytree(environment.ROOT / "clusters", tmp_path / "clusters")
    folder = tmp_path / "clusters/lab"
    names = {digests.qualified(reference) for reference in wanted(lab)}
    with registry(names) as (mirror, expected):
        digests.write(folder, digests.pin(lab, digests.crane(mirror)))
    rendered = yaml.safe_load_all(run([program("kustomize"), "build", folder]))
    applied = [o["spec"] for o in rendered if o["kind"] == "Kustomization"]
    assert applied
    for image in applied[0]["images"]:
        reference = digests.qualified(f"{image['name']}:{image['newTag']}")
        assert image["digest"] == expected[reference]
    assert all(spec["images"] == applied[0]["images"] for spec in applied)
    again = (folder / "kustomization.yaml").read_text()
    digests.write(folder, {"spec": {}})
    assert (folder / "kustomization.yaml").read_text() == again  # named once


@needs_programs
def test_every_pod_chart_and_bundle_is_pinned(lab):
    one = f"sha256:{'1' * 64}"
    patch = digests.pin(lab, lambda reference: one)
    spec = patch["spec"]
    overlays = [
        environment.Overlay(o.name, o.path, tuple(changed(list(o.objects), spec)))
        for o in lab.overlays
    ]
    pinned = replace(lab, overlays=tuple(overlays))
    found = {c["image"] for pod in pods(expand(pinned)) for c in pod.containers()} - {"auto"}
    assert len(found) == len(spec["images"])
    assert all(image.endswith(f"@{one}") and ":" in image.partition("@")[0] for image in found)
    assert all(s["spec"]["ref"]["digest"] == one for s in digests.sources(pinned))
    assert digests.pin(pinned, lambda reference: one) == patch  # a second run changes nothing


@needs_programs
def test_one_silent_registry_and_nothing_is_written(monkeypatch, capsys):
    with registry([]) as (mirror, _):
        assert digests.main(["lab", "--mirror", mirror]) == 2
    said = capsys.readouterr().err
    assert "digests could not be read; nothing is written" in said
    assert "docker.io: Error" in said
    assert "quay.io: Error" in said
    assert not (environment.ROOT / "clusters/lab/digests.yaml").exists()


def test_two_tags_of_one_image_cannot_both_be_pinned(lab):
    name = next(iter(images.declared())).rpartition(":")[0]
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}}
    spec = {"containers": [{"image": f"{name}:1"}, {"image": f"{name}:2"}]}
    with pytest.raises(SuiteError, match="both 1 and 2"):
        digests.images_of(lab.having([pod | {"spec": spec}]))


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("debian:12", "docker.io/library/debian:12"),
        ("kserve/x:1", "docker.io/kserve/x:1"),
        ("quay.io/x:1", "quay.io/x:1"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
    ],
)
def test_a_name_without_its_registry_is_docker_hubs(short, full):
    assert digests.qualified(short) == full
