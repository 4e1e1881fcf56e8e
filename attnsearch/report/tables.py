"""Report: what there is to say of a study, once. Every format renders these tables and adds nothing.

build(record) -> Report
  front, archs, trials, failures, verdicts   tables
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from attnsearch.core.errors import NoResultError
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.text import capital, many
from attnsearch.report.arch_notation import Notation, in_short, notation
from attnsearch.report.arch_strip import Strip
from attnsearch.report.archs import (
    Counts,
    arch_results,
    audit_label,
    cost_axes,
    cost_name,
    cost_title,
    count,
    is_listed,
    is_shown,
    nothing_finished,
    proxy_epochs,
    seeds_kind,
)
from attnsearch.report.classes import arch_scores, class_tables, score_columns
from attnsearch.report.design_verdicts import Judged, judge
from attnsearch.report.differences import over_baseline
from attnsearch.report.finalists import last_block
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.report.importances import importance_table
from attnsearch.report.test_result import final_table
from attnsearch.report.trial_tables import failure_table, stop_table, trial_table
from attnsearch.report.verdict_table import effect_table, verdict_table
from attnsearch.report.withheld import Withheld, withheld
from attnsearch.statistics import Analysis
from attnsearch.statistics.arch_runs import gather
from attnsearch.statistics.front import CONFIRMED, INDEPENDENT, ArchResult, Front, Status, assess, unranked

if TYPE_CHECKING:
    import pandas as pd


SEEDS = (
    "`independent` seeds ran after the architecture had been selected, `planned` ones as the ablation lays down; "
    "`selection` seeds selected it, hence optimistically biased"
)
ERROR = (
    "validation {error}, mean over the row's seeds, ± half its 95 % confidence interval (standard deviation between "
    "seeds pooled over all repeated architectures)"
)
OVER_TITLE = "Δ vs baseline (pp)"
OVER = (
    "difference from the baseline in percentage points of {score} on shared seeds, positive is better, "
    "± half the 95 % CI"
)
OVER_SEARCH = f"{OVER} (unadjusted; none for a single seed)"
OVER_DESIGN = f"{OVER} (simultaneous over all variants)"
P_FRONT = (
    "probability, given the noise between seeds, that no architecture of equal or lower cost has a lower {error}; not "
    "adjusted for multiplicity"
)
OPTIMISM = "{error} on independent seeds minus {error} on the selection seed; positive where selection was optimistic"
TIED = "{error} not significantly different from the lowest (95 %)"


@dataclass(frozen=True)
class Report:
    """All that the formats render.

    `judged` is what a design said; a sentence where it cannot say anything yet; None for a search. `withheld` is why
    nothing is named, where nothing is.
    """

    record: StudyRecord
    cost: str
    epochs: int
    assessed: Front
    rows: tuple[ArchResult, ...]
    counts: Counts
    front: Table
    archs: Table
    trials: Table
    failures: Table
    notation: Notation
    withheld: Withheld
    judged: Judged | str | None = None
    verdicts: Table | None = None
    effects: Table | None = None
    stops: Table | None = None

    @property
    def info(self) -> StudyInfo:
        return self.record.info

    @property
    def baseline(self) -> ArchResult | None:
        return next((row for row in self.rows if row.baseline), None)

    def strip(self, row: ArchResult) -> Strip:
        """The architecture in the study's short notation."""
        return self.notation.strip(row)

    def called(self, row: ArchResult) -> str:
        """`A3 (cbam r4 | · | se)`: how sentences name an architecture."""
        return f"A{row.number} ({self.strip(row).short})"

    @property
    def audit(self) -> str:
        return audit_label(self.info)

    @cached_property
    def final(self) -> Analysis | None:
        """What the last block of seeds says of a search's finalists, variants by key."""
        found = None if self.judged is not None else last_block(self.record, self.epochs)
        return None if found is None else self.withheld.of(found)

    @cached_property
    def importances(self) -> Table | None:
        """Shares of the spread by site, where a search is large enough to look."""
        return None if self.judged is not None else importance_table(self.record)

    @cached_property
    def classes(self) -> tuple[Table, ...]:
        """Recalls and confusion matrices, where the trials kept what was answered."""
        return class_tables(self)

    def main(self) -> tuple[Table, ...]:
        """The tables that answer the question."""
        wanted = (
            self.verdicts,
            self.effects,
            self.front,
            final_table(self.info.test.openings, self.info.metric),
        )
        return tuple(table for table in wanted if table is not None)

    def tables(self) -> tuple[Table, ...]:
        further = [table for table in (self.stops, self.importances) if table is not None]
        rest = (*self.classes, self.archs, *further, self.failures, self.trials)
        return tuple(table for table in (*self.main(), *rest) if table.rows)


def build(record: StudyRecord) -> Report:
    """Work out the tables of a study, finished or not; `NoResultError` where no trial has finished."""
    counts, epochs = count(record), proxy_epochs(record)
    done = [trial for trial in record.trials if trial.finished and trial.epochs == epochs]
    if not done:
        raise NoResultError(nothing_finished(record, counts))
    axes = cost_axes(record.info, done)
    roles = record.info.controls
    archs = gather(done, axes)
    baseline = record.info.space.baseline
    guessing = record.info.guessing
    # a control does not compete
    assessed = assess([arch for arch in archs if arch.key not in roles], baseline=baseline, guessing=guessing)
    controls = [arch for arch in archs if arch.key in roles]
    plain = next((row for row in assessed if row.key == baseline), None)
    reason = withheld(record.info, plain.mean if plain else None)
    assessed = unranked(assessed) if reason else assessed
    over = over_baseline(assessed, baseline, guessing)
    rows = arch_results(record, assessed, controls, over, ranked=not reason)
    judged = judge(record, rows, epochs, reason)
    if isinstance(judged, Judged):
        rows = judged.restated(rows)
    design = isinstance(judged, Judged)
    short = notation([row for row in rows if not row.control], record.info.space.sites)
    if isinstance(judged, Judged):
        judged = in_short(judged, rows, short)
    front = (
        _design_table(rows, record, axes[0], short)
        if design
        else _front_table(rows, record, axes[0], short, reason.why)
    )
    return Report(
        record=record,
        cost=axes[0],
        epochs=epochs,
        assessed=assessed,
        rows=rows,
        counts=counts,
        front=front,
        withheld=reason,
        archs=_arch_table("archs", "All architectures", rows, record, axes[0], short, design),
        trials=trial_table(record),
        failures=failure_table(record),
        notation=short,
        judged=judged,
        verdicts=verdict_table(judged, axes[0], record.info.metric, short)
        if isinstance(judged, Judged)
        else None,
        effects=effect_table(judged, record.info.metric) if isinstance(judged, Judged) else None,
        stops=stop_table(record),
    )


def trials_frame(record: StudyRecord) -> pd.DataFrame:
    """Every trial, finished or not, for a notebook."""
    return frame(trial_table(record))


def front_frame(record: StudyRecord) -> pd.DataFrame:
    """The table of the front, full precision; `NoResultError` where no trial has finished."""
    return frame(build(record).front)


def verdicts_frame(record: StudyRecord) -> pd.DataFrame:
    """One row per variant of a design; empty for a search, and before a design can say anything."""
    verdicts = build(record).verdicts
    return frame(verdicts or Table("verdicts", "Verdicts", (), ()))


def frame(table: Table) -> pd.DataFrame:
    """A table's names and values as pandas knows them; an estimate is three columns."""
    import pandas as pd

    names, rows = table.flat()
    return pd.DataFrame(rows, columns=names)


def _arch_table(
    name: str,
    title: str,
    rows: Sequence[ArchResult],
    record: StudyRecord,
    cost: str,
    short: Notation,
    design: bool = False,
) -> Table:
    others, metric = _other_costs(rows, cost), record.info.metric
    scores = [column for column in score_columns(record) if column.name != f"{metric.column}_pct"]
    over_note = OVER_DESIGN if any(trial.role == "design" for trial in record.trials) else OVER_SEARCH
    columns = (
        Column("number", "arch no.", "arch", short="no."),
        Column("variant", "variant") if design else Column("arch", "arch"),
        *([Column("arch", "arch", wide=True)] if design else []),
        Column("seeds", "seeds", "integer"),
        Column("seeds_kind", "seeds used", wide=design, note=SEEDS, short="used"),
        Column(metric.error_column, f"{metric.error} (%)", "estimate", note=metric.say(ERROR)),
        Column(
            *("over_baseline_points", OVER_TITLE, "estimate"),
            signed=True,
            note=metric.say(over_note),
            short="Δ (pp)",
        ),
        Column(cost, cost_title(cost, record.info), "quantity", short=cost_name(cost)),
        Column("ratio", "ratio to baseline", "number", 3, short="ratio"),
        # Beside verdicts a second judgement of one arch at a time would only contradict them.
        Column("p_front", "P(front)", "probability", wide=design, note=metric.say(P_FRONT)),
        Column("status", "verdict" if design else "status"),
        Column(f"search_{metric.error_column}", f"selection {metric.error} (%)", "number", wide=True),
        Column(
            *("optimism_points", "selection bias (pp)", "number"),
            signed=True,
            wide=True,
            note=metric.say(OPTIMISM),
        ),
        *(Column(other, cost_title(other, record.info), "quantity", wide=True) for other in others),
        Column(f"{metric.column}_pct", f"{metric.title} (%)", "number", wide=True),
        *(replace(column, wide=True) for column in scores),
        Column("key", "key", wide=True),
    )
    values = tuple(
        (*_arch_values(row, others, short, design), *arch_scores(record, row, scores), row.key)
        for row in rows
    )
    # In a design bold means a gain, in the table of verdicts alone.
    strong = frozenset(i for i, row in enumerate(rows) if row.tied and not design)
    means = metric.say(TIED)
    return Table(name, title, columns, values, strong=strong, strong_means=means, lead=short.legend)


def _front_table(
    rows: Sequence[ArchResult], record: StudyRecord, cost: str, short: Notation, withheld: str
) -> Table:
    if withheld:
        title = f"Errors and costs, no front: {withheld}"
        competing = tuple(row for row in rows if not row.control)
        return replace(_arch_table("front", title, competing, record, cost, short), strong=frozenset())
    listed = tuple(row for row in rows if is_listed(row))
    table = _arch_table("front", "Pareto front and close candidates", listed, record, cost, short)
    remarks = [*_contradictions(listed), *_unconfirmed(listed)]
    if rest := sum(is_shown(row) and not is_listed(row) for row in rows):
        remarks.append(
            f"not listed: {many(rest, 'architecture')} that may still be on the front (P(front) 0.05 to 0.50); "
            "archs.csv has them"
        )
    return replace(table, remarks=tuple(remarks))


def _unconfirmed(rows: Sequence[ArchResult]) -> Iterator[str]:
    """Rows whose probability alone would confirm them."""
    high = [
        r for r in rows if r.status == Status.UNDECIDED and r.p_front is not None and r.p_front >= CONFIRMED
    ]
    if high:
        names = ", ".join(f"A{row.number}" for row in high)
        yield (
            f"undecided at a P(front) of {CONFIRMED:.2f} or more: {names}; it takes {INDEPENDENT} independent seeds to "
            "confirm"
        )


def _contradictions(rows: Sequence[ArchResult]) -> Iterator[str]:
    """Rows that stand as if on the front, and whose printed mean and cost another printed row betters."""
    betters: dict[int, list[int]] = {}
    for row in rows:
        if row.status in (Status.DOMINATED, Status.NOT_CONFIRMED) or row.control:
            continue
        better = [
            other
            for other in rows
            if other.mean < row.mean and all(a <= b for a, b in zip(other.costs, row.costs, strict=True))
        ]
        if better:
            betters.setdefault(min(better, key=lambda other: other.mean).number, []).append(row.number)
    if betters:
        found = "; ".join(
            f"{', '.join(f'A{number}' for number in worse)} (than A{best})" for best, worse in betters.items()
        )
        yield (
            f"higher mean here than a row of equal or lower cost: {found}. P(front) uses all runs, the means use "
            "independent seeds where there are any"
        )


def _design_table(rows: Sequence[ArchResult], record: StudyRecord, cost: str, short: Notation) -> Table:
    """Every variant and control with its error and cost, ready to be held against each other."""
    title = f"{capital(record.info.metric.error)} and cost of every variant"
    return _arch_table("front", title, rows, record, cost, short, design=True)


def _arch_values(row: ArchResult, others: Sequence[str], short: Notation, design: bool) -> tuple[Value, ...]:
    searched = list(row.search_errors.values())
    return (
        row.number,
        short.strip(row),
        *([row.label] if design else []),
        row.error.n,
        seeds_kind(row),
        row.error,
        row.difference,
        row.costs[0],
        row.ratio,
        row.p_front,
        row.outcome,
        sum(searched) / len(searched) if searched else None,
        row.optimism,
        *(row.all_costs.get(other) for other in others),
        100 - row.mean,
    )


def _other_costs(rows: Sequence[ArchResult], cost: str) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.all_costs)
    return [name for name in names if name != cost]
