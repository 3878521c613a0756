"""Credentials in text: by the shape of the value, or by the name it is given to."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from conformance.static.credentials import NAMES

_SHAPES = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"),
    "a token of a known issuer": re.compile(
        r"\b(?:AKIA[0-9A-Z]{16}|AIza[\w-]{35}|gh[oprsu]_\w{36}|github_pat_\w{50,}|glpat-[\w-]{20,}"
        r"|xox[abpr]-[\w-]{20,}|hv[sbr]\.[\w-]{24,}|hf_[A-Za-z0-9]{30,}|sk-[\w-]{32,})"
    ),
    "a password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:([^\s@/'\"]+)@[\w.\[]"),
}
# What stands for a value: a variable, a template, an ellipsis, the name of a file.
_STANDS_FOR = re.compile(r"^(?:\$|\{|%|<|\[|/|\./|\*|\.\.\.|file:|vault:|unix:)|^\W*$")
_ASSIGNED = re.compile(
    r"^[ \t]*(?:export[ \t]+)?[\"']?([A-Za-z][\w.-]*)[\"']?[ \t]*[:=][ \t]*[\"']?([^\s\"',;#]+)",
    re.M,
)
# The injector's annotation names a path of the vault.
_REFERENCE = "vault.hashicorp.com/agent-inject-secret-"
_WORDS = {"true", "false", "null", "none", "string", "required", "optional"}


def shaped(text: str, examples: Collection[str] = ()) -> Iterator[str]:
    """What in `text` looks like a credential wherever it stands, with its line.

    A URL's password among `examples` is none.
    """
    for what, shape in _SHAPES.items():
        for match in shape.finditer(text):
            value = match[1] if match.groups() else match[0]
            if value not in examples and not _STANDS_FOR.match(value):
                yield f"line {text.count(chr(10), 0, match.start()) + 1}: {what}"


def named(name: str, value: str) -> bool:
    """Whether `name` is that of a credential and `value` is one written out."""
    text = value.strip()
    given = bool(text) and text.lower() not in _WORDS and not _STANDS_FOR.match(text)
    named_so = NAMES.search(name.replace("-", "_")) is not None
    return given and named_so and not name.startswith(_REFERENCE)


def configured(name: str, text: str) -> Iterator[str]:
    """What a configuration file gives a credential's name to, and what is shaped like one."""
    yield from shaped(text)
    if named(name, text) and "\n" not in text.strip():
        yield f"{name} is written out"
    pairs = (
        _literals(text) if name.endswith(".py") else {*_assigned(text), *_pairs(_documents(text))}
    )
    for key in sorted({key for key, value in pairs if named(key, value)}):
        yield f"{key} is written out"


def _literals(code: str) -> set[tuple[str, str]]:
    """Names that Python code gives a string to; a name that it computes a value for has none written out."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # not what it calls itself
        return set(_assigned(code))
    found: set[tuple[str, str]] = set()
    given: list[tuple[str, ast.expr | None]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            given = [(ast.unparse(target), node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            given = [(ast.unparse(node.target), node.value)]
        elif isinstance(node, ast.keyword):
            given = [(node.arg or "", node.value)]
        elif isinstance(node, ast.Dict):
            given = [(_text(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        else:
            continue
        found |= {(name, text) for name, value in given if (text := _text(value))}
    return found


def _text(node: ast.expr | None) -> str:
    """A string constant's text, '' for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _documents(text: str) -> list[Any]:
    """The text as YAML, which JSON is; nothing where it is neither."""
    try:
        return list(yaml.load_all(text, yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError):
        return []


def _pairs(document: Any) -> Iterator[tuple[str, str]]:
    if isinstance(document, Mapping):
        for key, value in document.items():
            if isinstance(value, str | int):
                yield str(key), str(value)
        yield from _pairs(list(document.values()))
    elif isinstance(document, list):
        for item in document:
            yield from _pairs(item)


def _assigned(text: str) -> Iterator[tuple[str, str]]:
    return ((match[1], match[2]) for match in _ASSIGNED.finditer(text))
