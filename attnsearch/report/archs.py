"""Where each arch stands and where each trial went: the numbers that tables and sentences draw on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from attnsearch.core.costs import COSTS
from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.statistics.arch_runs import ArchRuns
from attnsearch.statistics.front import ArchResult, Front, Status, off_front, tied_with_best
from attnsearch.statistics.next_runs import next_runs

NOT_AUDITED = "short training, ranking not validated"
PROMISING = ("gain", "equivalent", "identical", "no evidence")  # verdicts that leave a variant a chance

NEXT = 10  # trainings that are planned ahead to decide what is undecided


def seeds_kind(row: ArchResult) -> str:
    """Which seeds the printed mean is over."""
    if not row.fresh:
        return "selection"
    return "planned" if row.role == "design" else "independent"


def is_shown(row: ArchResult) -> bool:
    """Whether it is on the front or may be; in an ablation, whether its verdict leaves it a chance."""
    if row.verdict:
        return row.observed or row.verdict in PROMISING
    return row.observed or row.status in (Status.BY_COST, Status.CONFIRMED, Status.UNDECIDED)


def is_listed(row: ArchResult) -> bool:
    """Whether it has a line in the short table: baseline, observed front, close candidates, those whose further
    seeds the sentences asks for; of an ablation all.
    """
    close = row.fresh or (row.p_front or 0.0) >= 0.5
    named = bool(row.name) or row.baseline or row.next_seeds > 0
    return named or row.observed or (is_shown(row) and close)


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
    ended = [trial for trial in trials if trial.finished]
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
    return trial.state == "failed" or (trial.state == "complete" and not trial.finished)


def nothing_finished(record: StudyRecord, counts: Counts) -> str:
    stopped = sum(counts.stopped.values())
    parts = [
        counts.failures(),
        f"{stopped} stopped early" if stopped else "",
        f"{counts.lost} lost with their worker" if counts.lost else "",
        f"{counts.running} running" if counts.running else "",
    ]
    text = "; ".join(part for part in parts if part)
    return f"Study '{record.name}': 0 finished trials ({text or 'none started'})"


def arch_results(
    record: StudyRecord,
    front: Front,
    controls: Sequence[ArchRuns],
    differences: Mapping[str, Estimate],
    *,
    ranked: bool,
) -> tuple[ArchResult, ...]:
    """Every architecture trained to the end, numbered by rising cost, with its difference from the baseline."""
    key = record.info.space.baseline
    roles = record.info.controls
    plain = next((row for row in front if row.key == key), None)
    unit = plain.costs[0] if plain else 0.0
    tied = tied_with_best(front) if ranked else set()
    extra = Counter(arch for arch, _ in next_runs(front, NEXT) if ranked)
    ordered = sorted(
        (*front, *off_front(front, controls, guessing=record.info.guessing)), key=lambda row: row.costs
    )
    return tuple(
        replace(
            row,
            number=number,
            baseline=row.key == key,
            control=str(roles.get(row.key, "")),
            ratio=row.costs[0] / unit if unit else None,
            difference=differences.get(row.key),
            tied=row.key in tied,
            next_seeds=extra[row.key],
        )
        for number, row in enumerate(ordered, start=1)
    )
