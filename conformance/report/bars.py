"""A measured interval against its limit as a small inline SVG."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT, MARGIN = 180, 26, 8


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def bar(measured: Mapping[str, Any] | None, limit: Mapping[str, float], passed: bool) -> Markup:
    """The interval, the value and the limit on one scale; '' when the value is not a number."""
    value = _number(measured["value"]) if measured else None
    if measured is None or value is None:
        return Markup("")
    kind, wanted = next(iter(limit.items()))
    low, high = _number(measured["low"]), _number(measured["high"])
    points = [p for p in (value, wanted, low, high) if p is not None]
    span = (max(points) - min(points)) or abs(value) or 1.0
    first, width = min(points) - 0.25 * span, 1.5 * span

    def x(point: float) -> float:
        return round(MARGIN + (point - first) / width * (WIDTH - 2 * MARGIN), 1)

    colour = "#1a7f37" if passed else "#cf222e"
    parts = [_good_side(kind, x(wanted)), _limit(x(wanted))]
    if low is not None and high is not None:
        parts.append(_interval(x(low), x(high), colour))
    parts.append(f'<circle cx="{x(value)}" cy="13" r="3.5" fill="{colour}"/>')
    label = f"value {value:.4g}, limit {kind} {wanted:g}"
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bar" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _good_side(kind: str, at: float) -> str:
    left, width = (at, WIDTH - at) if kind == "min" else (0.0, at)
    return f'<rect x="{left}" y="4" width="{round(width, 1)}" height="18" fill="#e6f4ea"/>'


def _limit(at: float) -> str:
    return f'<line x1="{at}" x2="{at}" y1="2" y2="24" stroke="#57606a" stroke-dasharray="3 2"/>'


def _interval(low: float, high: float, colour: str) -> str:
    ends = "".join(
        f'<line x1="{at}" x2="{at}" y1="9" y2="17" stroke="{colour}" stroke-width="1.5"/>'
        for at in (low, high)
    )
    line = f'<line x1="{low}" x2="{high}" y1="13" y2="13" stroke="{colour}" stroke-width="1.5"/>'
    return line + ends
