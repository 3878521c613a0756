"""What cannot be held against its schema here, because no registry in reach has it."""

from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("unserved.yaml")


@cache
def groups() -> dict[str, str]:
    """API groups without a schema, and why."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"])


@cache
def modules() -> dict[str, dict[str, str]]:
    """Charts of HelmRepositories that lie in a Go module: `name:version` and where."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["modules"])


@cache
def repositories() -> dict[str, dict[str, str]]:
    """GitRepositories whose tag is a Go module."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["repositories"])


@cache
def charts() -> dict[str, str]:
    """Charts that cannot be rendered, and what their values were written from."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["charts"])
