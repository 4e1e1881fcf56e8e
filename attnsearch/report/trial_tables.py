"""The tables of single trials: all of them, those that failed, and how often stopping early was a mistake."""

from __future__ import annotations

from attnsearch.core.study_info import StudyRecord
from attnsearch.report.archs import cost_title, failure, kind
from attnsearch.report.classes import score_columns, trial_scores
from attnsearch.report.formatting import Column, Table


def trial_table(record: StudyRecord) -> Table:
    costs = list(dict.fromkeys(name for trial in record.trials for name in trial.costs))
    metric, scores = record.info.metric, score_columns(record)
    columns = (
        Column("trial", "trial", "integer"),
        Column("arch", "arch"),
        Column("seed", "seed", "integer"),
        Column("epochs", "epochs", "integer"),
        Column("epochs_run", "epochs run", "integer"),
        Column("role", "role"),
        Column("state", "state"),
        Column(metric.error_column, f"{metric.error} (%)", "number"),
        *scores,
        *(Column(cost, cost_title(cost, record.info), "quantity") for cost in costs),
        Column("seconds", "time (s)", "number", 1),
        Column("attempt", "retries", "integer", wide=True),
        Column("batch_parts", "parts of a batch", "integer", wide=True),
        Column("device", "device", wide=True),
        Column("key", "key", wide=True),
        Column("reason", "reason"),
    )
    rows = tuple(
        (
            *(t.number, t.arch, t.seed, t.epochs, len(t.curve), t.role, t.state, t.error),
            *trial_scores(t.counts, scores, record.info.images.classes),
            *(t.costs.get(cost) for cost in costs),
            *(t.seconds, t.attempt, t.parts, t.device, t.key, t.reason),
        )
        for t in record.trials
    )
    return Table("trials", "All trials", columns, rows)


def failure_table(record: StudyRecord) -> Table:
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
        if failure(t)
    )
    return Table("failures", "Failed", columns, rows)


def stop_table(record: StudyRecord) -> Table | None:
    """How often stopping early would have been a mistake; None where no would-be stop was let run."""
    stops = record.info.search.false_stops
    if not any(entry.get("audited") for entry in stops.values()):
        return None
    from attnsearch.statistics.false_stops import Tally

    columns = (
        Column("option", "option"),
        Column("trials", "trials", "integer"),
        Column("stopped", "stopped", "integer"),
        Column(
            "audited",
            "checked",
            "integer",
            note="early stops that were trained to the end instead, chosen at random",
        ),
        Column("false", "false", "integer", note="ended on the front or within one standard deviation of it"),
        Column(
            "rate", "false-stop rate", "number", note="share of those checked; exact 95 % confidence interval"
        ),
        Column("rate_low", "from", "number"),
        Column("rate_high", "to", "number"),
    )
    tallies = {option: Tally(**entry) for option, entry in stops.items()}
    rows = tuple(
        (option, tally.trials, tally.stopped, tally.audited, tally.false, tally.rate, *tally.interval)
        for option, tally in tallies.items()
        if tally.audited
    )
    return Table("stops", "False early stops", columns, rows)
