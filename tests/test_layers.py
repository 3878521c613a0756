"""Dependencies point one way: images never import each other, gates -> probes -> targets."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = {"rag_common", "rag_assets", "rag_store"}
IMAGES = {p.name for p in (ROOT / "images").glob("*/src/rag_*")} - LIBRARIES
ALLOWED = {
    "rag_common": set(),
    "rag_assets": set(),
    "rag_store": {"rag_common"},
    **dict.fromkeys(IMAGES, LIBRARIES),
    "conformance": LIBRARIES,
    "ragctl": LIBRARIES | IMAGES | {"conformance"},
}
OURS = set(ALLOWED)


def imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def modules(package: str) -> list[Path]:
    folders = [*ROOT.glob(f"images/*/src/{package}"), *ROOT.glob(f"cli/src/{package}")]
    folder = folders[0] if folders else ROOT / package
    return [p for p in folder.rglob("*.py") if "tests" not in p.relative_to(folder).parts]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_lies_below_it(package):
    files = modules(package)
    assert files
    for file in files:
        used = {name.split(".")[0] for name in imports(file)} & OURS - {package}
        assert used <= ALLOWED[package], f"{file.relative_to(ROOT)} imports {used}"


@pytest.mark.parametrize(
    ("lower", "upper"), [("targets", {"probes", "gates"}), ("probes", {"gates"})]
)
def test_the_suite_points_from_gates_to_probes_to_targets(lower, upper):
    for file in (ROOT / "conformance" / lower).rglob("*.py"):
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == "conformance" and len(parts) > 1:
                assert parts[1] not in upper, f"{file.relative_to(ROOT)} imports {name}"
