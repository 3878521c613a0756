"""Anything as plain JSON data: what JSON cannot hold is named, never dropped."""

import dataclasses
import math
from collections.abc import Mapping, Set
from typing import Any

import numpy as np


def plain(data: Any) -> Any:
    """`data` of JSON's own types; NaN and infinities become their names, other objects text."""
    if isinstance(data, np.generic | np.ndarray):
        data = data.tolist()
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = {f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(k): plain(v) for k, v in data.items()}
    if isinstance(data, Set):
        return sorted((plain(v) for v in data), key=str)
    if isinstance(data, list | tuple):
        return [plain(v) for v in data]
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else str(data)
    return data if data is None or isinstance(data, bool | int | str) else str(data)
