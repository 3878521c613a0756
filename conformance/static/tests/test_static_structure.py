"""Rules about trees of files: what does not render, and what Flux is not told of."""

from dataclasses import replace

import pytest

from conformance.cluster.node.config import load
from conformance.static import environment, structure
from conformance.static.environment import Overlay
from conformance.static.render import RenderError, render


def test_a_broken_overlay_is_a_finding(lab, tmp_path, monkeypatch):
    (tmp_path / "platform/mesh/lab").mkdir(parents=True)
    (tmp_path / "platform/mesh/lab/kustomization.yaml").write_text("resources: [absent.yaml]\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    item = {"metadata": {"name": "mesh"}, "spec": {"path": "./platform/mesh/lab"}}
    overlay = environment._overlay(item)
    found = list(structure.renders(replace(lab, overlays=(overlay,))))
    assert [f.rule for f in found] == ["renders"]
    assert "absent.yaml" in found[0].message


def test_an_overlay_without_objects_is_a_finding(lab):
    found = list(
        structure.renders(replace(lab, overlays=(Overlay("mesh", "./platform/mesh/lab"),)))
    )
    assert [f.message for f in found] == ["renders to nothing"]


def test_an_overlay_that_flux_is_not_told_of_is_a_finding(lab, tmp_path):
    for path in ("platform/mesh/lab/configs", "apps/llm/lab"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "kustomization.yaml").touch()
    known = Overlay("mesh", "./platform/mesh/lab/configs")
    found = list(structure.orphan(replace(lab, overlays=(known,), root=tmp_path)))
    assert [(f.rule, f.where) for f in found] == [("orphan", "apps/llm/lab")]


def test_a_circle_of_kustomizations_is_a_finding(lab):
    def item(name, needs):
        meta = {"name": name, "namespace": "flux-system"}
        return {"kind": "Kustomization", "metadata": meta, "spec": {"dependsOn": [{"name": needs}]}}

    circle = replace(lab, cluster=(item("a", "b"), item("b", "a")), overlays=())
    assert [f.message for f in structure.depends_on(circle)] == ["waits for itself"] * 2


def test_kustomize_says_what_is_wrong(tmp_path):
    with pytest.raises(RenderError, match="kustomization"):
        render(tmp_path)


def test_the_labs_variables_are_those_of_its_node(lab):
    node = load("node.yaml")
    assert lab.variables["pod_cidr"] == node["pod_cidr"]
    assert lab.variables["oci_mirror"] == f"{node['registry']}/"
