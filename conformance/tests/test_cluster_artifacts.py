"""Images, artifacts and the registry that serves them, without a cluster."""

import gzip
import io
import json
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conformance.cluster.base import ClusterError
from conformance.cluster.node import artifacts, checkout, oci, registry, sources
from conformance.cluster.node.registry import Registry
from conformance.cluster.node.sources import File
from conformance.errors import GitError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "tool"
    path.write_bytes(b"#!/bin/true\n")
    path.chmod(0o755)
    return path


def members(blob):
    with tarfile.open(blob.content) as tar:
        return {m.name: (m.mode, m.uid, m.linkname) for m in tar.getmembers()}


def test_a_layer_has_the_files_owned_by_root_and_is_cached(program):
    files = [File("/usr/bin/vault", link="bao"), File("/usr/bin/bao", content=program)]
    first, again = oci.layer(files), oci.layer(reversed(files))
    assert members(first) == {"usr/bin/bao": (0o755, 0, ""), "usr/bin/vault": (0o777, 0, "bao")}
    assert first == again
    assert first.digest != oci.layer([File("/usr/bin/bao", content=program)]).digest


def test_an_image_names_its_layers_user_and_entrypoint(program, tmp_path):
    base = tmp_path / "base.tar"
    with tarfile.open(base, "w"):
        pass
    made = oci.image(
        "x/y:1", [File("/usr/bin/t", content=program)], base=base, entrypoint=["t"], user="65534"
    )
    config = json.loads(made.config.content)
    manifest = json.loads(made.manifest)
    assert config["config"]["User"] == "65534"
    assert config["config"]["Entrypoint"] == ["t"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert len(manifest["layers"]) == 2
    assert manifest["config"]["size"] == len(made.config.content)


@pytest.mark.parametrize("path", ["/bin/t", "/sbin/t", "/lib/t", "/lib64/t"])
def test_a_file_that_would_replace_a_link_of_the_tree_is_refused(program, tmp_path, path):
    with pytest.raises(ClusterError, match="put it under /usr"):
        oci.image("x/y:1", [File(path, content=program)], base=tmp_path / "base.tar")


@pytest.mark.parametrize("source", ["nowhere:x", "plain", ""])
def test_a_source_of_an_unknown_kind_is_refused(source):
    with pytest.raises(ClusterError, match="is no program"):
        sources.resolve("/x", source)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    root = tmp_path / "packages"
    for name in ("server/bin/run", "server/share/a/x", "one"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "server/plugins").mkdir()
    monkeypatch.setattr(sources.wheels, "folder", lambda requirements: root)
    monkeypatch.setattr(sources.java, "tree", lambda server: root / server)
    return root


@pytest.mark.parametrize("source", ["wheel:server/", "java:server/"])
def test_a_folder_is_taken_whole_with_empty_folders(packages, source):
    files = sources.resolve("/opt/s/", source)
    assert [file.path for file in files] == [
        "/opt/s/bin/run",
        "/opt/s/share/a/x",
        "/opt/s/plugins/",
    ]
    assert members(oci.layer(files))["opt/s/plugins"] == (0o755, 0, "")


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("/opt/s", "wheel:server/", "both end with a slash"),
        ("/opt/s/", "wheel:one", "both end with a slash"),
        ("/opt/s/", "wheel:server/plugins/", "there is no file in"),
        ("/opt/s/", "java:server/nothing/", "there is no file in"),
        ("/opt/s", "wheel:server/nothing", "there is no file"),
    ],
)
def test_a_folder_or_file_that_is_not_there_is_refused(packages, path, source, complaint):
    with pytest.raises(ClusterError, match=complaint):
        sources.resolve(path, source)


def test_an_images_own_folder_of_programs_is_searched_first(program):
    made = oci.image("x/y:1", [File("/opt/bin/t", content=program)], path="/opt/bin")
    (found,) = json.loads(made.config.content)["config"]["Env"]
    assert found.startswith("PATH=/opt/bin:/usr/local/bin:")


def test_flux_artifacts_are_the_same_bytes_for_the_same_files():
    one = artifacts.flux_artifact("a/b:1", {"b.yaml": b"2", "a.yaml": b"1"}, revision="r")
    two = artifacts.flux_artifact("a/b:1", {"a.yaml": b"1", "b.yaml": b"2"}, revision="r")
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(one.layers[0].content))) as tar:
        assert tar.getnames() == ["a.yaml", "b.yaml"]
    assert json.loads(one.manifest)["annotations"] == {"org.opencontainers.image.revision": "r"}


class Puts(BaseHTTPRequestHandler):
    seen: dict[str, bytes]

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_PUT(self):
        self.seen[self.path] = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if "refused" in self.path else 201)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    handler = type("Handler", (Puts,), {"seen": {}})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{serving.server_port}"
    monkeypatch.setattr(registry, "network", lambda: type("At", (), {"registry_url": url}))
    yield handler.seen
    serving.shutdown()


def test_the_registry_has_the_blobs_on_disk_and_is_told_every_manifest_again(
    server, tmp_path, program
):
    image = oci.image("ghcr.io/x/y:v1", [File("/t", content=program)], entrypoint=["/t"])
    Registry(tmp_path / "registry").add([image])
    again = Registry(tmp_path / "registry")  # as after a restart
    again.publish()
    assert server == {"/v2/ghcr.io/x/y/manifests/v1": image.manifest}
    for blob in (image.config, *image.layers):
        path = tmp_path / "registry/blobs" / blob.digest.replace(":", "/")
        assert path.stat().st_size == blob.size


def test_a_reference_moves_to_what_was_added_last(server, tmp_path):
    held = Registry(tmp_path / "registry")
    first = artifacts.flux_artifact("a/b:1", {"a": b"1"})
    newer = artifacts.flux_artifact("a/b:1", {"a": b"2"})
    assert held.add([first]) == held.add([first]) == []
    assert held.add([newer]) == ["a/b:1"]
    held.publish()
    assert held.references() == ["a/b:1"]
    assert server["/v2/a/b/manifests/1"] == newer.manifest


def test_a_refusal_of_the_registry_is_an_error(server, tmp_path):
    held = Registry(tmp_path / "registry")
    held.add([artifacts.flux_artifact("refused/b:1", {"a": b"1"})])
    with pytest.raises(ClusterError, match="refused/b:1 refused"):
        held.publish()


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    for name, text in {
        "clusters/lab/kustomization.yaml": "a: 1\n",
        "platform/b.yaml": "b: 1\n",
        "docs/c.md": "c",
        ".gitignore": "*.tmp\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(root), *identity, *words], check=True)
    return root


def names(artifact):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(artifact.layers[0].content))) as tar:
        return tar.getnames()


def test_a_committed_tree_is_named_by_its_commit(repository):
    head = subprocess.check_output(
        ["git", "-C", repository, "rev-parse", "HEAD"], text=True
    ).strip()
    assert checkout.revision(repository) == f"main@sha1:{head}"
    assert names(checkout.artifact(repository, "r:lab", {})) == [
        "clusters/lab/images.yaml",
        "clusters/lab/kustomization.yaml",
        "platform/b.yaml",
    ]


def test_an_uncommitted_tree_is_named_by_its_content_too(repository):
    clean = checkout.revision(repository)
    (repository / "platform/new.yaml").write_text("n: 1\n")
    (repository / "platform/left.tmp").write_text("ignored")
    first = checkout.revision(repository)
    assert first.startswith(f"{clean}-dirty.")
    assert "platform/new.yaml" in names(checkout.artifact(repository, "r:lab", {}))
    assert "platform/left.tmp" not in names(checkout.artifact(repository, "r:lab", {}))
    (repository / "platform/new.yaml").write_text("n: 2\n")
    assert checkout.revision(repository) not in {clean, first}


def test_a_change_outside_what_flux_reads_is_not_dirty(repository):
    clean = checkout.revision(repository)
    (repository / "docs/c.md").write_text("other")
    assert checkout.revision(repository) == clean


def test_a_deleted_file_is_left_out(repository):
    (repository / "platform/b.yaml").unlink()
    assert names(checkout.artifact(repository, "r:lab", {})) == [
        "clusters/lab/images.yaml",
        "clusters/lab/kustomization.yaml",
    ]
    assert "-dirty." in checkout.revision(repository)


def test_a_folder_that_is_no_repository_is_an_error(tmp_path):
    with pytest.raises(GitError, match="git rev-parse failed"):
        checkout.revision(tmp_path)
