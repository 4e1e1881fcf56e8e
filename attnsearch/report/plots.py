"""Pictures of a report, each as PNG and SVG, drawn without a display.

    pareto     error against cost with intervals, the baseline, the front
    curves     validation error by epoch of the archs of the front
    optimism   what the search promised against what fresh seeds gave

Colours are Okabe and Ito's, told apart by colour-blind readers; every distinction is also one of shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attnsearch.core.estimate import Estimate
from attnsearch.core.text import many
from attnsearch.report import picture
from attnsearch.report.archs import is_listed, median_curve
from attnsearch.report.differences import with_interval
from attnsearch.report.front_plot import MARKS, pareto
from attnsearch.report.picture import BLUE, GREEN, GREY, INK, ORANGE, SIZE, Picture, literal
from attnsearch.report.tables import Report
from attnsearch.report.verdict_table import Judged, word

if TYPE_CHECKING:
    from attnsearch.report.comparison import Comparison


@dataclass(frozen=True)
class Line:
    """What stands beside an interval, `A3` and its verdict, and above it: what that is."""

    number: str
    name: str
    verdict: str = ""


MOST = 40  # architectures in a picture of two studies
_ROW = 0.42  # inches of one line of a plot of intervals: the name above its interval


def draw(report: Report) -> list[Picture]:
    """Every picture that the study has numbers for."""
    drawn = [make(report) for make in PICTURES.values()]
    return [made for made in drawn if made is not None]


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
            colour = INK if row.baseline else MARKS[row.outcome][1]
            style = "-" if row.baseline else next(others)
            epochs = range(1, len(lines[row.number]) + 1)
            name = f"A{row.number}  {report.strip(row)}"
            axes.plot(
                epochs, lines[row.number], color=colour, linestyle=style, linewidth=1.8, label=literal(name)
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
    return picture.draw("curves", "Learning curves (median over seeds)", alt, caption, paint)


def optimism(report: Report) -> Picture | None:
    """Search value and fresh mean of each arch that has both."""
    rows = [row for row in report.rows if row.optimism is not None and not row.baseline]
    if not rows:
        return None
    rows.sort(key=lambda row: row.mean)

    def paint(figure: Any) -> None:
        figure.set_size_inches(SIZE[0], 1.5 + _ROW * len(rows))
        axes = figure.add_subplot()
        upwards, heights = rows[::-1], range(len(rows))
        fresh = [row.mean for row in upwards]
        search = [row.mean - (row.optimism or 0.0) for row in upwards]
        axes.plot([search, fresh], [heights, heights], color=GREY, linewidth=1.2, zorder=1)
        axes.plot(search, heights, "D", color=ORANGE, markersize=5, label="selection seed")
        axes.errorbar(
            fresh,
            heights,
            xerr=_sides([row.error for row in upwards]),
            fmt="o",
            color=BLUE,
            markersize=5,
            elinewidth=1,
            label="mean over independent seeds, 95 % CI",
        )
        _name_lines(axes, [Line(f"A{row.number}", report.strip(row).short) for row in upwards])
        axes.set_xlabel(f"validation {report.info.metric.error} (%)")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)

    alt = f"For {many(len(rows), 'arch')}, the selection value beside the mean over independent seeds"
    caption = "A diamond left of its circle: the selection value was optimistic. Report the circles."
    return picture.draw("optimism", "Selection vs independent seeds", alt, caption, paint)


def forest(report: Report) -> Picture | None:
    """Each variant's difference from the baseline with its simultaneous interval."""
    if not isinstance(report.judged, Judged):
        return None
    analysis = report.judged.analysis
    judged = report.judged
    ordered = [*reversed(judged.controls), *reversed(judged.variants)]
    lines = [
        (
            Line(f"A{judged.rows[v.variant].number}", variant(report, judged, v.variant), word(analysis, v)),
            with_interval(v.estimate, v.simultaneous, v.n),
            word(analysis, v),
        )
        for v in ordered
    ]
    margin = ordered[0].margin

    def paint(figure: Any) -> None:
        _intervals(figure, lines, margin)
        figure.axes[0].set_xlabel(f"difference from {literal(analysis.baseline)} (percentage points)")

    alt = "; ".join(f"{v.variant}: {word(analysis, v)}, {v.estimate:+.2f} points" for v in reversed(ordered))
    caption = "Right of zero is better. Bars are simultaneous 95 % CIs." + (
        f" The band is the margin of {margin:.2f} points." if margin else ""
    )
    title = f"Differences from {analysis.baseline}, {many(analysis.blocks, 'seed')} ({report.audit})"
    return picture.draw("forest", title, alt, caption, paint)


def variant(report: Report, judged: Judged, name: str) -> str:
    """A variant in the study's short notation; a control says that it is one."""
    row = judged.rows[name]
    strip = report.strip(replace(row, name=name))
    return f"{strip.short} (control)" if row.control else strip.short


def effects(report: Report) -> Picture | None:
    """Main effects and interactions of a factorial design."""
    if not isinstance(report.judged, Judged) or not report.judged.effects:
        return None
    found = sorted(report.judged.effects, key=lambda effect: abs(effect.estimate))[-16:]
    lines = [
        (Line("", e.name), with_interval(e.estimate, e.interval, 0), "gain" if e.p_holm <= 0.05 else "")
        for e in found
    ]

    def paint(figure: Any) -> None:
        _intervals(figure, lines, None)
        figure.axes[0].set_xlabel("effect (percentage points)")

    alt = "; ".join(f"{e.name}: {e.estimate:+.2f} points" for e in reversed(found))
    caption = "Largest first; bars are unadjusted 95 % CIs. Filled: p by Holm at most 0.05."
    return picture.draw("effects", f"Main effects and interactions ({report.audit})", alt, caption, paint)


def between(found: Comparison) -> Picture:
    """Each shared architecture's difference from the baseline in both studies."""
    rows = list(reversed(found.table.rows[:MOST]))
    looks = ((0.12, "o", BLUE), (-0.12, "s", ORANGE))

    def paint(figure: Any) -> None:
        figure.set_size_inches(SIZE[0], 1.5 + _ROW * len(rows))
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=0.9)
        for which, (name, (lift, marker, colour)) in enumerate(zip(found.names, looks, strict=True)):
            for height, row in enumerate(rows):
                value = row[3 + which]
                assert isinstance(value, Estimate)
                if value.low is not None and value.high is not None:
                    axes.plot([value.low, value.high], [height + lift] * 2, color=colour, linewidth=1.6)
                label = literal(name) if height == 0 else None
                axes.plot(value.mean, height + lift, marker, color=colour, markersize=6, label=label)
        _name_lines(axes, [Line("", str(row[0]), str(row[6])) for row in rows])
        axes.set_xlabel("difference from each study's baseline (percentage points)")
        figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)

    alt = "; ".join(f"{row[0]}: {row[6]}" for row in reversed(rows))
    more = len(found.table.rows) - len(rows)
    caption = "Right of zero is better. Bars are 95 % CIs; a point without a bar has one shared seed." + (
        f" The first {MOST} of {MOST + more} architectures." if more else ""
    )
    return picture.draw("comparison", " and ".join(found.names), alt, caption, paint)


def _sides(errors: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its mean; 0 where there is none."""
    low = [0.0 if error.low is None else error.mean - error.low for error in errors]
    high = [0.0 if error.high is None else error.high - error.mean for error in errors]
    return [low, high]


def _intervals(figure: Any, lines: Sequence[tuple[Line, Estimate, str]], margin: float | None) -> None:
    figure.set_size_inches(SIZE[0], 1.3 + _ROW * len(lines))
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
    _name_lines(axes, [names for names, _, _ in lines])


def _name_lines(axes: Any, names: Sequence[Line]) -> None:
    """The number of each line beside the axis, what it stands for above its interval, from the lowest line up."""
    axes.set_yticks(
        range(len(names)), ["\n".join(filter(None, (line.number, line.verdict))) for line in names]
    )
    axes.set_ylim(-0.4, len(names) - 0.2)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    place = axes.get_yaxis_transform()
    for height, line in enumerate(names):
        axes.text(
            0.005, height + 0.42, literal(line.name), transform=place, va="center", fontsize=7.5, zorder=4
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


# Every picture by name, in the order of the page.
PICTURES: dict[str, Callable[[Report], Picture | None]] = {
    "pareto": pareto,
    "forest": forest,
    "effects": effects,
    "curves": curves,
    "optimism": optimism,
}
