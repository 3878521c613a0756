"""What to do about each gate, beside the report: the pages travel with it and are sealed with it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "runbooks" / "gates"


def write(folder: Path, gates: Iterable[str]) -> list[Path]:
    """Copy the page of each gate that has one into `folder/runbooks`."""
    (folder / "runbooks").mkdir(exist_ok=True)
    found = (PAGES / f"{gate}.md" for gate in gates)
    copies = [(page, folder / "runbooks" / page.name) for page in found if page.is_file()]
    return [Path(shutil.copyfile(page, copy)) for page, copy in copies]


def link(folder: Path, gate: str) -> str:
    """The page of a gate as a link of the report, or '' where there is none."""
    name = f"runbooks/{gate}.md"
    return name if (folder / name).is_file() else ""
