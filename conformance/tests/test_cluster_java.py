"""Servers in Java: what is pinned, what is refused, what is put beside the jars."""

import zipfile

import pytest

from conformance.cluster.base import ClusterError
from conformance.cluster.node import java
from conformance.cluster.node.config import DATA, load
from conformance.servers.process import Server

LIBS = "opt/kafka/libs"


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """A tree with the names that are pinned, each jar with a content of its own."""
    (tmp_path / LIBS).mkdir(parents=True)
    for name in ("a-1.jar", "b-2.jar"):
        (tmp_path / LIBS / name).write_text(name)
    pinned = java.digests(tmp_path)
    monkeypatch.setattr(java, "pinned", lambda _: pinned)
    return tmp_path


def test_every_server_is_pinned():
    for server in load(java.JARS):
        assert len(java.pinned(server)) > 50
    lines = (DATA / java.LOCK).read_text().splitlines()
    assert len(lines) == sum(len(java.pinned(server)) for server in load(java.JARS))


def test_what_is_pinned_passes(resolved):
    java.check("kafka", resolved)


@pytest.mark.parametrize("change", ["changed", "missing", "added"])
def test_another_jar_is_refused_by_name(resolved, change):
    jar = resolved / LIBS / ("c-3.jar" if change == "added" else "b-2.jar")
    jar.unlink() if change == "missing" else jar.write_text("something else")
    with pytest.raises(ClusterError, match=jar.name):
        java.check("kafka", resolved)


def test_the_project_file_has_coordinates_and_exclusions():
    text = java._pom(["g:a:1:zip"], ["x:*"]).decode()
    assert "<artifactId>a</artifactId><version>1</version><type>zip</type>" in text
    assert "<exclusion><groupId>x</groupId><artifactId>*</artifactId></exclusion>" in text


def test_a_plugin_is_described_beside_its_jar(tmp_path):
    folder = tmp_path / "x-pack-core"
    folder.mkdir()
    with zipfile.ZipFile(folder / "x-pack-core-1.jar", "w") as jar:
        jar.writestr("META-INF/es-plugins/x-pack-core/", "")
        text = "name=x-pack-core\nmodulename=org.x\nversion=1\n"
        jar.writestr("META-INF/es-plugins/x-pack-core/plugin-descriptor.properties", text)
    java._describe(folder)
    found = (folder / "plugin-descriptor.properties").read_text()
    assert found == "name=x-pack-core\nversion=1\n"


def test_a_server_that_ends_is_an_error_with_its_last_words(tmp_path):
    server = Server(["sh", "-c", "echo no room; exit 3"], tmp_path / "log", lambda: False)
    with pytest.raises(ClusterError, match="no room"):
        server.start()


def test_a_server_is_paused_resumed_and_killed(tmp_path):
    server = Server(["sleep", "60"], tmp_path / "log", lambda: True)
    server.start()
    server.pause()
    server.resume()
    server.kill()
    server.kill()
    server.start()
    server.kill()
