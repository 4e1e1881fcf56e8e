"""Pictures of a report, for a screen, a telephone or a paper's column, drawn without a display.

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
from attnsearch.report import finalists, picture
from attnsearch.report.archs import is_listed, median_curve
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.differences import with_interval
from attnsearch.report.front_plot import MARKS, pareto
from attnsearch.report.picture import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PAPER,
    PHONE,
    SCREEN,
    Medium,
    Picture,
    lines_of,
    literal,
)
from attnsearch.report.tables import Report
from attnsearch.report.verdict_words import word
from attnsearch.statistics import Analysis
from attnsearch.statistics.front import ArchResult

if TYPE_CHECKING:
    from attnsearch.report.comparison import Comparison


@dataclass(frozen=True)
class Line:
    """What stands beside an interval, `A3` and its verdict, and above it: what that is."""

    number: str
    name: str
    verdict: str = ""


MOST = 40  # architectures in a picture of two studies


def draw(report: Report, medium: Medium = SCREEN) -> list[Picture]:
    """Every picture that the study has numbers for."""
    drawn = [make(report, medium) for make in PICTURES.values()]
    return [made for made in drawn if made is not None]


def for_phones(report: Report) -> list[Picture]:
    """What a page shows on a telephone; the plot against cost draws itself there."""
    drawn = [make(report, PHONE) for name, make in PICTURES.items() if name != "pareto"]
    return [made for made in drawn if made is not None]


def for_paper(report: Report) -> list[tuple[str, str | bytes]]:
    """Name and content of every figure as PDF, SVG and PNG, as wide as a column and as a page."""
    return [
        (f"plots/paper/{picture.name}_{width}.{kind}", content)
        for width, medium in PAPER.items()
        for picture in draw(report, medium)
        for kind, content in (("pdf", picture.pdf), ("svg", picture.svg), ("png", picture.png))
    ]


def curves(report: Report, medium: Medium = SCREEN) -> Picture | None:
    """Validation error by epoch: median over seeds of each listed arch, five at most beside the baseline."""
    keys = [row for row in report.rows if is_listed(row) and not row.baseline and not row.control][:5]
    chosen = [*([report.baseline] if report.baseline else []), *keys]
    lines = {row.number: median_curve(report.record, row.key, report.epochs) for row in chosen}
    if not any(len(line) > 1 for line in lines.values()):
        return None

    def paint(figure: Any, medium: Medium) -> None:
        axes = figure.add_subplot()
        styles = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
        others = iter(styles)
        labels = [_label(report, row, medium) for row in chosen]
        height = 1.5 * medium.small * sum(1 + label.count("\n") for label in labels) / 72
        figure.set_size_inches(medium.width, 0.8 * medium.height + height)
        for row, label in zip(chosen, labels, strict=True):
            # colours say what they say beside costs; which arch, style and number say
            colour = INK if row.baseline else MARKS[row.outcome][1]
            style = "-" if row.baseline else next(others)
            epochs = range(1, len(lines[row.number]) + 1)
            axes.plot(epochs, lines[row.number], color=colour, linestyle=style, linewidth=1.6, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {report.info.metric.error} (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _logarithmic(axes, [value for line in lines.values() for value in line])
        figure.legend(loc="outside lower left", frameon=False, fontsize=medium.small)
        _number_ends(axes, lines, medium)

    alt = f"Learning curves of {many(len(chosen), 'arch')} over {many(report.epochs, 'epoch')}"
    caption = (
        f"Validation {report.info.metric.error} by epoch on a logarithmic scale, median over the seeds of each arch. "
        "Colours are those of the picture against cost."
    )
    return picture.draw("curves", "Learning curves (median over seeds)", alt, caption, paint, medium)


def _label(report: Report, row: ArchResult, medium: Medium) -> str:
    first, *more = lines_of(report.strip(row), medium.letters(medium.width - 0.9))
    return "\n".join([f"A{row.number} {first}", *more])


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic y-axis with ticks at 1, 2 and 5 times powers of ten; a linear one where values are close."""
    from matplotlib.ticker import LogLocator, NullFormatter

    known = [value for value in values if value > 0]
    if not known or max(known) < 3 * min(known):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def optimism(report: Report, medium: Medium = SCREEN) -> Picture | None:
    """Search value and fresh mean of each arch that has both."""
    rows = [row for row in report.rows if row.optimism is not None and not row.baseline]
    if not rows:
        return None
    rows.sort(key=lambda row: row.mean)

    def paint(figure: Any, medium: Medium) -> None:
        names = [Line(f"A{row.number}", report.strip(row).short) for row in rows[::-1]]
        axes = _rows_of(figure, names, medium)
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
        axes.set_xlabel(f"validation {report.info.metric.error} (%)")
        _legend_below(figure, medium)

    alt = f"For {many(len(rows), 'arch')}, the selection value beside the mean over independent seeds"
    caption = "A diamond left of its circle: the selection value was optimistic. Report the circles."
    return picture.draw("optimism", "Selection vs independent seeds", alt, caption, paint, medium)


# Name, verdict and interval of each row of a plot of differences, from the lowest row up.
_Rows = list[tuple[Line, Estimate, str]]


def forest(report: Report, medium: Medium = SCREEN) -> Picture | None:
    """Differences from the baseline: of each variant of a design, of the finalists of a search, and of controls."""
    if isinstance(report.judged, Judged):
        analysis, lines, own = report.judged.analysis, _variants(report, report.judged), ""
    elif report.final is not None and report.baseline is not None:
        analysis, lines, own = report.final, _finalists(report, report.final), "; the control's is its own"
    else:
        return None
    against = analysis.baseline if report.baseline is None else report.strip(report.baseline).short
    margin = next((verdict.margin for verdict in analysis.verdicts), None)

    def paint(figure: Any, medium: Medium) -> None:
        _intervals(figure, lines, margin, medium)
        figure.axes[0].set_xlabel(f"difference from {literal(against)} (percentage points)")

    alt = "; ".join(
        f"{line.name}: {line.verdict}, {value.mean:+.2f} points" for line, value, _ in reversed(lines)
    )
    caption = f"Right of zero is better. Bars are simultaneous 95 % CIs{own}." + (
        f" The band is the margin of {margin:.2f} points." if margin else ""
    )
    title = f"Differences from {against}, {many(analysis.blocks, 'seed')} ({report.audit})"
    return picture.draw("forest", title, alt, caption, paint, medium)


def _variants(report: Report, judged: Judged) -> _Rows:
    ordered = [*reversed(judged.controls), *reversed(judged.variants)]
    words = [word(judged.analysis, verdict) for verdict in ordered]
    return [
        (
            Line(f"A{judged.rows[v.variant].number}", variant(report, judged, v.variant), outcome),
            with_interval(v.estimate, v.simultaneous, v.n),
            outcome,
        )
        for v, outcome in zip(ordered, words, strict=True)
    ]


def _finalists(report: Report, final: Analysis) -> _Rows:
    rows = {row.key: row for row in report.rows}
    found: _Rows = []
    control = finalists.positive_control(report.record, report.epochs)
    if control is not None and control.variant in rows:
        line = Line(f"A{rows[control.variant].number}", report.strip(rows[control.variant]).short, "control")
        outcome = "harm" if finalists.is_seen(control) else ""
        found.append((line, with_interval(control.estimate, control.interval, control.n), outcome))
    for verdict in sorted(final.verdicts, key=lambda v: v.estimate):
        row, in_words = rows[verdict.variant], str(verdict.outcome)
        value = with_interval(verdict.estimate, verdict.simultaneous, verdict.n)
        found.append((Line(f"A{row.number}", report.strip(row).short, in_words), value, in_words))
    return found


def variant(report: Report, judged: Judged, name: str) -> str:
    """A variant in the study's short notation; a control says that it is one."""
    row = judged.rows[name]
    strip = report.strip(replace(row, name=name))
    return f"{strip.short} (control)" if row.control else strip.short


def effects(report: Report, medium: Medium = SCREEN) -> Picture | None:
    """Main effects and interactions of a factorial design."""
    if not isinstance(report.judged, Judged) or not report.judged.effects:
        return None
    found = sorted(report.judged.effects, key=lambda effect: abs(effect.estimate))[-16:]
    lines = [
        (Line("", e.name), with_interval(e.estimate, e.interval, 0), "gain" if e.p_holm <= 0.05 else "")
        for e in found
    ]

    def paint(figure: Any, medium: Medium) -> None:
        _intervals(figure, lines, None, medium)
        figure.axes[0].set_xlabel("effect (percentage points)")

    alt = "; ".join(f"{e.name}: {e.estimate:+.2f} points" for e in reversed(found))
    caption = "Largest first; bars are unadjusted 95 % CIs. Filled: p by Holm at most 0.05."
    title = f"Main effects and interactions ({report.audit})"
    return picture.draw("effects", title, alt, caption, paint, medium)


def between(found: Comparison, medium: Medium = SCREEN) -> Picture:
    """Each shared architecture's difference from the baseline in both studies."""
    rows = list(reversed(found.table.rows[:MOST]))
    looks = ((0.12, "o", BLUE), (-0.12, "s", ORANGE))

    def paint(figure: Any, medium: Medium) -> None:
        axes = _rows_of(figure, [Line("", str(row[0]), str(row[6])) for row in rows], medium)
        axes.axvline(0, color=INK, linewidth=0.9)
        for which, (name, (lift, marker, colour)) in enumerate(zip(found.names, looks, strict=True)):
            for height, row in enumerate(rows):
                value = row[3 + which]
                assert isinstance(value, Estimate)
                if value.low is not None and value.high is not None:
                    axes.plot([value.low, value.high], [height + lift] * 2, color=colour, linewidth=1.6)
                label = literal(name) if height == 0 else None
                axes.plot(value.mean, height + lift, marker, color=colour, markersize=6, label=label)
        axes.set_xlabel("difference from each study's baseline (percentage points)")
        _legend_below(figure, medium)

    alt = "; ".join(f"{row[0]}: {row[6]}" for row in reversed(rows))
    more = len(found.table.rows) - len(rows)
    caption = "Right of zero is better. Bars are 95 % CIs; a point without a bar has one shared seed." + (
        f" The first {MOST} of {MOST + more} architectures." if more else ""
    )
    return picture.draw("comparison", " and ".join(found.names), alt, caption, paint, medium)


def _sides(errors: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its mean; 0 where there is none."""
    low = [0.0 if error.low is None else error.mean - error.low for error in errors]
    high = [0.0 if error.high is None else error.high - error.mean for error in errors]
    return [low, high]


def _intervals(
    figure: Any, lines: Sequence[tuple[Line, Estimate, str]], margin: float | None, medium: Medium
) -> None:
    axes = _rows_of(figure, [names for names, _, _ in lines], medium)
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


def _rows_of(figure: Any, names: Sequence[Line], medium: Medium) -> Any:
    """Axes with a row for each interval, from the lowest up: its number beside it, what it stands for above it."""
    words = [lines_of(line.name, medium.letters(medium.width - 1.2)) for line in names]
    above = 1.3 * medium.small * max(map(len, words))  # points
    row = above + 2.1 * medium.size
    figure.set_size_inches(medium.width, 1.1 + row * len(names) / 72)
    axes = figure.add_subplot()
    labels = ["\n".join(filter(None, (line.number, line.verdict))) for line in names]
    axes.set_yticks(range(len(names)), labels, fontsize=medium.small)
    axes.set_ylim(-0.4, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for height, text in enumerate(words):
        axes.annotate(
            "\n".join(text),
            (0.005, height),
            (0, 5),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="bottom",
            fontsize=medium.small,
            zorder=4,
        )
    return axes


def _legend_below(figure: Any, medium: Medium) -> None:
    columns = 2 if medium.wide else 1
    figure.legend(loc="outside lower left", frameon=False, fontsize=medium.small, ncols=columns)


def _number_ends(axes: Any, lines: Mapping[int, Sequence[float]], medium: Medium) -> None:
    """Each line's number beside its last point; lines that end together share one text, the lowest first."""
    axes.figure.draw_without_rendering()
    groups: list[list[tuple[int, tuple[int, float]]]] = []
    last = -math.inf
    ends = {number: (len(line), line[-1]) for number, line in lines.items() if line}
    for number, end in sorted(ends.items(), key=lambda pair: pair[1][1]):
        height = axes.transData.transform(end)[1]
        if height - last >= 1.2 * medium.small * axes.figure.dpi / 72:
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
            fontsize=medium.small,
            fontweight="bold",
        )


# Every picture by name, in the order of the page.
PICTURES: dict[str, Callable[[Report, Medium], Picture | None]] = {
    "pareto": pareto,
    "forest": forest,
    "effects": effects,
    "curves": curves,
    "optimism": optimism,
}
