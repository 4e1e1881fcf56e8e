"""Picture: one figure as PNG, SVG and PDF, drawn without a display, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnsearch.report.arch_strip import Strip

# Okabe and Ito's colours; every distinction is also one of shape.
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#767676", "#222222"
BLOCKS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")  # of what stands in a stage, in order
_LETTER = 0.56  # width of a letter over its size, on average


@dataclass(frozen=True)
class Medium:
    """What a figure is drawn for.

    Args:
        width, height: in inches, the height without names below the plot.
        size, small: of letters, in points; a journal asks for 6 or 7 at least.
        keys: architectures whose strips stand below the plot of costs, at most.
        printed: no title, which the caption gives; letters of the SVG as outlines, since its reader may lack the font.
    """

    width: float
    height: float
    size: float = 9
    small: float = 7.5
    keys: int = 12
    printed: bool = False

    @property
    def wide(self) -> bool:
        return self.width > 5

    def letters(self, inches: float, size: float | None = None) -> int:
        """Letters of the small size, or of `size`, that so much of a line holds."""
        return int(72 * inches / (_LETTER * (size or self.small)))


SCREEN = Medium(7.6, 4.8)  # the width of a README
PHONE = Medium(3.6, 3.2, 8, 7, keys=6)
PAPER = {  # a column of a two-column page, and both
    "single": Medium(3.5, 2.6, 8, 7, keys=8, printed=True),
    "double": Medium(7.0, 4.0, 8, 7, printed=True),
}


@dataclass(frozen=True)
class Picture:
    """One figure; `alt` says in words what it shows, `caption` how to read it; all texts in the PDF are embedded."""

    name: str
    title: str
    alt: str
    caption: str
    png: bytes
    svg: str
    pdf: bytes

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.svg


def draw(
    name: str,
    title: str,
    alt: str,
    caption: str,
    paint: Callable[[Any, Medium], None],
    medium: Medium = SCREEN,
) -> Picture:
    """Let `paint` draw on a new figure, and write it in each format; text in the SVG of a page stays text."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(name, medium)):
        figure = Figure(figsize=(medium.width, medium.height), layout="constrained")
        FigureCanvasAgg(figure)
        if not medium.printed:
            shown = textwrap.fill(literal(title), medium.letters(medium.width, 1.1 * (medium.size + 1)))
            figure.suptitle(shown, x=0.01, ha="left", fontsize=medium.size + 1, fontweight="bold")
        paint(figure, medium)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once; each format would do it again, twice
        png, svg, pdf = io.BytesIO(), io.StringIO(), io.BytesIO()
        if medium is not PHONE:  # that is a page's, which shows the SVG alone
            figure.savefig(
                png, format="png", dpi=300 if medium.printed else 160, metadata={"Software": "attnsearch"}
            )
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "attnsearch"})
        if medium.printed:
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": "attnsearch"})
    return Picture(name, title, alt, caption, png.getvalue(), svg.getvalue(), pdf.getvalue())


def _style(name: str, medium: Medium) -> Any:
    return {
        "font.size": medium.size,
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
        "xtick.labelsize": medium.size if medium.wide else medium.small,
        "ytick.labelsize": medium.size if medium.wide else medium.small,
        "svg.hashsalt": name,
        "svg.fonttype": "path" if medium.printed else "none",
        "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
        "text.parse_math": False,
    }


def lines_of(strip: Strip | str, letters: int) -> list[str]:
    """An architecture, or any words, in lines of at most so many letters, broken between stages where that does."""
    lines = strip.lines(letters) if isinstance(strip, Strip) else [strip]
    return [part for line in lines for part in textwrap.wrap(literal(line), max(8, letters)) or [""]]


def literal(text: str) -> str:
    """A legend leaves out labels that begin with an underscore; control characters have no glyph."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).lstrip("_")
