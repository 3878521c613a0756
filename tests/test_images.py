"""The Dockerfile against what the packages say of themselves. (Building it needs a container engine.)"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[1] / "images"
LOCKS = IMAGES.parent / "requirements"
LIBRARIES = {"common", "assets", "store"}
PROGRAMS = sorted({p.parent.name for p in IMAGES.glob("*/pyproject.toml")} - LIBRARIES)


def stages(text: str) -> dict[str, list[list[str]]]:
    """Each stage's instructions as words, its FROM first."""
    found: dict[str, list[list[str]]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if words and words[0] == "FROM":
            found[words[-1]] = [words]
        elif words and words[0] != "#" and found:
            found[list(found)[-1]].append(words)
    return found


@pytest.fixture(scope="module")
def text():
    return (IMAGES / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def made(text):
    return stages(text)


def lines(stage, instruction):
    return [words[1:] for words in stage if words[0] == instruction]


def test_every_program_is_a_target(made):
    assert set(made) == {"build", "wheels", "runtime", *PROGRAMS, *(f"{p}-build" for p in PROGRAMS)}


def test_the_base_is_one_exact_version(text, made):
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.M)
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", base)
    assert {stage[0][1] for stage in made.values()} == {"${PYTHON_IMAGE}", "build", "runtime"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_has_its_lock_and_the_libraries_that_it_names(made, program):
    stage = made[f"{program}-build"]
    assert stage[0][1] == "build"
    (lock, _), wheels = (
        [w for w in words if not w.startswith("--")] for words in lines(stage, "COPY")
    )
    for name in {lock, lock.replace("${LOCK}", program)} - {"requirements/${LOCK}.txt"}:
        assert (LOCKS.parent / name).is_file()
    project = tomllib.loads((IMAGES / program / "pyproject.toml").read_text())["project"]
    named = {d.removeprefix("rag-") for d in project["dependencies"] if d.startswith("rag-")}
    copied = {re.sub(r"/wheels/rag_(\w+)-\*", r"\1", w) for w in wheels if w != "/wheels/"}
    assert copied == {program, *_closed(named)}


def _closed(names: set[str]) -> set[str]:
    below = set()
    for name in names:
        data = tomllib.loads((IMAGES / name / "pyproject.toml").read_text())
        below |= {
            d.removeprefix("rag-") for d in data["project"]["dependencies"] if d.startswith("rag-")
        }
    return names | (_closed(below - names) if below - names else set())


def test_whatever_is_installed_is_hashed_or_our_own(text):
    installs = re.findall(r"pip install ([^&\n]+)", text.replace("\\\n", " "))
    assert len(installs) == 1 + 2 * len(PROGRAMS)
    for words in map(shlex.split, installs):
        assert {"--require-hashes", "--only-binary"} <= set(words) or words[0] == "--no-index"


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_image_runs_as_nobody_and_holds_only_the_environment(made, program):
    stage = made[program]
    assert stage[0][1] == "runtime"
    users = [*lines(made["runtime"], "USER"), *lines(stage, "USER")]
    assert users[-1] == ["65532:65532"]
    assert lines(stage, "COPY") == [[f"--from={program}-build", "/app", "/app"]]
    packages = [w for run in lines(stage, "RUN") for w in re.findall(r"\S+=\S+", " ".join(run))]
    assert all(re.fullmatch(r"lib[a-z0-9]+=\S+", package) for package in packages)
    assert not re.search(r"gcc|g\+\+|build-essential|-dev\b", str(stage))


def test_the_readme_names_every_target_and_lock(made):
    readme = (IMAGES / "README.md").read_text()
    for program in PROGRAMS:
        assert re.search(rf"^\| `{program}` .*`{program}\.txt`", readme, re.M)
