"""The node on its machine: steps, commands, namespaces, providers."""

import inspect
import time
from pathlib import Path

import pytest
from rich.console import Console

from conformance.cluster import choose, existing, fixture, kind, traces
from conformance.cluster.base import ClusterError
from conformance.cluster.node import (
    commands,
    config,
    namespace,
    provider,
)
from conformance.cluster.node import tree as node_tree
from conformance.cluster.node.config import State
from conformance.cluster.node.files import place
from conformance.cluster.node.namespace import Namespace
from conformance.cluster.node.steps import Durations, Steps
from conformance.tests._cluster import plain_steps
from rag_common.files import write_atomic


@pytest.fixture
def lines(tmp_path):
    return plain_steps(tmp_path)


def test_a_step_says_what_it_takes_and_what_it_took(lines):
    with lines.step("images", 60):
        lines.note("one")
    said = lines.console.export_text()
    assert "images (about 60 s)" in said
    assert "✔ images 0." in said


def test_a_step_that_had_work_to_do_is_remembered(tmp_path):
    durations = Durations(tmp_path / "d.json")
    durations.remember("build", 0.4)  # everything was cached
    assert durations.expected("build", 600) == 600
    durations.remember("build", 512.34)
    assert Durations(tmp_path / "d.json").expected("build", 600) == 512.3


def test_damaged_durations_are_not_an_error(tmp_path):
    (tmp_path / "d.json").write_text("[")
    assert Durations(tmp_path / "d.json").expected("x", 3) == 3


def test_a_step_that_fails_is_not_ticked(lines):
    with pytest.raises(ClusterError), lines.step("images", 1):
        raise ClusterError("no")
    assert "✔" not in lines.console.export_text()


def test_a_failing_command_says_its_last_lines(tmp_path):
    with pytest.raises(ClusterError, match=r"exit code 3\nbad"):
        commands.run(["sh", "-c", "echo bad >&2; exit 3"], log=tmp_path / "log")
    assert "bad" in (tmp_path / "log").read_text()


def test_a_missing_program_is_named():
    with pytest.raises(ClusterError, match="no-such-program: no such program"):
        commands.run(["no-such-program"])


def test_a_command_that_does_not_end_is_an_error():
    with pytest.raises(ClusterError, match="no end after 0 s"):
        commands.run(["sleep", "5"], timeout=0.1)


def test_a_multi_call_program_is_run_by_name():
    words = ["sh", "-c", "echo $0"]
    assert commands.run(words, executable=Path("/bin/sh")).strip() == "sh"


def test_placing_replaces_and_shares(tmp_path):
    source = tmp_path / "a"
    source.write_text("1")
    place(source, tmp_path / "x/b")
    place(source, tmp_path / "x/b")
    assert (tmp_path / "x/b").stat().st_ino == source.stat().st_ino
    write_atomic(tmp_path / "secret", b"k", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("taken", ["10.244.0.0/16", "10.96.0.0/16", "10.254.0.0/30"])
def test_a_network_that_the_machine_uses_is_refused(monkeypatch, alone, taken):
    monkeypatch.setattr(namespace, "run", lambda words: f"{taken} via 192.0.2.1 dev eth0\n")
    with pytest.raises(ClusterError, match="already has a route"):
        namespace._check_machine()


def test_a_second_lab_on_a_machine_is_refused(monkeypatch):
    monkeypatch.setattr(namespace, "running", lambda: {Path("/elsewhere/lab/node"): 7})
    with pytest.raises(ClusterError, match=r"another lab runs on this machine \(/elsewhere/lab\)"):
        namespace._check_machine()


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(namespace, "running", dict)


def test_a_machine_with_other_networks_is_fine(monkeypatch, alone):
    monkeypatch.setattr(namespace, "run", lambda words: "default via 192.0.2.1 dev eth0\n")
    namespace._check_machine()


@pytest.mark.parametrize("version", [1, 2])
def test_cgroups_are_removed_from_the_leaves_up(tmp_path, monkeypatch, version):
    monkeypatch.setattr(namespace, "_CGROUPS", tmp_path)
    roots = [tmp_path] if version == 2 else [tmp_path / "cpu", tmp_path / "memory"]
    for root in roots:
        (root / "rag-lab/kubepods/pod1").mkdir(parents=True)
        (root / "cgroup.procs").touch()
    if version == 2:
        (tmp_path / "cgroup.controllers").touch()
    namespace._remove_cgroups()
    assert not list(tmp_path.rglob("rag-lab"))
    namespace._remove_cgroups()  # a second time finds nothing to do


def test_a_node_that_does_not_run_cannot_be_entered(tmp_path):
    with pytest.raises(ClusterError, match="not running"):
        Namespace(State(tmp_path / "lab")).enter(["true"])


def test_containerd_forgets_only_what_it_has(tmp_path, monkeypatch):
    calls = []

    def enter(self, command):
        calls.append(command[3:])
        return "a:1\nb:1\n"

    monkeypatch.setattr(Namespace, "enter", enter)
    Namespace(State(tmp_path)).forget(["b:1", "c:1"])
    assert calls[-1] == ["images", "remove", "b:1"]
    calls.clear()
    Namespace(State(tmp_path)).forget([])
    assert calls == []


def test_every_upstream_registry_is_mirrored():
    known = ["docker.elastic.co", "docker.io", "ghcr.io", "quay.io", "registry.k8s.io"]
    assert node_tree.upstream_registries() == known


def test_the_provider_follows_what_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose, "docker_answers", lambda: True)
    assert isinstance(choose.choose(tmp_path), kind.KindCluster)
    monkeypatch.setattr(choose, "docker_answers", lambda: False)
    assert isinstance(choose.choose(tmp_path), provider.NodeCluster)
    assert choose.choose(tmp_path, tmp_path / "kc").kubeconfig == tmp_path / "kc"
    assert isinstance(choose.choose(tmp_path, kind=True), kind.KindCluster)


def test_a_node_that_is_there_stays_the_cluster_when_docker_comes(monkeypatch, tmp_path):
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(choose, "docker_answers", lambda: True)
    assert isinstance(choose.choose(tmp_path), provider.NodeCluster)


def test_the_fixture_takes_what_stands_and_makes_one_only_when_told(monkeypatch, tmp_path):
    done = []

    class Fake:
        def __init__(self, kubeconfig):
            self.kubeconfig = kubeconfig

        def create(self):
            done.append("create")

        def delete(self):
            done.append("delete")

    monkeypatch.setattr(fixture, "choose", lambda state, given: Fake(given or state / "kubeconfig"))
    monkeypatch.setenv("RAG_STATE_DIR", str(tmp_path))
    monkeypatch.delenv(fixture.FILE, raising=False)
    monkeypatch.delenv(fixture.MAKE, raising=False)
    cluster = inspect.unwrap(fixture.cluster)
    with pytest.raises(pytest.skip.Exception, match="needs a cluster: `make up`"):
        next(cluster())
    monkeypatch.setenv(fixture.MAKE, "make")
    assert len(list(cluster())) == 1
    assert done == ["create", "delete"]
    monkeypatch.setenv(fixture.FILE, "/mine")
    assert next(cluster()).kubeconfig == Path("/mine")
    assert done == ["create", "delete"]


def test_a_docker_that_is_absent_or_deaf_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not kind.docker_answers()
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    assert not kind.docker_answers()


def test_an_existing_cluster_that_does_not_answer_is_an_error(tmp_path):
    cluster = existing.ExistingCluster(tmp_path / "kubeconfig")
    with pytest.raises(ClusterError, match="does not answer"):
        cluster.create()
    with pytest.raises(ClusterError, match="push it to a registry"):
        cluster.load_image("x:1")
    cluster.delete()


def test_what_is_left_behind_is_named_by_kind():
    before = {"links": frozenset({"lo"}), "mounts": frozenset()}
    assert traces.left_behind(before, before) == {}
    after = {"links": frozenset({"lo", "rag-lab"}), "mounts": frozenset()}
    assert traces.left_behind(before, after) == {"links": ["rag-lab"]}


def test_a_machine_is_noted_and_held_against_the_note(tmp_path, monkeypatch, capsys):
    seen = {"links": frozenset({"lo"})}
    monkeypatch.setattr(traces, "snapshot", lambda: seen)
    note = tmp_path / "before.json"
    assert traces.main(note) == 0
    assert traces.main(note) == 0
    seen["links"] |= {"rag-lab"}
    assert traces.main(note) == 1
    assert "left behind: links: rag-lab" in capsys.readouterr().err


def test_the_state_lies_in_one_folder(tmp_path):
    state = State(tmp_path / "lab")
    for path in (state.tree, state.kubeconfig, state.registry, state.log):
        assert path.is_relative_to(state.root)
    assert not state.lock.is_relative_to(state.root)  # deleting the lab holds it
    assert config.DATA.is_dir()


def test_a_terminal_gets_a_bar_with_the_expected_time(tmp_path):
    console = Console(record=True, width=120, force_terminal=True)
    steps = Steps(console, Durations(tmp_path / "d.json"))
    with steps.step("images", 60):
        steps.note("pause")
        time.sleep(0.3)  # the bar is drawn ten times a second
    assert "of about 60 s" in console.export_text(clear=False)


def test_kind_is_driven_through_its_provider_and_its_errors_are_named(tmp_path, monkeypatch):
    done = []

    class Fake:
        name = "rag-lab"

        def __init__(self, name, **options):
            done.append(options["kubeconfig"])

        def create(self):
            done.append("create")

        def load_docker_image(self, reference):
            raise RuntimeError("no such image")

        def delete(self):
            done.append("delete")

    monkeypatch.setattr(kind, "Kind", Fake)
    cluster = kind.KindCluster("rag-lab", tmp_path / "state")
    cluster.create()
    cluster.delete()
    assert done == [cluster.kubeconfig, "create", "delete"]
    with pytest.raises(ClusterError, match="load_docker_image rag-lab: no such image"):
        cluster.load_image("x:1")
