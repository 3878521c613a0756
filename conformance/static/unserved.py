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
def charts() -> dict[str, str]:
    """Charts that cannot be rendered, and what their values were written from."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8"))["charts"])
