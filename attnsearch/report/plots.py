"""Pictures of a report, each as PNG and SVG, drawn without a display.

    pareto     error against cost with intervals, the baseline, the front
    curves     validation error by epoch of the archs of the front
    optimism   what the search promised against what fresh seeds gave

Colours are Okabe and Ito's, told apart by colour-blind readers; every distinction is also one of shape.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnsearch.core.estimate import Estimate
from attnsearch.core.text import capital, many
from attnsearch.report.archs import cost_title, is_listed, is_shown, median_curve
from attnsearch.report.table import quantity
from attnsearch.report.tables import Report
from attnsearch.report.verdicts import Judged, estimate, word
from attnsearch.statistics.front import ArchResult, Status

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#9A9A9A", "#222222"
_SIZE = (7.6, 4.8)  # inches: half a page of a paper, the width of a README
_MARKS: dict[str, tuple[str, str, bool]] = {  # status or verdict -> marker, colour, filled
    Status.BY_COST: ("o", BLUE, True),
    Status.CONFIRMED: ("o", BLUE, True),
    Status.UNDECIDED: ("o", BLUE, False),
    Status.NOT_CONFIRMED: ("v", GREY, False),
    Status.DOMINATED: (".", GREY, True),
    Status.UNKNOWN: ("o", GREY, False),
    "gain": ("^", BLUE, True),
    "harm": ("v", ORANGE, True),
    "equivalent": ("s", GREEN, False),
    "identical": ("s", INK, False),
    "no evidence": ("o", GREY, False),
    "not judged": (".", GREY, True),
    "control": ("D", INK, False),
}

_AROUND = ((9, 8), (-9, 8), (9, -8), (-9, -8), (13, 0), (-13, 0), (0, 12), (0, -12))
_PLACES = tuple((reach * x, reach * y) for reach in (1, 1.6, 2.3) for x, y in _AROUND)


@dataclass(frozen=True)
class Picture:
    """One figure; `alt` says in words what it shows, `caption` how to read it."""

    name: str
    title: str
    alt: str
    caption: str
    png: bytes
    svg: str


def draw(report: Report) -> list[Picture]:
    """Every picture that the study has numbers for."""
    drawn = [make(report) for make in (pareto, forest, effects, curves, optimism)]
    return [picture for picture in drawn if picture is not None]


def pareto(report: Report) -> Picture:
    """Error against cost; numbers beside points are those of the tables."""
    error = report.info.metric.error

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for status, (marker, colour, filled) in _MARKS.items():
            rows = [row for row in report.rows if row.outcome == status and not row.baseline]
            _points(axes, rows, marker, colour, filled, status)
        if report.baseline:
            _points(axes, [report.baseline], "s", INK, True, "baseline")
        if report.verdicts is None:  # a line through means that no verdict tells apart would say too much
            _staircase(axes, [row for row in report.rows if row.observed])
        axes.set_xlabel(cost_title(report.cost, report.info))
        axes.set_ylabel(f"validation {error} (%)")
        axes.xaxis.set_major_formatter(lambda value, _: quantity(value))
        means = [row.mean for row in report.rows]
        _frame_y(axes, [row.mean for row in report.rows if is_shown(row) or row.baseline], means)
        _frame_x(axes, [row.costs[0] for row in report.rows if not row.control])
        _label(axes, report.rows)
        _key(figure, axes, [row for row in report.rows if is_listed(row)])

    listed = [row for row in report.rows if is_listed(row)]
    alt = (
        f"Scatter of {many(len(report.rows), 'arch')}: {error} against {cost_title(report.cost, report.info)}; "
        + "; ".join(f"A{row.number} {row.title} at {row.mean:.2f} %" for row in listed)
    )
    caption = (
        "Lower left is better. Points are means over seeds; labelled ones, which the table lists, with 95 % CIs."
        + (" The line is the Pareto front of the means." if report.verdicts is None else "")
    )
    return _picture("pareto", f"{capital(error)} against cost ({report.audit})", alt, caption, paint)


def _reach(row: ArchResult) -> tuple[float, float]:
    """How far the interval of a mean goes down and up; it need not be symmetric, since errors lie in 0 to 100 %."""
    low, high = row.error.low, row.error.high
    return (math.nan, math.nan) if low is None or high is None else (row.mean - low, high - row.mean)


def _frame_x(axes: Any, costs: Sequence[float]) -> None:
    """Show the architectures that compete: a control of a fifth of the cost would squeeze them into a corner."""
    if costs and max(costs) > min(costs):
        margin = 0.06 * (max(costs) - min(costs))
        axes.set_xlim(min(costs) - margin, max(costs) + margin)


def curves(report: Report) -> Picture | None:
    """Validation error by epoch: median over seeds of each listed arch, five at most beside the baseline."""
    keys = [row for row in report.rows if is_listed(row) and not row.baseline and not row.control][:5]
    chosen = [*([report.baseline] if report.baseline else []), *keys]
    lines = {row.number: median_curve(report.record, row.key, report.epochs) for row in chosen}
    if not any(len(line) > 1 for line in lines.values()):
        return None

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
        others = iter(styles)
        for row in chosen:  # colours say what they say beside costs; which arch, style and number say
            colour = INK if row.baseline else _MARKS[row.outcome][1]
            style = "-" if row.baseline else next(others)
            epochs = range(1, len(lines[row.number]) + 1)
            name = f"A{row.number}  {_short(row.title, 70)}"
            axes.plot(
                epochs, lines[row.number], color=colour, linestyle=style, linewidth=1.8, label=_literal(name)
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {report.info.metric.error} (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
        _number_ends(axes, lines)
        figure.legend(loc="outside lower left", frameon=False, fontsize=8)

    alt = f"Learning curves of {many(len(chosen), 'arch')} over {many(report.epochs, 'epoch')}"
    caption = (
        f"Validation {report.info.metric.error} by epoch on a logarithmic scale, median over the seeds of each arch. "
        "Colours are those of the picture against cost."
    )
    return _picture("curves", "Learning curves (median over seeds)", alt, caption, paint)


def optimism(report: Report) -> Picture | None:
    """Search value and fresh mean of each arch that has both."""
    rows = [row for row in report.rows if row.optimism is not None and not row.baseline]
    if not rows:
        return None
    rows.sort(key=lambda row: row.mean)

    def paint(figure: Any) -> None:
        figure.set_size_inches(_SIZE[0], 1.5 + 0.34 * len(rows))
        axes = figure.add_subplot()
        upwards, heights = rows[::-1], range(len(rows))
        fresh = [row.mean for row in upwards]
        search = [row.mean - (row.optimism or 0.0) for row in upwards]
        axes.plot([search, fresh], [heights, heights], color=GREY, linewidth=1.2, zorder=1)
        axes.plot(search, heights, "D", color=ORANGE, markersize=5, label="selection seed")
        axes.errorbar(
            fresh,
            heights,
            xerr=[row.error.half or 0.0 for row in upwards],
            fmt="o",
            color=BLUE,
            markersize=5,
            elinewidth=1,
            label="mean over independent seeds, 95 % CI",
        )
        axes.set_yticks(heights, [_literal(f"A{row.number}  {_short(row.title, 48)}") for row in upwards])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_xlabel(f"validation {report.info.metric.error} (%)")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)

    alt = f"For {many(len(rows), 'arch')}, the selection value beside the mean over independent seeds"
    caption = "A diamond left of its circle: the selection value was optimistic. Report the circles."
    return _picture("optimism", "Selection vs independent seeds", alt, caption, paint)


def forest(report: Report) -> Picture | None:
    """Each variant's difference from the baseline with its simultaneous interval."""
    if not isinstance(report.judged, Judged):
        return None
    analysis = report.judged.analysis
    judged = report.judged
    ordered = [*reversed(judged.controls), *reversed(judged.variants)]
    names = {v.variant: f"control: {v.variant}" for v in judged.controls}
    lines = [
        (
            f"A{judged.rows[v.variant].number}  {names.get(v.variant, v.variant)}",
            estimate(v.estimate, v.simultaneous, v.n),
            word(analysis, v),
        )
        for v in ordered
    ]
    margin = ordered[0].margin

    def paint(figure: Any) -> None:
        _intervals(figure, lines, margin)
        figure.axes[0].set_xlabel(f"difference from {_literal(analysis.baseline)} (percentage points)")

    alt = "; ".join(f"{v.variant}: {word(analysis, v)}, {v.estimate:+.2f} points" for v in reversed(ordered))
    caption = "Right of zero is better. Bars are simultaneous 95 % CIs." + (
        f" The band is the margin of {margin:.2f} points." if margin else ""
    )
    title = f"Differences from {analysis.baseline}, {many(analysis.blocks, 'seed')} ({report.audit})"
    return _picture("forest", title, alt, caption, paint)


def effects(report: Report) -> Picture | None:
    """Main effects and interactions of a factorial design."""
    if not isinstance(report.judged, Judged) or not report.judged.effects:
        return None
    found = sorted(report.judged.effects, key=lambda effect: abs(effect.estimate))[-16:]
    lines = [(e.name, estimate(e.estimate, e.interval, 0), "gain" if e.p_holm <= 0.05 else "") for e in found]

    def paint(figure: Any) -> None:
        _intervals(figure, lines, None)
        figure.axes[0].set_xlabel("effect (percentage points)")

    alt = "; ".join(f"{e.name}: {e.estimate:+.2f} points" for e in reversed(found))
    caption = "Largest first; bars are unadjusted 95 % CIs. Filled: p by Holm at most 0.05."
    return _picture("effects", f"Main effects and interactions ({report.audit})", alt, caption, paint)


def _intervals(figure: Any, lines: Sequence[tuple[str, Estimate, str]], margin: float | None) -> None:
    width, _ = _SIZE
    figure.set_size_inches(width, 1.3 + 0.34 * len(lines))
    axes = figure.add_subplot()
    if margin:
        axes.axvspan(-margin, margin, color="#E4E4E4", zorder=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    looks = {"gain": ("o", BLUE), "harm": ("v", ORANGE), "equivalent": ("s", GREEN), "identical": ("s", INK)}
    for height, (_, value, verdict) in enumerate(lines):
        marker, colour = looks.get(verdict, ("o", GREY))
        face = colour if verdict in looks else "white"
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [height, height], color=colour, linewidth=1.6, zorder=2)
        axes.plot(value.mean, height, marker, color=colour, markerfacecolor=face, markersize=6, zorder=3)
    names = [
        f"{_short(name, 48)}{f': {verdict}' if verdict and margin is not None else ''}"
        for name, _, verdict in lines
    ]
    axes.set_yticks(range(len(lines)), [_literal(name) for name in names])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.grid(visible=False, axis="y")


def _picture(name: str, title: str, alt: str, caption: str, paint: Callable[[Any], None]) -> Picture:
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
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.hashsalt": name,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        paint(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once; each format would do it again, twice
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=160, metadata={"Software": "attnsearch"})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": "attnsearch"})
    return Picture(name, title, alt, caption, png.getvalue(), svg.getvalue())


def _points(axes: Any, rows: Sequence[ArchResult], marker: str, colour: str, filled: bool, name: str) -> None:
    if not rows:
        return
    x, y = zip(*map(_position, rows), strict=True)
    bars = np.array([_reach(row) if is_listed(row) else (math.nan, math.nan) for row in rows]).T
    axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
    axes.scatter(
        x,
        y,
        marker=marker,
        s=30,
        edgecolors=colour,
        facecolors=colour if filled else "white",
        zorder=4 if filled else 3,  # what is confirmed covers what is not
        label=f"{name} ({len(rows)})" if name != "baseline" else name,
    )


def _staircase(axes: Any, rows: Sequence[ArchResult]) -> None:
    points = sorted(map(_position, rows))
    look = {
        "color": INK,
        "linewidth": 0.9,
        "linestyle": ":",
        "zorder": 2,
        "label": "front of the means",
    }
    axes.step(*zip(*points, strict=True), where="post", **look)


def _frame_y(axes: Any, means: Sequence[float], every: Sequence[float]) -> None:
    """Keep an arch that learned nothing from squeezing all others into a line; the edge says so."""
    low, high = axes.get_ylim()
    reach = max(means) - min(means) or 1.0
    top = max(means) + 1.5 * reach
    if high > top:
        axes.set_ylim(low, top)
        above = many(sum(mean > top for mean in every), "architecture")
        axes.annotate(
            f"{above} above the axis",
            (1, 1),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=7,
            color=INK,
        )


def _label(axes: Any, rows: Sequence[ArchResult]) -> None:
    """The listed archs' numbers beside their points, each at the first place that nothing else takes."""
    axes.figure.draw_without_rendering()
    scale = axes.figure.dpi / 72
    taken = axes.transData.transform([_position(row) for row in rows])
    for index, row in enumerate(rows):
        if not is_listed(row):
            continue
        spots = taken[index] + scale * np.array(_PLACES)
        room = np.hypot(*(spots[:, None] - taken).T).min(axis=0)
        free = np.flatnonzero(room > 10 * scale)
        place = int(free[0] if len(free) else room.argmax())
        taken = np.vstack([taken, spots[place]])
        axes.annotate(
            f"A{row.number}",
            _position(row),
            _PLACES[place],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            zorder=5,
        )


def _number_ends(axes: Any, lines: Mapping[int, Sequence[float]]) -> None:
    """Each line's number beside its last point; lines that end together share one text, the lowest first."""
    axes.figure.draw_without_rendering()
    groups: list[list[tuple[int, tuple[int, float]]]] = []
    last = -math.inf
    ends = {number: (len(line), line[-1]) for number, line in lines.items() if line}
    for number, end in sorted(ends.items(), key=lambda pair: pair[1][1]):
        height = axes.transData.transform(end)[1]
        if height - last >= 9 * axes.figure.dpi / 72:
            groups.append([])
        groups[-1].append((number, end))
        last = height
    for group in groups:
        axes.annotate(
            ", ".join(f"A{number}" for number, _ in group),
            group[0][1],
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold",
        )


def _position(row: ArchResult) -> tuple[float, float]:
    return row.costs[0], row.mean


def _key(figure: Any, axes: Any, rows: Sequence[ArchResult]) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=6,
        frameon=False,
        fontsize=8,
        borderpad=0.1,
        columnspacing=1.2,
        handletextpad=0.4,
    )
    names = [f"A{row.number}  {_short(row.title, 100)}" for row in rows[:12]]
    if len(rows) > 12:
        names.append(f"… and {len(rows) - 12} more in the table")
    width, height = _SIZE
    figure.set_size_inches(width, height + 0.16 * len(names))
    figure.supxlabel(_literal("\n".join(names)), x=0.01, ha="left", fontsize=8)


def _short(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _literal(text: str) -> str:
    """A legend leaves out labels that begin with an underscore; control characters have no glyph."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text).lstrip("_")
