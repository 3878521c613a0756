"""A gate's plots as inline SVG."""

import io
import math
import re
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from conformance.gate import Plot

COLOURS = ("#0550ae", "#bc4c00", "#1a7f37", "#8250df", "#57606a")
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#eaeef2",
    "axes.axisbelow": True,
}


def _draw(axes: Axes, plot: Plot) -> None:
    width = 0.8 / max(1, len(plot.series))
    for number, (name, points) in enumerate(plot.series.items()):
        finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        xs, ys = [x for x, _ in finite], [y for _, y in finite]
        colour = COLOURS[number % len(COLOURS)]
        if plot.kind == "bar":
            step = min((b - a for a, b in zip(sorted(xs), sorted(xs)[1:], strict=False)), default=1)
            shift = (number - (len(plot.series) - 1) / 2) * width * step
            axes.bar([x + shift for x in xs], ys, width * step, label=name, color=colour)
        elif plot.kind == "scatter":
            axes.scatter(xs, ys, s=14, label=name, color=colour)
        elif plot.kind == "step":
            axes.step(xs, ys, where="post", label=name, color=colour)
        else:
            axes.plot(xs, ys, label=name, color=colour)


def _annotate(axes: Axes, plot: Plot) -> None:
    """What happened when, and what the x axis counts."""
    for at, what in plot.marks:
        axes.axvline(at, color="#8c959f", linewidth=0.6, linestyle=":")
        top: Any = {"transform": axes.get_xaxis_transform(), "va": "top", "ha": "right"}
        axes.text(at, 1, what, rotation=90, fontsize=5, color="#57606a", **top)
    if plot.names:
        axes.set_xticks(range(len(plot.names)), plot.names, rotation=60, ha="right", fontsize=6)


def svg(plot: Plot, salt: str) -> Markup:
    """The plot; `salt` keeps the ids of two plots on one page apart."""
    width = 10.6 if plot.marks or plot.names else 5.2
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width, 2.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _draw(axes, plot)
        _annotate(axes, plot)
        axes.set_title(plot.title, loc="left", fontsize=10)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        if len(plot.series) > 1:
            axes.legend(frameon=False, fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_inline(text.getvalue(), salt))  # noqa: S704 - matplotlib escapes its texts


def _inline(text: str, salt: str) -> str:
    """The svg element alone, its ids made unique."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{salt}-', body)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{salt}-", body)
