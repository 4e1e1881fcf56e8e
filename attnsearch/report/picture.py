"""Picture: one figure as PNG and SVG, drawn without a display, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours; every distinction is also one of shape.
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#767676", "#222222"
BLOCKS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")  # of what stands in a stage, in order
SIZE = (7.6, 4.8)  # inches: half a page of a paper, the width of a README


@dataclass(frozen=True)
class Picture:
    """One figure; `alt` says in words what it shows, `caption` how to read it."""

    name: str
    title: str
    alt: str
    caption: str
    png: bytes
    svg: str

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.svg


def draw(name: str, title: str, alt: str, caption: str, paint: Callable[[Any], None]) -> Picture:
    """Let `paint` draw on a new figure, and write it in both formats; text in the SVG stays text."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 9,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.hashsalt": name,
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10, fontweight="bold")
        paint(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once; each format would do it again, twice
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=160, metadata={"Software": "attnsearch"})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "attnsearch"})
    return Picture(name, title, alt, caption, png.getvalue(), svg.getvalue())


def literal(text: str) -> str:
    """A legend leaves out labels that begin with an underscore; control characters have no glyph."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).lstrip("_")
