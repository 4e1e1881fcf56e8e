"""The front of what has finished so far, for a terminal while the study grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import TrialResult
from attnsearch.report.arch_notation import Notation, notation
from attnsearch.report.archs import cost_name
from attnsearch.report.formatting import number, quantity
from attnsearch.report.text_plot import text_plot
from attnsearch.statistics.arch_runs import gather
from attnsearch.statistics.front import ArchResult, assess

LEAST = 3  # architectures from which a plot says more than its table
PLOT, WIDEST = 8, 72  # lines and columns of the plot
ROWS = 8  # of the table
Line = tuple[str, str]  # a text and its style


def front_lines(info: StudyInfo, trials: Sequence[TrialResult], width: int, height: int) -> list[Line]:
    """At most `height` lines: a plot where there is room for one, then numbers first and architectures last."""
    cost = info.costs.drawn or "macs"
    complete = [row for row in trials if row.finished and row.key not in info.controls and cost in row.costs]
    if not complete:
        return []
    baseline = info.space.baseline
    assessed = assess(gather(complete, [cost]), baseline=baseline, draws=1).results
    rows = [replace(row, baseline=row.key == baseline) for row in assessed]
    found: list[Line] = []
    if len(rows) >= LEAST and height >= PLOT + 8:
        marks = sorted((2 if row.baseline else int(row.observed), row.costs[0], row.mean) for row in rows)
        points = [(at, error, "·o#"[rank]) for rank, at, error in marks]
        title = f"{info.metric.error} (%) against {cost_name(cost)}"
        found += [(line, "") for line in text_plot(points, min(width, WIDEST), PLOT, title)]
        found.append(("       o front so far   # baseline   · dominated", "dim"))
    return [*found, *_table(info, rows, cost, width)][:height]


def _table(info: StudyInfo, rows: Sequence[ArchResult], cost: str, width: int) -> list[Line]:
    plain = next((row for row in rows if row.baseline), None)
    short = notation(rows, info.space.sites)
    heads = (f"{'error %':>8}", f"{'Δ (pp)':>9}", f"{cost_name(cost)[:10]:>11}", f"{'seeds':>7}")
    found = [("".join(heads) + "  architecture", "underline")]
    for row in [row for row in rows if row.observed][-ROWS:]:
        found += [(line, "") for line in _row(row, plain, short, width)]
    return found


def _row(row: ArchResult, plain: ArchResult | None, short: Notation, width: int) -> list[str]:
    over = "–" if plain is None or row.baseline else number(plain.mean - row.mean, 2, True)
    numbers = f"{row.mean:>8.2f}{over:>9}{quantity(row.costs[0]):>11}{row.error.n:>7}  "
    strip, room = short.strip(row), width - len(numbers)
    beside = list(strip.lines(room))
    if max(map(len, beside)) > room:  # a single cell is longer: the architecture stands below its numbers
        return [numbers.rstrip(), *(f"     {line}" for line in strip.lines(width - 5))]
    return [(" " * len(numbers) if i else numbers) + line for i, line in enumerate(beside)]
