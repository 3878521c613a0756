"""The report of a run: report.json, an HTML page, checksums and their signature."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from conformance.run import Run

FILES = ("report.json", "report.html", "junit.xml", "SHA256SUMS", "SHA256SUMS.sig")
FOLDERS = ("evidence", "proof", "runbooks")


def clear(folder: Path) -> None:
    """Remove an earlier run's report, so that nothing stale is taken for this run's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


class Written(NamedTuple):
    """A report on disk: the verdict, the sentence that explains it, and the page."""

    verdict: str
    headline: str
    page: Path


def write(run: "Run") -> Written:
    """Write everything but JUnit's file, which pytest wrote before, and seal it all."""
    from conformance.report import data, page, runbooks, seal

    folder = run.settings.report
    record = data.record(run)
    pages = runbooks.write(folder, [gate["id"] for gate in record["gates"]])
    shown = page.write(folder, record, run.results)
    written = [data.write(folder, record), shown, *pages]
    junit = folder / "junit.xml"
    seal.seal(folder, [*written, *([junit] if junit.is_file() else [])], run.settings.signing_key)
    return Written(run.verdict, page.headline(record), shown)
