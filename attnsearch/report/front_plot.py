"""The plot of error against cost: who competes fills it, and no label lies on another one or on a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.text import capital, many
from attnsearch.report.arch_strip import NOTHING, Strip
from attnsearch.report.archs import cost_name, cost_title, is_listed
from attnsearch.report.formatting import quantities
from attnsearch.report.picture import (
    BLOCKS,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SCREEN,
    Medium,
    Picture,
    draw,
    lines_of,
    literal,
)
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
SQUEEZED = (
    0.25  # share of the axis below which the cheaper half of the listed architectures cannot be told apart
)
RASTERIZED = (
    500  # points of one kind from which they are pixels in an SVG too, whose size would grow with them
)

_AROUND = ((17, 0), (-17, 0), (11, 10), (-11, 10), (11, -10), (-11, -10), (0, 12), (0, -12))  # points
_PLACES = tuple((reach * x, reach * y) for reach in (1, 1.6, 2.3, 3.2, 4.4) for x, y in _AROUND)


def pareto(report: Report, medium: Medium = SCREEN) -> Picture:
    """Error against cost; names beside points are those of the tables, their strips stand below."""
    listed = [row for row in report.rows if is_listed(row)]
    ranked = not report.withheld

    def paint(figure: Any, medium: Medium) -> None:
        key = _key(report, listed, medium)
        height = _line(medium) * sum(len(lines) for _, lines in key)
        figure.set_size_inches(medium.width, medium.height + height)
        axes, below = figure.subplots(2, 1, height_ratios=[medium.height - 0.5, height])
        _points(axes, report, medium)
        _frame(axes, report, listed, medium)
        _name_points(axes, report.rows, medium)
        axes.legend(
            **{"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 6 if medium.wide else 2},
            **{"frameon": False, "fontsize": medium.small, "borderpad": 0.1, "columnspacing": 1.2},
            handletextpad=0.4,
        )
        _draw_key(below, report, key, medium)

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
    return draw("pareto", title, alt, caption, paint, medium)


def _points(axes: Any, report: Report, medium: Medium) -> None:
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
    if named := [row for row in rows if is_listed(row)]:  # of ten thousand the others would take a second
        at = zip(*map(_position, named), strict=True)
        bars = np.array([_reach(row) for row in named]).T
        axes.errorbar(*at, yerr=bars, fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
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


def _frame(axes: Any, report: Report, listed: Sequence[ArchResult], medium: Medium) -> None:
    """Axes as wide as what is listed; what lies beyond them is counted below them, never drawn small."""
    competing = [row for row in listed if not row.control] or list(listed)
    costs = _with_near(np.array([row.costs[0] for row in competing]), report.rows)
    plain = report.baseline.costs[0] if report.baseline else 0.0
    name = cost_name(report.cost)
    if plain > 0 and is_squeezed(costs):
        least = max(1e-3, float(np.min(np.abs(costs / plain - 1)[costs != plain], initial=0.01)))
        axes.set_xscale("function", functions=_extra(plain, least))
        steps = plain * (1 + _round_steps(costs / plain - 1, least))
        axes.xaxis.set_major_formatter(lambda value, _: _percent(value / plain - 1))
        label = f"{name} above the baseline's {quantities([plain])[0]} (logarithmic)"
        _limit(axes.set_xlim, axes.transScale, costs, 0)
        axes.set_xticks(_apart(axes, steps, plain, medium))
    else:
        label = cost_title(report.cost, report.info)
        axes.xaxis.set_major_formatter(_costs())
        if not medium.wide:
            axes.locator_params(axis="x", nbins=4)
        _limit(axes.set_xlim, axes.transScale, costs, 0)
    means = np.array([row.mean for row in competing])
    reach = float(np.ptp(means)) or 1.0
    axes.margins(y=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, means.min() - 1.5 * reach), min(high, means.max() + 1.5 * reach))
    axes.set_ylabel(f"validation {report.info.metric.error} (%)")
    axes.set_xlabel("\n".join(filter(None, (label, _beyond(axes, report.rows)))))


def _with_near(costs: NDArray[np.float64], rows: Sequence[ArchResult]) -> NDArray[np.float64]:
    """With what lies so little beyond their range that it would be cut by the frame."""
    low, high, room = costs.min(), costs.max(), 0.1 * np.ptp(costs)
    near = [row.costs[0] for row in rows if low - room <= row.costs[0] <= high + room]
    return np.concatenate([costs, near])


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


def _percent(extra: float) -> str:
    return "0 %" if abs(extra) < 1e-9 else f"{100 * extra:+.3g} %"


def _apart(axes: Any, steps: NDArray[np.float64], plain: float, medium: Medium) -> list[float]:
    """Those of the steps whose labels have room beside each other, the baseline's first, then the outermost."""
    low, high = axes.transScale.transform([[limit, 1] for limit in axes.get_xlim()])[:, 0]
    places = axes.transScale.transform([[step, 1] for step in steps])[:, 0]
    inches = (medium.width - 0.9) * (places - low) / (high - low)
    room = 6 * 0.6 * medium.size / 72  # of a label like "+300 %"
    order = sorted(range(len(steps)), key=lambda i: (steps[i] != plain, -abs(steps[i] - plain)))
    kept: list[int] = []
    for i in order:
        if low <= places[i] <= high and all(abs(inches[i] - inches[j]) > room for j in kept):
            kept.append(i)
    return sorted(float(steps[i]) for i in kept)


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


def _beyond(axes: Any, rows: Sequence[ArchResult]) -> str:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    sides = {
        "above": sum(row.mean > high for row in rows),
        "below": sum(row.mean < low for row in rows),
        "to the left": sum(row.costs[0] < left for row in rows),
        "to the right": sum(row.costs[0] > right for row in rows),
    }
    found = ", ".join(f"{count:,} {side}" for side, count in sides.items() if count)
    return f"outside this plot: {found}" if found else ""


def _name_points(axes: Any, rows: Sequence[ArchResult], medium: Medium) -> None:
    """The listed names, each at the nearest place where nothing stands; without one the table alone has it."""
    axes.figure.draw_without_rendering()
    scale = axes.figure.dpi / 72
    inside = axes.get_window_extent()
    points = axes.transData.transform([_position(row) for row in rows])
    taken = _Taken(points, [_bar(axes, row) for row in rows if is_listed(row)], 3 * scale)
    for index, row in enumerate(rows):
        if not is_listed(row) or not inside.contains(*points[index]):
            continue
        half = np.array([0.36 * len(f"A{row.number}") + 0.2, 0.7]) * medium.small * scale
        for offset in _PLACES:
            spot = points[index] + scale * np.array(offset)
            if not (inside.contains(*(spot - half)) and inside.contains(*(spot + half))):
                continue
            leader = points[index] + np.linspace(0.2, 1, 12)[:, None] * (spot - points[index])
            if taken.is_free(spot, half, leader if _is_far(offset) else leader[:0]):
                taken.add(spot, half, leader if _is_far(offset) else leader[:0])
                _name(axes, row, offset, medium)
                break


def _is_far(offset: tuple[float, float]) -> bool:
    """Whether a name stands so far from its point that it needs a line to it."""
    return math.hypot(*offset) > 24


def _bar(axes: Any, row: ArchResult) -> NDArray[np.float64]:
    low, high = _reach(row)
    ends = [(row.costs[0], row.mean - low), (row.costs[0], row.mean + high)]
    return np.asarray(axes.transData.transform(ends), float)


class _Taken:
    """Where names may not stand, in pixels: on points, intervals, lines to other names, and other names."""

    def __init__(self, points: NDArray[np.float64], bars: Sequence[NDArray[np.float64]], gap: float) -> None:
        self._points, self._bars, self._gap = points, bars, gap
        self._names: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self._leaders = np.zeros((0, 2))

    def is_free(
        self, spot: NDArray[np.float64], half: NDArray[np.float64], leader: NDArray[np.float64]
    ) -> bool:
        """Whether a name of that half size covers nothing, and the line to it no name."""
        if (np.abs(self._points - spot) < half + self._gap).all(axis=1).any():
            return False
        if (np.abs(self._leaders - spot) < half).all(axis=1).any():
            return False
        for other, size in self._names:
            if (np.abs(other - spot) < half + size).all() or (np.abs(leader - other) < size).all(
                axis=1
            ).any():
                return False
        return not any(
            abs(x - spot[0]) < half[0] and low - half[1] < spot[1] < high + half[1]
            for (x, low), (_, high) in self._bars
        )

    def add(self, spot: NDArray[np.float64], half: NDArray[np.float64], leader: NDArray[np.float64]) -> None:
        self._names.append((spot, half))
        self._leaders = np.vstack([self._leaders, leader])


def _name(axes: Any, row: ArchResult, offset: tuple[float, float], medium: Medium) -> None:
    axes.annotate(
        f"A{row.number}",
        _position(row),
        offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=medium.small,
        fontweight="bold",
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        if _is_far(offset)
        else None,
    )


# A line of names below the plot: the architecture's name, and its strip as cells or as lines of words.
_Key = list[tuple[str, list[Strip] | list[str]]]


def _line(medium: Medium) -> float:
    return 1.75 * medium.small / 72  # inches


def _key(report: Report, listed: Sequence[ArchResult], medium: Medium) -> _Key:
    """Name and strip of each architecture: the strip itself where its cells have room, else lines of its words."""
    found: _Key = []
    for row in listed[: medium.keys]:
        strip = report.strip(row)
        room = _room(medium) / max(1, len(strip.cells)) - 0.1
        fits = strip.texts and not (strip.name or strip.widths)
        fits = fits and max(map(len, strip.texts)) <= medium.letters(room)
        words = [strip] if fits else lines_of(strip, medium.letters(_room(medium)))
        found.append((f"A{row.number}", words))
    if more := len(listed) - len(found):
        found.append(("", [f"and {more} more in the table"]))
    return found


def _room(medium: Medium) -> float:
    """Inches of a line of the key behind the architecture's name."""
    return medium.width - 0.25 - _indent(medium)


def _indent(medium: Medium) -> float:
    return 3.3 * medium.small / 72


def _draw_key(axes: Any, report: Report, key: _Key, medium: Medium) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, _indent(medium) + _room(medium))  # in inches
    axes.set_ylim(sum(len(lines) for _, lines in key), 0)
    colours = {block: BLOCKS[i % len(BLOCKS)] for i, block in enumerate(report.notation.blocks)}
    line = 0
    for name, words in key:
        axes.text(0, line + 0.5, name, va="center", fontsize=medium.small, fontweight="bold")
        for part in words:
            if isinstance(part, Strip):
                _draw_cells(axes, part, line, colours, medium)
            else:
                axes.text(_indent(medium), line + 0.5, part, va="center", fontsize=medium.small)
            line += 1


def _draw_cells(axes: Any, strip: Strip, line: int, colours: Mapping[str, str], medium: Medium) -> None:
    from matplotlib.patches import Rectangle

    wide = _room(medium) / len(strip.cells)
    for at, cell in enumerate(strip.cells):
        left, colour = _indent(medium) + at * wide, colours.get(cell.block.split("+")[0], GREY)
        if cell.text:
            box = Rectangle((left, line + 0.06), wide - 0.04, 0.88, facecolor=colour, alpha=0.22, linewidth=0)
            axes.add_patch(box)
        axes.text(left + 0.04, line + 0.5, literal(cell.text or NOTHING), va="center", fontsize=medium.small)
