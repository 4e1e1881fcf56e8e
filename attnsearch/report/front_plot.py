"""The plot of error against cost: who competes fills it, and no label lies on another one or on a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.text import capital, many
from attnsearch.report.arch_strip import NOTHING
from attnsearch.report.archs import cost_name, cost_title, is_listed
from attnsearch.report.formatting import quantities
from attnsearch.report.picture import BLOCKS, BLUE, GREEN, GREY, INK, ORANGE, SIZE, Picture, draw, literal
from attnsearch.report.tables import Report
from attnsearch.statistics.front import ArchResult, Status

MARKS: dict[str, tuple[str, str, bool]] = {  # status or verdict -> marker, colour, filled
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
    "no verdict": ("o", GREY, False),
    "not judged": (".", GREY, True),
    "control": ("D", INK, False),
}
KEYS = 12  # architectures whose strips stand below the plot
SQUEEZED = (
    0.25  # share of the axis below which the cheaper half of the listed architectures cannot be told apart
)
RASTERIZED = (
    500  # points of one kind from which they are pixels in an SVG too, whose size would grow with them
)
_KEY_LINE = 0.19  # inches

_AROUND = ((17, 0), (-17, 0), (11, 10), (-11, 10), (11, -10), (-11, -10), (0, 12), (0, -12))  # points
_PLACES = tuple((reach * x, reach * y) for reach in (1, 1.6, 2.3, 3.2, 4.4) for x, y in _AROUND)


def pareto(report: Report) -> Picture:
    """Error against cost; names beside points are those of the tables, their strips stand below."""
    listed = [row for row in report.rows if is_listed(row)]
    ranked = not report.withheld

    def paint(figure: Any) -> None:
        keys = listed[:KEYS]
        more = len(listed) > KEYS
        height = _KEY_LINE * (len(keys) + more)
        figure.set_size_inches(SIZE[0], SIZE[1] + height)
        axes, key = figure.subplots(2, 1, height_ratios=[SIZE[1] - 0.5, height])
        _points(axes, report)
        _frame(axes, report, listed)
        _name_points(axes, report.rows)
        axes.legend(
            **{"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 6, "frameon": False, "fontsize": 8},
            **{"borderpad": 0.1, "columnspacing": 1.2, "handletextpad": 0.4},
        )
        _key(key, report, keys, len(listed) - len(keys))

    alt = (
        f"Scatter of {many(len(report.rows), 'architecture')}: {report.info.metric.error} against "
        f"{cost_title(report.cost, report.info)}; "
        + "; ".join(f"A{row.number} {report.strip(row)} at {row.mean:.2f} %" for row in listed)
    )
    caption = (
        "Lower left is better. Points are means over seeds; named ones, which the table lists, with 95 % CIs."
        + (" The line is the Pareto front of the means." if report.verdicts is None and ranked else "")
        + ("" if ranked else " There is no front, since the recipe is far from converged.")
    )
    title = f"{capital(report.info.metric.error)} against cost ({report.audit})"
    return draw("pareto", title, alt, caption, paint)


def _points(axes: Any, report: Report) -> None:
    for status, (marker, colour, filled) in MARKS.items():
        rows = [row for row in report.rows if row.outcome == status and not row.baseline]
        _mark(axes, rows, marker, colour, filled, f"{status} ({len(rows)})")
    if report.baseline:
        _mark(axes, [report.baseline], "s", INK, True, "baseline")
    points = sorted(_position(row) for row in report.rows if row.observed)
    if (
        points and report.verdicts is None
    ):  # a line through means that no verdict tells apart would say too much
        look = {"color": INK, "linewidth": 0.9, "linestyle": ":", "zorder": 2, "label": "front of the means"}
        axes.step(*zip(*points, strict=True), where="post", **look)


def _mark(axes: Any, rows: Sequence[ArchResult], marker: str, colour: str, filled: bool, name: str) -> None:
    if not rows:
        return
    x, y = zip(*map(_position, rows), strict=True)
    bars = np.array([_reach(row) if is_listed(row) else (math.nan, math.nan) for row in rows]).T
    axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
    face = colour if filled else "white"
    order = 4 if filled else 3  # what is confirmed covers what is not
    look = {"edgecolors": colour, "facecolors": face, "zorder": order, "label": name}
    axes.scatter(x, y, marker=marker, s=30, rasterized=len(rows) > RASTERIZED, **look)


def _reach(row: ArchResult) -> tuple[float, float]:
    """How far the interval of a mean goes down and up; it need not be symmetric, since errors lie in 0 to 100 %."""
    low, high = row.error.low, row.error.high
    return (math.nan, math.nan) if low is None or high is None else (row.mean - low, high - row.mean)


def _position(row: ArchResult) -> tuple[float, float]:
    return row.costs[0], row.mean


def _frame(axes: Any, report: Report, listed: Sequence[ArchResult]) -> None:
    """Axes as wide as what is listed; what lies beyond them is counted in a corner, never drawn small."""
    competing = [row for row in listed if not row.control] or list(listed)
    costs = np.array([row.costs[0] for row in competing])
    plain = report.baseline.costs[0] if report.baseline else 0.0
    name = cost_name(report.cost)
    if plain > 0 and is_squeezed(costs):
        least = max(1e-3, float(np.min(np.abs(costs / plain - 1)[costs != plain], initial=0.01)))
        axes.set_xscale("function", functions=_extra(plain, least))
        axes.set_xticks(plain * (1 + _round_steps(costs / plain - 1, least)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * (value / plain - 1):+.3g} %")
        axes.set_xlabel(f"{name} above the baseline's {quantities([plain])[0]} (logarithmic)")
    else:
        axes.set_xlabel(cost_title(report.cost, report.info))
        axes.xaxis.set_major_formatter(_costs())
    _limit(axes.set_xlim, axes.transScale, costs, 0)
    means = np.array([row.mean for row in competing])
    reach = float(np.ptp(means)) or 1.0
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, means.min() - 1.5 * reach), min(high, means.max() + 1.5 * reach))
    axes.set_ylabel(f"validation {report.info.metric.error} (%)")
    _beyond(axes, report.rows)


def is_squeezed(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Whether a linear axis would show the cheaper half in less than `SQUEEZED` of its width."""
    costs = np.asarray(values, float)
    spread = float(np.ptp(costs)) if len(costs) else 0.0
    return bool(
        spread > 0
        and float(np.median(costs) - costs.min()) < SQUEEZED * spread
        and costs.max() > 1.3 * costs.min()
    )


def _extra(plain: float, least: float) -> tuple[Any, Any]:
    """A scale that is linear up to `least` above or below the baseline and logarithmic beyond."""

    def forward(cost: Any) -> Any:
        return np.arcsinh((np.asarray(cost) / plain - 1) / least)

    def back(place: Any) -> Any:
        return plain * (1 + least * np.sinh(np.asarray(place)))

    return forward, back


def _round_steps(extra: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """0 and powers of ten, times 1 or 3, that lie among `extra`."""
    powers = [m * 10.0**n for n in range(-4, 5) for m in (1, 3)]
    steps = [
        0.0,
        *(s for s in powers if least <= s <= extra.max()),
        *(-s for s in powers if extra.min() <= -s <= -least),
    ]
    return np.array(sorted(steps))


def _limit(set_limits: Any, scale: Any, values: NDArray[np.float64], axis: int) -> None:
    """Limits a little beyond the outermost values, as the scale shows them."""
    points = np.zeros((2, 2))
    points[:, axis] = values.min(), values.max()
    low, high = scale.transform(points)[:, axis]
    if high > low:
        margin = 0.06 * (high - low)
        points = np.zeros((2, 2))
        points[:, axis] = low - margin, high + margin
        set_limits(*scale.inverted().transform(points)[:, axis])


def _costs() -> Any:
    """Ticks of as many digits as it takes that no two are alike."""
    from matplotlib.ticker import Formatter

    class Costs(Formatter):
        def __call__(self, value: float, pos: int | None = None) -> str:
            return quantities([value])[0]

        def format_ticks(self, values: list[float]) -> list[str]:
            return quantities(values)

    return Costs()


def _beyond(axes: Any, rows: Sequence[ArchResult]) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    sides = {
        "above": sum(row.mean > high for row in rows),
        "below": sum(row.mean < low for row in rows),
        "to the left": sum(row.costs[0] < left for row in rows),
        "to the right": sum(row.costs[0] > right for row in rows),
    }
    found = ", ".join(f"{count} {side}" for side, count in sides.items() if count)
    if found:
        look = {"ha": "right", "va": "top", "fontsize": 7, "color": INK}
        axes.annotate(f"outside this plot: {found}", (1, 1), xycoords="axes fraction", **look)


def _name_points(axes: Any, rows: Sequence[ArchResult]) -> None:
    """The listed names, each at the nearest place where nothing stands; without one the table alone has it."""
    axes.figure.draw_without_rendering()
    scale = axes.figure.dpi / 72
    inside = axes.get_window_extent().padded(-8 * scale)
    points = axes.transData.transform([_position(row) for row in rows])
    bars = [_bar(axes, row) for row in rows if is_listed(row)]
    taken: list[NDArray[np.float64]] = []
    half = np.array([11.0, 6.0]) * scale
    for index, row in enumerate(rows):
        if not is_listed(row) or not inside.contains(*points[index]):
            continue
        for offset in _PLACES:
            spot = points[index] + scale * np.array(offset)
            if inside.contains(*spot) and _is_free(spot, half, points, bars, taken, scale):
                taken.append(spot)
                _name(axes, row, offset)
                break


def _bar(axes: Any, row: ArchResult) -> NDArray[np.float64]:
    low, high = _reach(row)
    ends = [(row.costs[0], row.mean - low), (row.costs[0], row.mean + high)]
    return np.asarray(axes.transData.transform(ends), float)


def _is_free(
    spot: NDArray[np.float64],
    half: NDArray[np.float64],
    points: NDArray[np.float64],
    bars: Sequence[NDArray[np.float64]],
    taken: Sequence[NDArray[np.float64]],
    scale: float,
) -> bool:
    """Whether a label of that half size covers no point, no interval and no other label."""
    if (np.abs(points - spot) < half + 3 * scale).all(axis=1).any():
        return False
    if any((np.abs(other - spot) < 2 * half).all() for other in taken):
        return False
    return not any(
        abs(x - spot[0]) < half[0] and low - half[1] < spot[1] < high + half[1]
        for (x, low), (_, high) in bars
    )


def _name(axes: Any, row: ArchResult, offset: tuple[float, float]) -> None:
    far = math.hypot(*offset) > 24
    axes.annotate(
        f"A{row.number}",
        _position(row),
        offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold",
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        if far
        else None,
    )


def _key(axes: Any, report: Report, rows: Sequence[ArchResult], more: int) -> None:
    """One line for each architecture: its name and its strip."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + bool(more), 0)
    colours = {block: BLOCKS[i % len(BLOCKS)] for i, block in enumerate(report.notation.blocks)}
    for line, row in enumerate(rows):
        axes.text(0, line + 0.5, f"A{row.number}", va="center", fontsize=7.5, fontweight="bold")
        strip = report.strip(row)
        cells = [] if strip.name or strip.widths else strip.cells
        if not any(cell.text for cell in cells):
            axes.text(0.06, line + 0.5, literal(str(strip)), va="center", fontsize=7.5)
            continue
        wide = 0.94 / len(cells)
        for at, cell in enumerate(cells):
            _cell(axes, 0.06 + at * wide, line, wide, cell.text, colours.get(cell.block.split("+")[0], GREY))
    if more:
        axes.text(0.06, len(rows) + 0.5, f"and {more} more in the table", va="center", fontsize=7.5)


def _cell(axes: Any, left: float, line: int, wide: float, text: str, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (left, line + 0.06), wide - 0.006, 0.88, facecolor=colour, alpha=0.22 if text else 0, linewidth=0
        )
    )
    room = int(wide * 120)  # letters of this size
    shown = text if len(text) <= room else text[: room - 1] + "…"
    axes.text(left + 0.006, line + 0.5, literal(shown or NOTHING), va="center", fontsize=7)
