"""The verdict that a search ends in, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnsearch.core.controls import POSITIVE
from attnsearch.core.seeds import trial_seed
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.text import many
from attnsearch.report.formatting import number
from attnsearch.statistics import Analysis, Verdict
from attnsearch.statistics.finalist_verdicts import LEAST, judge_control, judge_finalists

IMAGES = {
    "new splits": "each seed with a training and validation split of its own",
    "other half": "on the half of the validation images that the search did not see",
}


def last_block(record: StudyRecord, epochs: int) -> Analysis | None:
    """The analysis of a search's last block of seeds, variants by key; None where there is none."""
    seed = record.info.run.seed
    seeds = [trial_seed(seed, repeat) for repeat in record.info.search.report_repeats]
    trials = [trial for trial in record.trials if trial.epochs == epochs]
    baseline, margin = str(record.info.space.baseline), record.info.run.margin
    control, guessing = control_key(record), record.info.guessing
    return judge_finalists(trials, baseline, seeds, margin=margin, control=control, guessing=guessing)


def control_key(record: StudyRecord) -> str:
    """The key of the study's positive control; empty where it has none."""
    return next((key for key, kind in record.info.controls.items() if kind in POSITIVE), "")


def positive_control(record: StudyRecord, epochs: int) -> Verdict | None:
    """The positive control against the baseline, in the seeds of the last block; None where it was not run."""
    info = record.info
    repeats = (*info.search.report_repeats, *info.search.control_repeats)
    latest = {trial_seed(info.run.seed, repeat) for repeat in repeats}
    trials = [
        trial
        for trial in record.trials
        if trial.epochs == epochs
        and (trial.role == "design" if info.design else trial.role == "report" and trial.seed in latest)
    ]
    key = control_key(record)
    return judge_control(trials, str(info.space.baseline), key, guessing=info.guessing) if key else None


def control_sentence(record: StudyRecord, epochs: int) -> str:
    """Whether the study saw a harm that is known beforehand: what its "equivalent" and "no evidence" are worth."""
    verdict = positive_control(record, epochs)
    if verdict is None:
        why = (
            f"The positive control has not finished {LEAST} seeds beside the baseline, the least to judge it by"
            if control_key(record)
            else "No positive control was trained in these seeds"
        )
        return (
            f"{why}, so the study has not shown that it could see a difference: "
            'take no "equivalent" and no "no evidence" from it.'
        )
    trial = next(trial for trial in record.trials if trial.key == control_key(record))
    low, high = verdict.interval
    known = math.isfinite(low) and math.isfinite(high)
    interval = f"95 % interval {number(low, 2, True)} to {number(high, 2, True)}" if known else verdict.reason
    which = "better" if verdict.estimate > 0 else "worse"
    measured = (
        f"the positive control, {trial.arch}, is {abs(verdict.estimate):.2f} points {which} than the baseline "
        f"({interval}, {many(verdict.n, 'seed')})"
    )
    if is_seen(verdict):
        return f"This study can see a small harm: {measured}."
    return (
        f"This study did not see a harm that is known to be there: {measured}. "
        'Take no "equivalent" and no "no evidence" from it.'
    )


def is_seen(verdict: Verdict) -> bool:
    """Whether a positive control was seen to be worse: its whole interval lies below 0."""
    return verdict.interval[1] < 0


def headline(analysis: Analysis) -> Verdict:
    """The verdict that the report leads with, see `leading`."""
    return leading(analysis.verdicts)


def leading(verdicts: Sequence[Verdict]) -> Verdict:
    """Of one or more, the gain of the largest estimate, else the largest estimate that has a verdict, or else any."""
    return max(verdicts, key=lambda v: (v.outcome == "gain", v.outcome != "none", v.estimate))


def sentences(
    analysis: Analysis | None, labels: dict[str, str], record: StudyRecord, epochs: int
) -> list[str]:
    """The verdicts, the one that leads first, each with its interval, and what they rest on; or why there is none."""
    if analysis is None:
        return [MISSING]
    lead = headline(analysis)
    ordered = [lead, *(v for v in analysis.verdicts if v is not lead)]
    return [
        *(verdict_sentence(v, labels.get(v.variant, v.variant), record.info.metric.points) for v in ordered),
        basis(analysis, record),
        control_sentence(record, epochs),
    ]


def verdict_sentence(verdict: Verdict, label: str, points: str = "percentage points") -> str:
    """`Verdict: gain. se | none is 1.20 points better than the baseline (...)`."""
    low, high = verdict.simultaneous
    which = "better" if verdict.estimate > 0 else "worse"
    size = f"{abs(verdict.estimate):.2f} {points} {which} than the baseline"
    if verdict.outcome == "none":
        return f"No verdict: {verdict.reason}. {label} is {size} on {many(verdict.n, 'seed')}."
    interval = f"simultaneous 95 % CI {number(low, 2, True)} to {number(high, 2, True)}"
    word = str(verdict.outcome)
    if word == "equivalent" and verdict.margin is not None:
        word = f"equivalent within ±{verdict.margin:g} points"
    seen = ""
    if verdict.outcome == "no evidence" and math.isfinite(verdict.mde):
        seen = f" Minimum detectable effect: {verdict.mde:.2f} percentage points."
    return f"Verdict: {word}. {label} is {size} ({interval}, {many(verdict.n, 'seed')}).{seen}"


def basis(analysis: Analysis, record: StudyRecord) -> str:
    """Why the verdicts hold although a search chose the archs."""
    images = IMAGES.get(record.info.search.confirmed_on, "")
    count = len(analysis.verdicts)
    finalists = "finalist" if count == 1 else f"{count} finalists"
    return (
        f"The verdict rests on the last {many(analysis.blocks, 'seed')} alone, run after the "
        f"{finalists} had been chosen{f', {images}' if images else ''}."
    )


MISSING = (
    f"No verdict: the study has no last block of {LEAST} seeds or more, run after the choice. More trials "
    "(`--trials N --resume`, `--confirm` above 0) end in one."
)
