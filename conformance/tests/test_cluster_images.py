"""This project's own images: what they are made of, how they are built, and how pods learn of a new one."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import buildah, checkout, indexes, layout, oci, ours, sbom
from conformance.cluster.node.config import ROOT
from conformance.cluster.node.registry import Registry
from conformance.tests._cluster import Commands


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path):
    tree = tmp_path / "tree.tar"
    with tarfile.open(tree, "w"):
        pass
    return oci.image(ours.BASE, [], base=tree)


@pytest.fixture
def sources(tmp_path, monkeypatch, base):
    """A copy of what `retrieval` and `guard` are made of."""
    root = tmp_path / "checkout"
    for path in {*ours.inputs("retrieval"), *ours.inputs("guard")}:
        copy = root / path.relative_to(ours.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(ours, "ROOT", root)
    monkeypatch.setattr(ours, "_IMAGES", root / "images")
    monkeypatch.setattr(ours, "_LOCKS", root / "requirements")
    monkeypatch.setattr(ours, "_DOCKERFILE", root / "images/Dockerfile")
    monkeypatch.setattr(ours, "_base", lambda: base)
    here = [root / path.relative_to(ROOT) for path in ours._COMMON]
    monkeypatch.setattr(ours, "_COMMON", here)
    return root


def test_every_target_is_an_image_under_its_packages_version():
    assert {"embedding", "guard", "ingestion", "llm", "retrieval"} <= set(ours.targets())
    assert ours.reference("guard") == "ghcr.io/rag-blueprint/guard:0.1.0"


def test_an_image_is_made_of_its_lock_its_sources_and_its_libraries():
    names = {str(path.relative_to(ours.ROOT)) for path in ours.inputs("retrieval")}
    assert {"images/Dockerfile", "requirements/retrieval.txt", "requirements/build.txt"} <= names
    assert "images/store/pyproject.toml" in names
    assert not any("/tests/" in name or name.startswith("images/guard") for name in names)


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("images/Dockerfile", {"retrieval", "guard"}),
        ("images/common/pyproject.toml", {"retrieval", "guard"}),
        ("images/store/pyproject.toml", {"retrieval"}),
        ("images/retrieval/src/rag_retrieval/new.py", {"retrieval"}),
        ("images/retrieval/tests/test_new.py", set()),
        ("requirements/guard.txt", {"guard"}),
        ("requirements/dev.txt", set()),
    ],
)
def test_what_changed_is_built_anew_and_nothing_else(sources, changed, rebuilt):
    before = {target: ours.digest(target) for target in ("retrieval", "guard")}
    path = sources / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed\n")
    assert {target for target, digest in before.items() if ours.digest(target) != digest} == rebuilt


def test_another_base_is_another_image(sources, tmp_path, monkeypatch):
    before = ours.digest("guard")
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.addfile(tarfile.TarInfo("new"))
    monkeypatch.setattr(ours, "_base", lambda: oci.image(ours.BASE, [], base=other))
    assert ours.digest("guard") != before


def test_a_target_without_a_build_stage_is_refused(sources):
    with pytest.raises(ClusterError, match="no stage nothing-build"):
        ours.packages("nothing")


class Builder(Commands):
    """Stands for buildah: pushes an image of one layer."""

    def __call__(self, command, **options):
        words = [str(word) for word in command]
        for word in words:
            if word.startswith("id=index,src="):
                self.index = Path(word.partition("src=")[2]).read_text()
        if "push" in words:
            self._push(words[-1].removeprefix("dir:"))
        return super().__call__(command, **options)

    def _push(self, folder):
        Path(folder).mkdir(parents=True)
        blobs = [oci.in_memory(b"{}", oci.IMAGE_CONFIG), oci.in_memory(b"layer", oci.IMAGE_LAYER)]
        for blob in blobs:
            (Path(folder) / blob.digest[7:]).write_bytes(blob.content)
        said = {"config": blobs[0].descriptor, "layers": [blobs[1].descriptor]}
        (Path(folder) / "manifest.json").write_text(json.dumps(said))


@pytest.fixture
def builder(monkeypatch):
    commands = Builder()
    monkeypatch.setattr(buildah, "run", commands)
    monkeypatch.setattr(indexes, "run", Commands({"config list": "global.index-url='x://y'\n"}))
    return commands


def test_an_image_is_built_once(sources, builder):
    notes = []
    first, again = ours.pack("guard", notes.append), ours.pack("guard", notes.append)
    assert notes == ["guard"]
    assert ours.is_cached("guard")
    assert not ours.is_cached("retrieval")
    assert first == again
    assert first.reference == "ghcr.io/rag-blueprint/guard:0.1.0"
    (build,) = [call for call in builder.calls if " build " in call]
    assert f"--target guard --tag {first.reference}" in build
    assert "--isolation=chroot" in build
    assert "--timestamp=0" in build


def test_a_build_ends_with_the_command_that_asked_for_it(sources, builder):
    ours.pack("guard", print)
    assert all("--pdeathsig KILL unshare --mount --pid" in call for call in builder.calls)


def test_package_indexes_are_a_secret_and_gone_after_the_build(sources, builder, monkeypatch):
    monkeypatch.setenv("UV_INDEX_MIRROR_PASSWORD", "pass word")
    ours.pack("guard", print)
    assert "PIP_INDEX_URL=x://y\n" in builder.index
    assert "UV_INDEX_MIRROR_PASSWORD='pass word'\n" in builder.index
    assert "pass word" not in builder
    (build,) = [call for call in builder.calls if " build " in call]
    assert not Path(build.partition("id=index,src=")[2].split()[0]).exists()


def test_a_base_is_taken_once_and_again_when_it_is_another(builder, base, tmp_path):
    other = oci.image(ours.BASE, [], base=base.layers[0].content, user="1")
    with buildah.storage() as storage:
        for one in (base, base, other):
            storage.build("--file", "x", cwd=tmp_path, base=one)
    assert len([call for call in builder.calls if " pull " in call]) == 2


def test_what_a_killed_build_left_is_removed_and_a_full_storage_begins_anew(builder, monkeypatch):
    folder = buildah.cache_dir() / "buildah"
    for name in ("storage/overlay/a", "storage/overlay/b", "run/mounted"):
        (folder / name).mkdir(parents=True)
    (folder / "base").write_text("sha256:1")
    with buildah.storage():
        assert "rm --all" in builder
        assert not (folder / "run").exists()
        assert (folder / "base").exists()
    monkeypatch.setattr(buildah, "_MOST_LAYERS", 1)
    with buildah.storage():
        assert not (folder / "storage").exists()
        assert not (folder / "base").exists()


def test_a_failed_build_says_what_buildah_said(sources, builder):
    builder.answers[" build "] = ClusterError("setpriv --pdeathsig: exit code 1\nno such package")
    with pytest.raises(ClusterError, match=r"buildah build failed; .*log has the rest\nno such"):
        ours.pack("guard", print)
    assert not ours.is_cached("guard")


def test_the_machines_own_authorities_are_mounted(builder, tmp_path, monkeypatch):
    for name in indexes._BUNDLES:
        monkeypatch.delenv(name, raising=False)
    assert indexes.bundle() is None
    assert "CERT" not in indexes.settings()
    bundle = tmp_path / "ca.crt"
    bundle.write_text("ca")
    monkeypatch.setenv("PIP_CERT", str(bundle))
    assert indexes.bundle() == bundle
    assert f"SSL_CERT_FILE={indexes.BUNDLE}\n" in indexes.settings()
    assert buildah._authorities() == ["--volume", f"{bundle}:{indexes.BUNDLE}:ro"]


def test_uvs_indexes_are_those_of_its_file(builder, tmp_path, monkeypatch):
    file = tmp_path / "uv.toml"
    file.write_text(
        'extra-index-url = ["x://a", "x://b"]\n'
        '[[index]]\nurl = "x://c"\ndefault = true\n[[index]]\nurl = "x://d"\n'
    )
    monkeypatch.setattr(indexes, "_UV_FILES", (str(file),))
    said = indexes.settings().splitlines()
    assert "UV_EXTRA_INDEX_URL='x://a x://b'" in said
    assert "UV_DEFAULT_INDEX=x://c" in said
    assert "UV_INDEX=x://d" in said


def packed(path, files):
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return oci.on_disk(path, oci.IMAGE_LAYER)


METADATA = "Metadata-Version: 2.1\nName: Some_Thing\nVersion: 2.0\nLicense: MIT\n"
STATUS = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1+b{}\n\n"


@pytest.fixture
def filled(tmp_path):
    """An image with a Debian package of its base, one on top, and a Python package."""
    lower = packed(tmp_path / "0.tar", {"./var/lib/dpkg/status": STATUS.format("libc6", 1)})
    both = STATUS.format("libc6", 1) + STATUS.format("libgomp1", 2)
    site = "app/lib/python3.11/site-packages/some_thing-2.0.dist-info/METADATA"
    upper = packed(tmp_path / "1.tar", {"var/lib/dpkg/status": both, site: METADATA})
    config = oci.in_memory(b"{}", oci.IMAGE_CONFIG)
    return oci.Artifact("ghcr.io/rag-blueprint/x:0.1.0", config, [lower, upper])


def test_a_bill_has_debians_and_pythons_packages_and_is_the_same_again(filled, tmp_path, shared):
    first, again = tmp_path / "first", tmp_path / "again"
    sbom.write(filled, first)
    sbom.write(filled, again)
    assert first.read_bytes() == again.read_bytes()
    bill = json.loads(first.read_text())
    assert bill["metadata"]["component"]["purl"] == f"pkg:oci/x@{filled.digest}"
    assert {component["purl"] for component in bill["components"]} == {
        "pkg:deb/debian/libc6@1%2Bb1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libgomp1@1%2Bb2?arch=amd64&distro=debian-12",
        "pkg:pypi/some-thing@2.0",
    }
    (python,) = [c for c in bill["components"] if c["name"] == "some-thing"]
    assert python["licenses"] == [{"license": {"id": "MIT"}}]


def test_an_image_without_packages_has_no_bill(filled, tmp_path, shared):
    bare = replace(filled, layers=filled.layers[:1])
    with pytest.raises(ClusterError, match="0 Python and 1 Debian packages found"):
        sbom.write(bare, tmp_path / "bill")


@pytest.fixture
def shared(monkeypatch, tmp_path_factory):
    """The environment of the bills is made once: it downloads."""
    monkeypatch.delenv("RAG_CACHE_DIR")


def test_a_bill_refers_to_its_image_and_is_found_by_its_digest(filled, tmp_path):
    path = tmp_path / "bill.json"
    path.write_text("{}")
    bill, index = sbom.attached(filled, path)
    said = json.loads(bill.manifest)
    assert said["subject"]["digest"] == filled.digest
    assert said["artifactType"] == "application/vnd.cyclonedx+json"
    assert index.reference == f"ghcr.io/rag-blueprint/x:{filled.digest.replace(':', '-')}"
    (entry,) = json.loads(index.manifest)["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (bill.digest, said["artifactType"])
    registry = Registry(tmp_path / "registry")
    registry.add([filled, bill, index])
    assert index.reference in registry.references()


def test_an_image_goes_into_a_layout_whole(base, tmp_path):
    layout.write(base, tmp_path / "layout")
    (entry,) = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    assert entry["digest"] == base.digest
    for blob in (base.config, *base.layers):
        path = tmp_path / "layout/blobs" / blob.digest.replace(":", "/")
        assert path.stat().st_size == blob.size


FILES = {"clusters/lab/kustomization.yaml": b"resources: [../base]\n", "apps/x.yaml": b"a: 1\n"}


def test_the_published_checkout_says_what_our_tags_mean():
    digests = {"ghcr.io/x/b:1.0": "sha256:bb", "ghcr.io/x/a:1.0": "sha256:aa"}
    made = checkout.pinned(FILES, digests)
    assert made["apps/x.yaml"] == b"a: 1\n"
    cluster = yaml.safe_load(made["clusters/lab/kustomization.yaml"])
    assert cluster["resources"] == ["../base"]
    assert cluster["patches"] == [
        {
            "path": "images.yaml",
            "target": {"group": "kustomize.toolkit.fluxcd.io", "kind": "Kustomization"},
        }
    ]
    patch = yaml.safe_load(made["clusters/lab/images.yaml"])
    assert patch["spec"]["images"] == [
        {"name": "ghcr.io/x/a", "newTag": "1.0", "digest": "sha256:aa"},
        {"name": "ghcr.io/x/b", "newTag": "1.0", "digest": "sha256:bb"},
    ]


def test_digests_are_those_of_the_registry_and_a_missing_image_is_an_error(base, tmp_path):
    registry = Registry(tmp_path / "registry")
    registry.add([base])
    assert registry.digests([base.reference]) == {base.reference: base.digest}
    with pytest.raises(ClusterError, match="no ghcr.io/x/y:1; `make up` builds it"):
        registry.digests([base.reference, "ghcr.io/x/y:1"])
