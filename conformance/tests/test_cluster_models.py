"""The models on the node's disk: laid out as their readers look for them, checked, readable."""

import hashlib
import os
import sys
from pathlib import Path

import pytest
import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import models
from conformance.cluster.node.config import ROOT, State, load
from conformance.tests._cluster import Commands
from rag_assets import load_manifest
from rag_assets.fetch import folder_of

ASSETS = """
assets:
  tiny:
    kind: llm
    upstream: x/tiny
    licence: MIT
    notes: none
    file: tiny.gguf
    sha256: {digest}
    sources: [{{package: {{join: true, wheels: {{tiny==1: {digest}}}}}}}]
"""
PREPARE = {"module": "rag_tiny.prepare", "image": "embedding", "environment": {"A": "b"}}


class Programs(Commands):
    """Fetches by writing the file; `--verify` is the real thing."""

    def __call__(self, command, **options):
        words = [str(word) for word in command]
        if "fetch" in words and "--verify" not in words:
            folder = folder_of(load_manifest()["tiny"])
            folder.mkdir(parents=True)
            (folder / "tiny.gguf").write_bytes(b"weights")
            (folder / "tiny.gguf").chmod(0o600)
        elif "--verify" in words:
            models_run(command, **options)
        self.environment = options.get("environment")
        return super().__call__(command, **options)


models_run = models.run


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    overlay = tmp_path / "assets.yaml"
    overlay.write_text(ASSETS.format(digest=hashlib.sha256(b"weights").hexdigest()))
    monkeypatch.setenv("RAG_ASSETS_FILE", str(overlay))
    monkeypatch.setattr(models, "load", lambda name: {"assets": ["tiny"], "prepare": [PREPARE]})
    commands = Programs()
    monkeypatch.setattr(models, "run", commands)
    return commands


def test_the_store_is_a_cache_in_which_the_program_finds_its_model(programs, monkeypatch):
    store = models.store(lambda text: None)
    assert models.store(lambda text: None) == store
    assert len([call for call in programs.calls if "rag_tiny.prepare" in call]) == 1
    assert programs.environment["A"] == "b"
    monkeypatch.setenv("RAG_CACHE_DIR", str(store))
    found = models_run([sys.executable, "-m", "rag_assets.cli", "path", "tiny"]).strip()
    assert Path(found).is_relative_to(store)
    assert Path(found).read_bytes() == b"weights"


def test_everybody_may_read_it(programs):
    for root, folders, files in os.walk(models.store(lambda text: None)):
        for name in (*folders, *files):
            mode = (Path(root) / name).stat().st_mode
            assert mode & 0o004, name
            assert mode & 0o001 or name in files


def test_a_damaged_model_is_no_store(programs, monkeypatch):
    def damaged(folder, target):
        (target / folder.name).mkdir(parents=True)
        (target / folder.name / "tiny.gguf").write_bytes(b"other")

    monkeypatch.setattr(models, "_link", damaged)
    with pytest.raises(ClusterError, match="SHA-256 is"):
        models.store(lambda text: None)


def test_what_was_not_fetched_is_an_error(tmp_path):
    with pytest.raises(ClusterError, match="not there though it was fetched"):
        models._link(tmp_path / "nothing", tmp_path / "target")


def test_the_node_has_links_or_copies_and_no_second_of_either(programs, tmp_path, monkeypatch):
    state = State(tmp_path / "lab")
    models.lay(state, lambda text: None)
    (weights,) = state.tree.rglob("tiny.gguf")
    assert weights.is_relative_to(state.tree / "var/lib/rag-models/assets")
    assert weights.stat().st_nlink > 1
    monkeypatch.setattr(models, "place", lambda *paths: pytest.fail(str(paths)))
    models.lay(state, lambda text: None)


@pytest.mark.parametrize("app", ["embedding", "llm"])
def test_pods_look_where_the_node_has_them(app):
    text = (ROOT / f"apps/{app}/lab/models-volume.yaml").read_text()
    volumes = [item for item in yaml.safe_load_all(text) if item["kind"] == "PersistentVolume"]
    assert [v["spec"]["local"]["path"] for v in volumes] == [f"/{models.PLACE}"]


def test_the_models_are_those_that_the_programs_take_by_default():
    wanted = load("models.yaml")["assets"]
    for image in ("embedding", "llm"):
        settings = (ROOT / f"images/{image}/src/rag_{image}/settings.py").read_text()
        assert sum(f'"{name}"' in settings for name in wanted) == 1
