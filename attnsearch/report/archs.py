"""Where each arch stands and where each trial went: the numbers that tables and sentences draw on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from attnsearch.core.costs import COSTS
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.report.table import Estimate
from attnsearch.statistics.front import Candidate, Front, Standing, assess, beside, next_cells

NOT_AUDITED = "proxy not audited"
PROMISING = ("gain", "equivalent", "identical", "no evidence")  # verdicts that leave a variant a chance

NEXT = 10  # trainings that are looked ahead to what is undecided


@dataclass(frozen=True)
class ArchRow:
    """One arch: its standing on the front, and how it compares with the baseline.

    `status` is its place on the front; `control` for a control, which has none; in a design its verdict.
    """

    number: int
    standing: Standing
    trial: TrialResult
    baseline: bool
    control: str
    status: str
    ratio: float | None
    difference: Estimate | None
    tied: bool
    wanted: int  # seeds that it would get of the NEXT that decide most
    name: str = ""  # the variant's, in a design

    @property
    def error(self) -> Estimate:
        row = self.standing
        return Estimate(row.mean, row.low, row.high, row.n)

    @property
    def seeds_kind(self) -> str:
        if not self.standing.fresh:
            return "search"
        return "design" if self.trial.role == "design" else "fresh"

    @property
    def label(self) -> str:
        if self.name:
            return self.name
        extra = "baseline" if self.baseline else self.control
        return f"{self.trial.arch} ({extra})" if extra else self.trial.arch

    @property
    def shown(self) -> bool:
        """Whether it is on the front or cannot be told from it."""
        return self.standing.observed or self.status in ("confirmed", "candidate", *PROMISING)

    @property
    def listed(self) -> bool:
        """Whether it has a line in the short table: baseline, observed front, serious rivals, those whose further
        seeds the summary asks for; of a design all.
        """
        serious = self.standing.fresh or (self.standing.p_front or 0.0) >= 0.5
        named = bool(self.name) or self.baseline or self.wanted > 0
        return named or self.standing.observed or (self.shown and serious)


@dataclass(frozen=True)
class Counts:
    """Where the space and the trials went."""

    size: int | None
    over_budget: int | None
    archs: int  # distinct archs trained to the end, as all but `audited` without the proxy's audit
    trainings: int  # trials trained to the end
    repeats: int  # of those, further seeds of an arch already trained
    audited: int  # trainings of the proxy's audit that reached their end
    running: int
    stopped: Mapping[int, int]  # epoch -> trials stopped after it
    failed: Mapping[str, int]  # reason -> trials
    lost: int  # ended by the death of their worker or run; their cells are run again

    def failures(self) -> str:
        """`3 failed: oom×2, nan×1`, or an empty string."""
        total = sum(self.failed.values())
        kinds = ", ".join(f"{kind}×{n}" for kind, n in self.failed.items())
        return f"{total} failed: {kinds}" if total else ""


def finished(trial: TrialResult) -> bool:
    return trial.state == "complete" and trial.error is not None and math.isfinite(trial.error)


def proxy_epochs(record: StudyRecord) -> int:
    """Length of the proxy; runs of another length (the audit's) stand in no mean."""
    if record.info.run.recipe is not None:
        return record.info.run.recipe.epochs
    lengths = Counter(trial.epochs for trial in record.trials if trial.role != "audit")
    return lengths.most_common(1)[0][0] if lengths else 0


def median_curve(record: StudyRecord, key: str, epochs: int) -> list[float]:
    """Validation error in percent by epoch, median over the finished runs of an arch."""
    runs = [t.curve for t in record.trials if t.key == key and t.state == "complete" and t.epochs == epochs]
    length = min((len(run) for run in runs), default=0)
    return [median(run[epoch].val_error for run in runs) for epoch in range(length)]


def cost_axes(info: StudyInfo, trials: Sequence[TrialResult]) -> tuple[str, ...]:
    """Names of the front's costs, the plotted one first; MACs where the study does not say."""
    known = list(trials[0].costs)
    return info.costs.axes or (("macs",) if "macs" in known or not known else (known[0],))


def audit_label(info: StudyInfo) -> str:
    """The verdict of `validate` on the proxy; stands in every table's heading."""
    return f"proxy audit: {info.verdict_on_proxy}" if info.audit else NOT_AUDITED


def cost_title(name: str, info: StudyInfo) -> str:
    """A cost's heading: its name, then its convention, or the unit that the study recorded for it."""
    title = cost_name(name)
    convention = COSTS[name].convention if name in COSTS else info.costs.units.get(name, {}).get("unit", "")
    return f"{title} ({convention})" if convention and not title.endswith(convention) else title


def cost_name(name: str) -> str:
    """A cost as it is called in a sentence."""
    return (
        COSTS[name].title if name in COSTS else name.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
    )


def count(record: StudyRecord) -> Counts:
    """Where the trials went, failures by the first words of their reason, the commonest first."""
    trials = record.trials
    ended = [trial for trial in trials if finished(trial)]
    done = [trial for trial in ended if trial.role != "audit"]
    cells = {(trial.key, trial.epochs) for trial in done}
    failed = Counter(kind(trial) for trial in trials if failure(trial) and not trial.lost)
    return Counts(
        size=record.info.space.size,
        over_budget=record.info.costs.over_limits,
        archs=len({trial.key for trial in done}),
        trainings=len(done),
        repeats=len(done) - len(cells),
        audited=len(ended) - len(done),
        running=sum(trial.state == "running" for trial in trials),
        stopped=dict(sorted(Counter(len(t.curve) for t in trials if t.state == "stopped").items())),
        failed=dict(failed.most_common()),
        lost=sum(trial.lost for trial in trials),
    )


def kind(trial: TrialResult) -> str:
    """The reason's first words: `oom` of `oom: 2.1 GB wanted`."""
    return (trial.reason.split(":")[0].strip() or "no reason recorded")[:60]


def failure(trial: TrialResult) -> bool:
    """Failed, or finished with an error that is no number."""
    return trial.state == "failed" or (trial.state == "complete" and not finished(trial))


def nothing_finished(record: StudyRecord, counts: Counts) -> str:
    stopped = sum(counts.stopped.values())
    parts = [
        counts.failures(),
        f"{stopped} stopped early" if stopped else "",
        f"{counts.lost} lost with their worker" if counts.lost else "",
        f"{counts.running} running" if counts.running else "",
    ]
    said = "; ".join(part for part in parts if part)
    return f"Study '{record.name}': 0 finished trials ({said or 'none started'})"


def arch_rows(
    record: StudyRecord,
    front: Front,
    controls: Sequence[Candidate],
    done: Sequence[TrialResult],
    over: Mapping[str, Estimate],
) -> tuple[ArchRow, ...]:
    """One row per arch trained to the end, by rising cost; `over` are the differences from the baseline."""
    first = {trial.key: trial for trial in reversed(done)}
    key = record.info.space.baseline
    roles = record.info.controls
    plain = next((row for row in front.standings if row.candidate.key == key), None)
    unit = plain.candidate.costs[0] if plain else 0.0
    best = tied_with_least(front)
    wanted = Counter(cell for cell, _ in next_cells(front, NEXT))
    standings = sorted((*front.standings, *beside(front, controls)), key=lambda row: row.candidate.costs)
    return tuple(
        ArchRow(
            number=number,
            standing=row,
            trial=first[row.candidate.key],
            baseline=row is plain,
            control=str(roles.get(row.candidate.key, "")),
            status="control" if row.candidate.key in roles else status(row, row is plain),
            ratio=row.candidate.costs[0] / unit if unit else None,
            difference=over.get(row.candidate.key),
            tied=row.candidate.key in best,
            wanted=wanted[row.candidate.key],
        )
        for number, row in enumerate(standings, start=1)
    )


def tied_with_least(front: Front) -> set[str]:
    """Keys of the archs whose error cannot be told from the least one, itself included: bold in a paper.

    They are the front's ties when cost does not count, over the runs that the tables tell of.
    """
    told = [row.candidate for row in front.standings]
    free = [replace(arch, costs=(0.0,), searched={}, fresh=arch.fresh or arch.searched) for arch in told]
    rows = assess(free, draws=1).standings
    return {row.candidate.key for row in rows if row.observed or row.tied_with}


STATUSES = {
    "confirmed": "P(front) at least 0.90 with fresh seeds",
    "candidate": "may be on the front; more seeds would decide",
    "dropped": "looked good in the search, fresh seeds did not bear it out",
    "dominated": "an arch that costs no more has less error (P(front) at most 0.05)",
    "undecided": "not on the observed front; the noise between seeds is not known",
}


def status(row: Standing, baseline: bool) -> str:
    """One word for an arch's place. A search value alone confirms nothing: it chose the arch."""
    if row.status == "unknown":
        return "candidate" if row.observed else "undecided"
    if row.status == "dominated":
        return "dropped" if row.fresh and row.candidate.searched else "dominated"
    return "confirmed" if row.status == "confirmed" and (row.fresh or baseline) else "candidate"
