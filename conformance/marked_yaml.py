"""YAML with the line of every key, so that an error can name file, path and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import SloError


@dataclass(frozen=True, slots=True)
class MarkedYaml:
    """A parsed file: its data and its node tree."""

    file: Path
    data: Any
    root: yaml.Node

    def line(self, path: Sequence[str | int]) -> int:
        """The line (from 1) of the deepest part of `path` that is in the file."""
        node, line = self.root, 1
        for part in path:
            found = _step(node, part)
            if found is None:
                break
            node, line = found
        return line

    def error(self, path: Sequence[str | int], message: str) -> SloError:
        """An error that names file, line and path."""
        where = ".".join(map(str, path)) or "(top level)"
        return SloError(f"{self.file}:{self.line(path)}: {where}: {message}")


def _step(node: yaml.Node, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _refuse_duplicates(file: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(file, value)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise SloError(f"{file}:{key.start_mark.line + 1}: {key.value}: declared twice")
            seen.add(key.value)
            _refuse_duplicates(file, value)


def load(file: Path) -> MarkedYaml:
    """Parse `file`; raises `SloError` when it is missing, not YAML or has a key twice."""
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except OSError as error:
        raise SloError(f"{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SloError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        raise SloError(f"{file}: the file is empty")
    _refuse_duplicates(file, root)
    return MarkedYaml(file, data, root)
