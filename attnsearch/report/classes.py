"""What a study knows of single classes: scores of every trial, recalls and confusion matrices of two architectures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from attnsearch.core.metrics import METRICS, ClassCounts
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.text import many
from attnsearch.report.archs import proxy_epochs
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.statistics.front import ArchResult

if TYPE_CHECKING:
    from attnsearch.report.tables import Report

WORST = "the lowest recall of a class, the first of several"


def score_columns(record: StudyRecord) -> tuple[Column, ...]:
    """Columns of the scores beside the error that is minimised; none where no trial kept its counts."""
    counted = [trial.counts for trial in record.trials if trial.counts is not None]
    if not counted:
        return ()
    known = counted[0].scores()
    scores = [metric for metric in METRICS.values() if metric.column in known]
    return (
        *(Column(f"{m.column}_pct", f"{m.title} (%)", "number", wide=True) for m in scores),
        Column("worst_recall_pct", "worst-class recall (%)", "number", note=WORST),
        Column("worst_class", "worst class"),
    )


def trial_scores(
    counts: ClassCounts | None, columns: Sequence[Column], classes: Sequence[str]
) -> tuple[Value, ...]:
    """A trial's cells of `score_columns`."""
    if counts is None or not columns:
        return (None,) * len(columns)
    known = counts.scores()
    numbers = (known.get(column.name.removesuffix("_pct")) for column in columns[:-1])
    return (*numbers, class_name(classes, counts.worst_class()))


def arch_scores(record: StudyRecord, row: ArchResult, columns: Sequence[Column]) -> tuple[Value, ...]:
    """An architecture's cells of `score_columns`, its counts over all seeds of the printed mean taken together."""
    return trial_scores(pooled(record, row, proxy_epochs(record)), columns, record.info.images.classes)


def pooled(record: StudyRecord, row: ArchResult, epochs: int) -> ClassCounts | None:
    """Counts of an architecture over the runs that its printed mean is over; None where one of them kept none."""
    runs = {
        trial.seed: trial.counts
        for trial in record.finished_by_arch.get(row.key, ())
        if trial.epochs == epochs
        if row.shown_errors.get(trial.seed) == trial.error
    }
    counts = [counts for counts in runs.values() if counts is not None]
    return reduce(add, counts) if counts and len(counts) == len(row.shown_errors) else None


def class_tables(report: Report) -> tuple[Table, ...]:
    """Recall of each class for the baseline and the leading architecture, then the confusion matrix of both."""
    from attnsearch.report.findings import leader

    shown = [row for row in (report.baseline, leader(report)) if row is not None]
    pairs = [(row, pooled(report.record, row, report.epochs)) for row in shown]
    known = [(row, counts) for row, counts in pairs if counts is not None]
    if not known:
        return ()
    return (_recalls(known, report.info), *_confusions(known, report.info))


def _recalls(known: Sequence[tuple[ArchResult, ClassCounts]], info: StudyInfo) -> Table:
    classes = info.images.classes
    first = known[0][1]
    columns = (
        Column("class", "class"),
        Column("images", "images", "integer", note=f"of all seeds of {_named(known[0][0])} together"),
        *(Column(f"recall_{_role(row)}_pct", f"recall of {_named(row)} (%)", "number") for row, _ in known),
    )
    recalls = [counts.recalls() for _, counts in known]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (class_name(classes, number), images, *(recall[number] for recall in recalls))
        for number, images in enumerate(first.images)
    )
    remarks = (
        "recall: share of a class's validation images that were recognised, over all seeds of the printed mean",
        *(_worst(row, counts, classes) for row, counts in known),
    )
    return Table("recalls", "Recall of each class", columns, rows, remarks)


def _worst(row: ArchResult, counts: ClassCounts, classes: Sequence[str]) -> str:
    name = class_name(classes, counts.worst_class())
    return f"worst class of {_named(row)}: {name}, {counts.worst_recall():.2f} % of its images"


def _confusions(known: Iterable[tuple[ArchResult, ClassCounts]], info: StudyInfo) -> Iterable[Table]:
    """One matrix each, up to `CONFUSION_CLASSES` classes."""
    for row, counts in known:
        if counts.confusion is None:
            continue
        names = [class_name(info.images.classes, number) for number in range(len(counts.images))]
        columns = (
            Column("class", "true class"),
            *(Column(f"as_{name}", f"as {name}", "integer") for name in names),
        )
        rows: tuple[tuple[Value, ...], ...] = tuple(
            (name, *cells) for name, cells in zip(names, counts.confusion, strict=True)
        )
        runs = many(row.error.n, "seed")
        remark = f"validation images of {runs}; a row is a class, a column what its images were taken for"
        yield Table(f"confusion_{_role(row)}", f"Confusion matrix of {_named(row)}", columns, rows, (remark,))


def _role(row: ArchResult) -> str:
    return "baseline" if row.baseline else "leader"


def _named(row: ArchResult) -> str:
    return "the baseline" if row.baseline else f"A{row.number}"


def class_name(classes: Sequence[str], number: int) -> str:
    """The name of a class, its number where the study does not say."""
    return classes[number] if number < len(classes) else str(number)


__all__ = ["arch_scores", "class_tables", "pooled", "score_columns", "trial_scores"]
