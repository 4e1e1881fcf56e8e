"""Report: what there is to say of a study, once. Every format renders these tables and adds nothing.

build(record) -> Report
  front, archs, trials, failures, verdicts   tables
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnsearch.errors import NoResultError
from attnsearch.front import Front, assess, candidates
from attnsearch.reports.rows import (
    ArchRow,
    Counts,
    arch_rows,
    audit_label,
    cost_axis,
    cost_title,
    count,
    finished,
    kind,
    lost,
    nothing_finished,
    proxy_epochs,
)
from attnsearch.reports.table import Column, Table, Value
from attnsearch.trial import StudyRecord


@dataclass(frozen=True)
class Report:
    """All that the formats render."""

    record: StudyRecord
    cost: str
    epochs: int
    front_of: Front
    rows: tuple[ArchRow, ...]
    counts: Counts
    archs: Table
    front: Table
    trials: Table
    failures: Table
    verdicts: Table | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.record.facts

    @property
    def baseline(self) -> ArchRow | None:
        return next((row for row in self.rows if row.baseline), None)

    @property
    def audit(self) -> str:
        return audit_label(self.facts)

    def tables(self) -> tuple[Table, ...]:
        found = (self.verdicts, self.front, self.archs, self.failures, self.trials)
        return tuple(table for table in found if table is not None and table.rows)


def build(record: StudyRecord) -> Report:
    """Work out the tables of a study, finished or not; `NoResultError` where no trial has finished."""
    counts = count(record)
    epochs = proxy_epochs(record)
    done = [trial for trial in record.trials if finished(trial) and trial.epochs == epochs]
    if not done:
        raise NoResultError(nothing_finished(record, counts))
    cost = cost_axis(record.facts, done)
    standing = assess(candidates(done, [cost]))
    rows = arch_rows(record, standing, done, cost)
    return Report(
        record=record,
        cost=cost,
        epochs=epochs,
        front_of=standing,
        rows=rows,
        counts=counts,
        archs=_arch_table("archs", "All archs trained to the end", rows, record, cost),
        front=_front_table(rows, record, cost),
        trials=_trial_table(record),
        failures=_failure_table(record),
    )


def _arch_table(name: str, title: str, rows: Sequence[ArchRow], record: StudyRecord, cost: str) -> Table:
    others = _other_costs(rows, cost)
    columns = (
        Column("number", "no.", "integer"),
        Column("arch", "arch"),
        Column("seeds", "seeds", "integer"),
        Column("seeds_kind", "which seeds"),
        Column("error_pct", "error (%)", "estimate"),
        Column("difference_pct", "less baseline (points)", "estimate", signed=True),
        Column(cost, cost_title(cost, record.facts), "quantity"),
        Column("ratio", "x baseline", "number", 3),
        Column("p_front", "P(front)", "probability"),
        Column("status", "status"),
        Column("search_error_pct", "search value (%)", "number"),
        Column("optimism_pct", "optimism (points)", "number", signed=True),
        *(Column(other, cost_title(other, record.facts), "quantity", wide=True) for other in others),
        Column("accuracy_pct", "accuracy (%)", "number", wide=True),
        Column("key", "key", wide=True),
    )
    values = tuple(_arch_values(row, others) for row in rows)
    strong = frozenset(i for i, row in enumerate(rows) if row.standing.observed or row.standing.tied_with)
    return Table(
        name, title, columns, values, arch_notes(record), strong, "on the observed front or tied with it"
    )


def _front_table(rows: Sequence[ArchRow], record: StudyRecord, cost: str) -> Table:
    listed = tuple(row for row in rows if row.listed)
    table = _arch_table("front", "The front and its nearest rivals", listed, record, cost)
    rest = sum(row.shown and not row.listed for row in rows)
    if not rest:
        return table
    note = f"not listed: {rest} archs with some chance left (P(front) 0.05 to 0.50); archs.csv has them"
    return replace(table, notes=(*table.notes, note))


def _arch_values(row: ArchRow, others: Sequence[str]) -> tuple[Value, ...]:
    standing = row.standing
    searched = list(standing.candidate.searched.values())
    return (
        row.number,
        row.label,
        standing.n,
        "fresh" if standing.fresh else "search",
        row.error,
        row.difference,
        standing.candidate.costs[0],
        row.ratio,
        standing.p_front,
        row.status,
        sum(searched) / len(searched) if searched else None,
        standing.optimism,
        *(row.trial.costs.get(other) for other in others),
        100 - standing.mean,
        row.trial.key,
    )


def _other_costs(rows: Sequence[ArchRow], cost: str) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.trial.costs)
    return [name for name in names if name != cost]


def arch_notes(record: StudyRecord) -> tuple[str, ...]:
    """What the columns of an arch table mean."""
    return (
        "error: mean over the row's seeds, in percent of the validation images, ± half its 95 % t interval "
        "(standard deviation between seeds pooled over all repeated archs)",
        "which seeds: `fresh` ones ran after the arch had been chosen; `search` ones helped to choose it, so "
        "flatter it",
        "optimism: mean over fresh seeds minus search value",
        "P(front): probability, given the noise between seeds, that no arch of no more cost has less error",
    )


def _trial_table(record: StudyRecord) -> Table:
    costs = list(dict.fromkeys(name for trial in record.trials for name in trial.costs))
    columns = (
        Column("trial", "trial", "integer"),
        Column("arch", "arch"),
        Column("seed", "seed", "integer"),
        Column("epochs", "epochs", "integer"),
        Column("epochs_run", "epochs run", "integer"),
        Column("role", "role"),
        Column("state", "state"),
        Column("error_pct", "error (%)", "number"),
        *(Column(cost, cost_title(cost, record.facts), "quantity") for cost in costs),
        Column("seconds", "time (s)", "number", 1),
        Column("attempt", "retries", "integer", wide=True),
        Column("device", "device", wide=True),
        Column("key", "key", wide=True),
        Column("reason", "reason"),
    )
    rows = tuple(
        (
            *(t.number, t.arch, t.seed, t.epochs, len(t.curve), t.role, t.state, t.error),
            *(t.costs.get(cost) for cost in costs),
            *(t.seconds, t.attempt, t.device, t.key, t.reason),
        )
        for t in record.trials
    )
    return Table("trials", "All trials", columns, rows, ("one row per arch, seed and length",))


def _failure_table(record: StudyRecord) -> Table:
    columns = (
        Column("trial", "trial", "integer"),
        Column("arch", "arch"),
        Column("seed", "seed", "integer"),
        Column("state", "state"),
        Column("epochs_run", "epochs run", "integer"),
        Column("reason", "reason"),
    )
    rows = tuple(
        (
            t.number,
            t.arch,
            t.seed,
            t.state if t.state != "complete" else "failed",
            len(t.curve),
            t.reason or kind(t),
        )
        for t in record.trials
        if t.state in ("failed", "over_limit") or lost(t)
    )
    return Table("failures", "Failed, or over a limit", columns, rows)
