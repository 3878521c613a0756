import multiprocessing
from pathlib import Path

import pytest

from rag_assets import cache_dir, cli, derived, is_derived
from rag_assets.progress import reporting


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "a"))
    assert cache_dir() == tmp_path / "a"
    monkeypatch.delenv("RAG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_dir() == tmp_path / "b/rag-blueprint"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache/rag-blueprint"


def test_derived_is_built_once_for_its_inputs(shelf):
    built = []

    def build(folder):
        built.append(1)
        (folder / "x").write_text("made")

    assert (derived("m/int8", "d" * 64, build) / "x").read_text() == "made"
    derived("m/int8", "d" * 64, build)
    assert len(built) == 1
    derived("m/int8", "e" * 64, build)
    assert len(built) == 2


def test_asking_what_is_cached_builds_nothing(shelf):
    assert not is_derived("index", "a" * 64)
    derived("index", "a" * 64, lambda folder: None)
    assert is_derived("index", "a" * 64)
    assert not is_derived("index", "b" * 64)


def test_a_failed_build_leaves_nothing(shelf):
    def build(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derived("m", "d", build)
    left = [p for p in (cache_dir() / "derived").iterdir() if not p.name.endswith(".lock")]
    assert left == []


def test_what_a_killed_build_left_is_not_taken_over(shelf):
    half = cache_dir() / "derived/.m-d.partial"
    half.mkdir(parents=True)
    (half / "half").write_text("x")
    folder = derived("m", "d", lambda f: (f / "whole").touch())
    assert [p.name for p in folder.iterdir()] == ["whole"]


def append_and_wait(folder):
    import time

    with (cache_dir() / "runs").open("a") as runs:
        runs.write("x")
    time.sleep(0.2)
    (folder / "x").touch()


def build_shared(_):
    return derived("shared", "d", append_and_wait)


def test_processes_take_turns(shelf):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert len(set(pool.map(build_shared, range(3)))) == 1
    assert (cache_dir() / "runs").read_text() == "x"


def test_the_command_line(shelf, capsys):
    shelf.declare_folder()
    assert cli.main(["list"]) == 0
    assert "corpus" in capsys.readouterr().out
    assert cli.main(["fetch", "corpus", "--verify"]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()).is_dir()
    assert "corpus is ready after" in err
    assert cli.main(["path", "corpus"]) == 0
    assert capsys.readouterr().out == out
    assert cli.main(["fetch", "nope"]) == 1
    assert capsys.readouterr().err.startswith("rag-assets: no asset 'nope'")
    with pytest.raises(SystemExit) as usage:
        cli.main(["frobnicate"])
    assert usage.value.code == 2


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with reporting("corpus") as reporter:
        reporter.start("part", 2_000_000)
        reporter.advance(2_000_000)
    err = capsys.readouterr().err
    assert "corpus" in err
    assert "2.0/2.0 MB" in err
