"""A tenant in the manifests: its folder, and its lines in the lists of the layers. Files only, no cluster."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from rag_common.tenancy import InvalidTenantError, tenant_name
from ragctl.edge import RateLimit
from ragctl.errors import RagctlError

STORE, SCHEDULE = "vectordb", "ingestion"  # layers that have a list of tenants, one a line
LEFT = "-"  # before the name of a tenant that the store removes, see `rag-onboard`
_COUNT = re.compile(r"(?<=completions: )\d+")
_MARK = "TENANT"


@dataclass(frozen=True)
class Overlay:
    """An overlay of the layers, `lab` or `cloud`, in a checkout, with what is to change in it."""

    root: Path
    name: str
    changes: dict[Path, str | None] = field(default_factory=dict)  # None: the file goes

    @classmethod
    def at(cls, root: Path, name: str) -> "Overlay":
        """The overlay; raises `RagctlError` when it has no tenants."""
        made = cls(root, name)
        if not (made.folder / "kustomization.yaml").is_file():
            raise RagctlError(f"{made.folder}: no such overlay; there are {', '.join(made.others)}")
        return made

    @property
    def folder(self) -> Path:
        """Where its tenants' folders are."""
        return self.root / "apps" / "tenants" / self.name

    @property
    def others(self) -> list[str]:
        """The overlays that have tenants."""
        found = self.folder.parent.glob("*/kustomization.yaml")
        return sorted(file.parent.name for file in found if file.parent.name != "base")

    def list_of(self, layer: str) -> Path:
        """The layer's list of tenants; raises `RagctlError` when there is not exactly one."""
        folder = self.root / "apps" / layer / self.name
        found = sorted(folder.rglob("tenants.txt"))
        if len(found) != 1:
            raise RagctlError(f"{folder}: {len(found)} files tenants.txt, one is needed")
        return found[0]

    def text(self, path: Path) -> str:
        """A file as it will be; raises `RagctlError` when it is not there."""
        if path in self.changes:
            return self.changes[path] or ""
        if not path.is_file():
            raise RagctlError(f"{path.relative_to(self.root)}: is not there, so no tenant fits in")
        return path.read_text(encoding="utf-8")

    def diff(self) -> Iterator[str]:
        """What changes, as `git diff` would show it."""
        for path, after in sorted(self.changes.items()):
            name = str(path.relative_to(self.root))
            before = path.read_text(encoding="utf-8") if path.is_file() else None
            yield from difflib.unified_diff(
                (before or "").splitlines(keepends=True),
                (after or "").splitlines(keepends=True),
                "/dev/null" if before is None else f"a/{name}",
                "/dev/null" if after is None else f"b/{name}",
            )

    def write(self) -> None:
        """Make the changes."""
        for path, after in self.changes.items():
            if after is None:
                path.unlink(missing_ok=True)
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(after, encoding="utf-8")


def add(overlay: Overlay, name: str, limit: RateLimit) -> None:
    """Plan a tenant's folder and its lines; raises `RagctlError` when the name is taken or none."""
    name = _valid(name)
    lines = _lines(overlay, STORE)
    if name in lines:
        raise RagctlError(f"tenant {name}: is there already")
    for template in files("ragctl").joinpath("tenant_template").iterdir():
        text = template.read_text(encoding="utf-8").replace(_MARK, name)
        overlay.changes[overlay.folder / name / template.name] = text
    _register(overlay, name, there=True)
    _list(overlay, STORE, [*(line for line in lines if line != LEFT + name), name])
    _schedule(overlay, [*_lines(overlay, SCHEDULE), name])
    _limit(overlay, name, limit)


def remove(overlay: Overlay, name: str) -> None:
    """Plan the way out: no list has the tenant any more, but that of the store, which removes it."""
    name = _valid(name)
    lines = _lines(overlay, STORE)
    if name not in lines:
        raise RagctlError(f"tenant {name}: is not in {overlay.list_of(STORE)}")
    for file in sorted((overlay.folder / name).glob("*")):
        overlay.changes[file] = None
    _register(overlay, name, there=False)
    _list(overlay, STORE, [*(line for line in lines if line != name), LEFT + name])
    _schedule(overlay, [line for line in _lines(overlay, SCHEDULE) if line != name])
    _limit(overlay, name, None)


def forget(overlay: Overlay, name: str) -> None:
    """Plan the end: the list of the store forgets the tenant, once the proof of its removal is kept."""
    left = LEFT + _valid(name)
    lines = _lines(overlay, STORE)
    if left not in lines:
        raise RagctlError(f"{overlay.list_of(STORE)}: has no {left}; remove the tenant first")
    _list(overlay, STORE, [line for line in lines if line != left])


def _valid(name: str) -> str:
    try:
        return tenant_name(name)
    except InvalidTenantError as error:
        raise RagctlError(str(error)) from error


def _lines(overlay: Overlay, layer: str) -> list[str]:
    return overlay.text(overlay.list_of(layer)).split()


def _list(overlay: Overlay, layer: str, names: list[str]) -> None:
    path = overlay.list_of(layer)
    if all(name.startswith(LEFT) for name in names):
        raise RagctlError(f"{path}: the last tenant stays")
    overlay.changes[path] = "".join(f"{name}\n" for name in names)


def _schedule(overlay: Overlay, names: list[str]) -> None:
    """The list of ingestion, and the number of pods that go through it."""
    _list(overlay, SCHEDULE, names)
    path = overlay.list_of(SCHEDULE).with_name("cron-job.yaml")
    text, found = _COUNT.subn(str(len(names)), overlay.text(path))
    if found != 1:
        raise RagctlError(f"{path}: one `completions: N` is needed")
    overlay.changes[path] = text


def _register(overlay: Overlay, name: str, *, there: bool) -> None:
    """The tenant's folder among the resources, which are the end of the file, the base first."""
    path = overlay.folder / "kustomization.yaml"
    head, base, rest = overlay.text(path).partition("  - ../base\n")
    items = set(rest.splitlines()) - {f"  - {name}"} | ({f"  - {name}"} if there else set())
    overlay.changes[path] = head + base + "".join(f"{item}\n" for item in sorted(items))


def _limit(overlay: Overlay, name: str, limit: RateLimit | None) -> None:
    path = overlay.root / "apps" / "guard" / overlay.name / "limits.yaml"
    lines = [n for n in overlay.text(path).splitlines() if not n.startswith(f"  {name}: ")]
    if limit is not None:
        lines += [] if "tenants:" in lines else ["tenants:"]
        said = f"requests_per_minute: {limit.requests_per_minute}, burst: {limit.burst}"
        lines.append(f"  {name}: {{{said}}}")
    elif lines[-1] == "tenants:":
        lines.pop()
    overlay.changes[path] = "\n".join(lines) + "\n"
