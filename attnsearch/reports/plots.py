"""Pictures of a report, each as PNG and SVG, drawn without a display.

    pareto     error against cost with intervals, the baseline, the front
    curves     validation error by epoch of the archs of the front
    optimism   what the search promised against what fresh seeds gave

Colours are Okabe and Ito's, told apart by colour-blind readers; every distinction is also one of shape.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnsearch.reports.rows import ArchRow, cost_title
from attnsearch.reports.table import quantity
from attnsearch.reports.tables import Report

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#9A9A9A", "#222222"
_SIZE = (7.6, 4.8)  # inches: half a page of a paper, the width of a README
_MARKS = {  # status -> marker, colour, filled
    "confirmed": ("o", BLUE, True),
    "candidate": ("o", BLUE, False),
    "dropped": ("v", GREY, False),
    "dominated": (".", GREY, True),
    "undecided": (".", GREY, True),
}


@dataclass(frozen=True)
class Picture:
    """One figure; `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    png: bytes
    svg: str


def draw(report: Report) -> list[Picture]:
    """Every picture that the study has numbers for."""
    drawn = [make(report) for make in (pareto, curves, optimism)]
    return [picture for picture in drawn if picture is not None]


def pareto(report: Report) -> Picture:
    """Error against cost; numbers beside points are those of the tables."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for status, (marker, colour, filled) in _MARKS.items():
            rows = [row for row in report.rows if row.status == status and not row.baseline]
            _points(axes, rows, marker, colour, filled, status)
        if report.baseline:
            _points(axes, [report.baseline], "s", ORANGE, True, "baseline")
        _staircase(axes, [row for row in report.rows if row.standing.observed])
        axes.set_xlabel(cost_title(report.cost, report.facts))
        axes.set_ylabel("validation error (%)")
        axes.xaxis.set_major_formatter(lambda value, _: quantity(value))
        _frame_y(axes, [row.standing.mean for row in report.rows if row.shown or row.baseline])
        _label(axes, [row for row in report.rows if row.listed])
        _key(figure, axes, [row for row in report.rows if row.listed])

    listed = [row for row in report.rows if row.listed]
    alt = (
        f"Scatter of {len(report.rows)} archs: error against {cost_title(report.cost, report.facts)}; "
        + "; ".join(f"{row.number} {row.label} at {row.standing.mean:.2f} %" for row in listed)
    )
    return _picture("pareto", f"Error against cost ({report.audit})", alt, paint)


def curves(report: Report) -> Picture | None:
    """Validation error by epoch: median over seeds of each listed arch, five at most beside the baseline."""
    keys = [row for row in report.rows if row.listed and not row.baseline][:5]
    chosen = [*([report.baseline] if report.baseline else []), *keys]
    lines = {row.number: _median_curve(report, row.trial.key) for row in chosen}
    if not any(len(line) > 1 for line in lines.values()):
        return None

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
        others = iter(zip((BLUE, GREEN, "#CC79A7", "#56B4E9", "#E69F00"), styles, strict=True))
        for row in chosen:
            colour, style = (ORANGE, "-") if row.baseline else next(others)
            epochs = range(1, len(lines[row.number]) + 1)
            name = f"{row.number}  {_short(row.label, 70)}"
            axes.plot(
                epochs, lines[row.number], color=colour, linestyle=style, linewidth=1.8, label=_literal(name)
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation error (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8)

    alt = f"Learning curves of {len(chosen)} archs over {report.epochs} epochs"
    return _picture("curves", "Learning curves (median over seeds)", alt, paint)


def optimism(report: Report) -> Picture | None:
    """Search value and fresh mean of each arch that has both."""
    rows = [row for row in report.rows if row.standing.optimism is not None and not row.baseline]
    if not rows:
        return None
    rows.sort(key=lambda row: row.standing.mean)

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for height, row in enumerate(reversed(rows)):
            fresh = row.standing.mean
            search = fresh - (row.standing.optimism or 0.0)
            axes.plot([search, fresh], [height, height], color=GREY, linewidth=1.2, zorder=1)
            axes.plot(
                search, height, "D", color=ORANGE, markersize=5, label="search value" if not height else None
            )
            half = row.error.half or 0.0
            axes.errorbar(
                fresh,
                height,
                xerr=half,
                fmt="o",
                color=BLUE,
                markersize=5,
                elinewidth=1,
                label="mean over fresh seeds, 95 % interval" if not height else None,
            )
        axes.set_yticks(
            range(len(rows)), [_literal(f"{r.number}  {_short(r.label, 48)}") for r in reversed(rows)]
        )
        axes.tick_params(axis="y", labelsize=8)
        axes.set_xlabel("validation error (%)")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)

    alt = f"For {len(rows)} archs, the value that chose them beside the mean over fresh seeds"
    return _picture("optimism", "What the search promised, what fresh seeds gave", alt, paint)


def _picture(name: str, title: str, alt: str, paint: Callable[[Any], None]) -> Picture:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "svg.hashsalt": name,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        paint(figure)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=160, metadata={"Software": "attnsearch"})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "attnsearch"})
    return Picture(name, title, alt, png.getvalue(), svg.getvalue())


def _points(axes: Any, rows: Sequence[ArchRow], marker: str, colour: str, filled: bool, name: str) -> None:
    if not rows:
        return
    x, y = [row.standing.candidate.costs[0] for row in rows], [row.standing.mean for row in rows]
    half = [row.error.half if row.error.half is not None and row.listed else math.nan for row in rows]
    axes.errorbar(x, y, yerr=half, fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
    axes.scatter(
        x,
        y,
        marker=marker,
        s=30,
        edgecolors=colour,
        facecolors=colour if filled else "white",
        zorder=3,
        label=f"{name} ({len(rows)})" if name != "baseline" else name,
    )


def _staircase(axes: Any, rows: Sequence[ArchRow]) -> None:
    points = sorted((row.standing.candidate.costs[0], row.standing.mean) for row in rows)
    axes.step(*zip(*points, strict=True), where="post", color=BLUE, linewidth=1, alpha=0.6, zorder=2)


def _frame_y(axes: Any, means: Sequence[float]) -> None:
    """Keep an arch that learned nothing from squeezing all others into a line; the edge says so."""
    low, high = axes.get_ylim()
    reach = max(means) - min(means) or 1.0
    top = max(means) + 1.5 * reach
    if high > top:
        axes.set_ylim(low, top)
        axes.annotate(
            "archs above this edge: see the table",
            (1, 1),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=7,
            color=INK,
        )


def _label(axes: Any, rows: Sequence[ArchRow]) -> None:
    """Numbers beside their points, each at the first of eight places that is free."""
    axes.figure.canvas.draw()
    taken: list[tuple[float, float]] = [
        tuple(axes.transData.transform((row.standing.candidate.costs[0], row.standing.mean))) for row in rows
    ]
    places = [
        (9, 9),
        (-9, 9),
        (9, -9),
        (-9, -9),
        (16, 0),
        (-16, 0),
        (0, 16),
        (0, -16),
        (22, 14),
        (-22, 14),
        (22, -14),
    ]
    for row, (x, y) in zip(rows, list(taken), strict=True):
        scale = axes.figure.dpi / 72
        spots = [(x + dx * scale, y + dy * scale, dx, dy) for dx, dy in places]
        room = [min(math.dist((sx, sy), spot) for spot in taken) for sx, sy, _, _ in spots]
        free = next((i for i, gap in enumerate(room) if gap > 12 * scale), room.index(max(room)))
        sx, sy, dx, dy = spots[free]
        taken.append((sx, sy))
        axes.annotate(
            str(row.number),
            (row.standing.candidate.costs[0], row.standing.mean),
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=INK,
            zorder=5,
        )


def _key(figure: Any, axes: Any, rows: Sequence[ArchRow]) -> None:
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8)
    names = [f"{row.number}  {_short(row.label, 100)}" for row in rows[:12]]
    if len(rows) > 12:
        names.append(f"… and {len(rows) - 12} more in the table")
    width, height = _SIZE
    figure.set_size_inches(width, height + 0.16 * len(names))
    figure.supxlabel(_literal("\n".join(names)), x=0.01, ha="left", fontsize=8)


def _median_curve(report: Report, key: str) -> list[float]:
    from statistics import median

    runs = [
        t.curve
        for t in report.record.trials
        if t.key == key and t.state == "complete" and t.epochs == report.epochs
    ]
    length = min((len(run) for run in runs), default=0)
    return [median(run[epoch].val_error for run in runs) for epoch in range(length)]


def _short(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _literal(text: str) -> str:
    """A legend leaves out labels that begin with an underscore; control characters have no glyph."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).lstrip("_")
