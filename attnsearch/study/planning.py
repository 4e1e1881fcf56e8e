"""Before an ablation: how many seeds and hours does an effect take, at the noise of this host on these data?

rows      the variants that a design will train, controls among them
known     the noise between seeds that a study has seen
measured  the same from a few runs of the baseline, made for the purpose
outlook   what a design can see, in a sentence
search_plan  what a search will cost, and what its verdicts will be able to see
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.machine import pick_devices
from attnsearch.core.metrics import METRICS
from attnsearch.core.seeds import trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.text import many
from attnsearch.core.trial import TrialResult
from attnsearch.cost.cost_table import CostTable, small_map
from attnsearch.data import open_data
from attnsearch.report.archs import proxy_epochs
from attnsearch.space.space import Space
from attnsearch.statistics import Table
from attnsearch.statistics.noise import pooled_sd, seed_correlation
from attnsearch.statistics.power import duration, mde
from attnsearch.study.ablation import AblationSchedule, Variant, laid_out
from attnsearch.study.search_shape import REPORT_LEAST, shape
from attnsearch.study.starting_weights import prepared, sized


@dataclass(frozen=True)
class Noise:
    """What a plan rests on.

    Args:
        sd: of a run over seeds, in points. degrees: of freedom that it rests on; None where it was stated.
        rho: correlation of two variants' runs in one seed block; 0 where nothing is known of it.
        seconds: of a training; None where nothing is known of it.
    """

    sd: float
    degrees: int | None = None
    rho: float = 0.0
    seconds: float | None = None


def rows(
    space: Space, settings: Settings, notify: Callable[[str], None] = lambda message: None
) -> list[Variant]:
    """The variants of the design that `settings` and the space ask for, the baseline and the controls among them.

    `notify` is called with what the user should know of the images, such as how they are resized.
    """
    space = prepared(space, settings)
    settings = sized(space, settings)
    data = open_data(settings.data, **settings.data_options())
    for sentence in (*data.warnings, small_map(space.host, data.image)):
        if sentence:
            notify(sentence)
    table = CostTable(space, data.image, len(data.classes))
    return list(laid_out(space, table, settings, space.limits)[1].values())


@dataclass(frozen=True)
class SearchPlan:
    """What a search will cost and what its verdicts will be able to see.

    Args:
        trials, archs, finalists, seeds, pair: see `search_shape.Shape`.
        visible: smallest difference, in points, that a finalist's verdict finds with 80 % power; None without one.
        control_visible: the same of the positive control, in its own seeds.
        hours: None where the seconds of a training are not known.
    """

    trials: int
    archs: int
    finalists: int
    seeds: int
    pair: int
    sd: float
    rho: float
    visible: float | None
    control_visible: float | None
    hours: float | None

    def __str__(self) -> str:
        """In sentences."""
        time = "" if self.hours is None else f", about {duration(self.hours)}"
        lines = [f"{many(self.trials, 'trial')}{time}: {many(self.archs, 'arch')}, the baseline among them."]
        if self.visible is None:
            return f"{lines[0]} Too few for a last block of seeds, so the search ends without a verdict."
        lines.append(
            f"The last block judges {many(self.finalists, 'finalist')} in {many(self.seeds, 'seed')} and finds, with "
            f"80 % power, differences of {self.visible:.2f} points at a run sd of {self.sd:.2f}."
        )
        if self.control_visible is not None:
            lines.append(
                f"The positive control and the baseline have {many(self.pair, 'seed')}, which show a harm of "
                f"{self.control_visible:.2f} points."
            )
        return " ".join(lines)


def search_plan(trials: int, confirm: float, noise: Noise, *, control: bool, workers: int = 1) -> SearchPlan:
    """The plan of a search of so many trials at that noise; the finalists' noise is taken to be no larger."""
    planned = shape(trials, confirm, control)

    def visible(seeds: int, variants: int) -> float:
        return mde(seeds, variants, sd=noise.sd, rho=noise.rho)

    return SearchPlan(
        trials,
        *(planned.archs, planned.finalists, planned.seeds, planned.pair),
        sd=noise.sd,
        rho=noise.rho,
        visible=visible(planned.seeds, 1 + planned.finalists) if planned.finalists else None,
        control_visible=visible(planned.pair, 2) if control and planned.pair >= REPORT_LEAST else None,
        hours=None if noise.seconds is None else math.ceil(trials / workers) * noise.seconds / 3600,
    )


def known(record: StudyRecord, space: Space | None = None) -> Noise:
    """The noise between seeds, pooled over all archs of a study that have more than one.

    The correlation is taken from its whole seed blocks, where it has two variants in three of them.

    Args:
        space: what is planned, if it is another question; its metric has to be the study's.

    Raises:
        NoResultError: no arch has two finished trainings. UsageError: points of another metric.
    """
    metric = record.info.metric.name
    if space is not None and space.recipe.metric != metric:
        raise UsageError(
            f"study '{record.name}' minimised {metric}, the plan is for {space.recipe.metric}, whose noise is another: "
            f"add --metric {metric}, or take another study"
        )
    epochs = proxy_epochs(record)
    done = [trial for trial in record.trials if trial.finished and trial.epochs == epochs]
    by_arch: dict[str, dict[int, float]] = {}
    for trial in done:
        by_arch.setdefault(trial.key, {})[trial.seed] = float(trial.error or 0)
    # A null gate's runs are the baseline's over again: what is the same in every seed counts once.
    distinct = {tuple(sorted(runs.items())): key for key, runs in by_arch.items()}
    sd, degrees = pooled_sd([[error for _, error in runs] for runs in distinct])
    if sd is None or sd == 0:
        raise NoResultError(
            f"study '{record.name}' has no arch whose runs show the noise between seeds; --measure N makes some"
        )
    return Noise(
        sd,
        degrees,
        _correlation([t for t in done if t.key in distinct.values()]),
        median(trial.seconds for trial in done),
    )


def _correlation(done: list[TrialResult]) -> float:
    design = [trial for trial in done if trial.role == "design"]
    whole = Table.of_trials(design, {trial.key: trial.key for trial in design}).whole if design else None
    if whole is None or whole.shape[0] < 2 or whole.shape[1] < 3:
        return 0.0
    rho, _ = seed_correlation(whole)
    return min(max(rho, 0.0), 0.95) if math.isfinite(rho) else 0.0


def measured(space: Space, settings: Settings, runs: int, notify: Callable[[str], None] = print) -> Noise:
    """Train the baseline with so many seeds, one after the other, in this process; nothing is stored.

    Raises:
        UsageError: fewer than two runs. NoResultError: a training failed.
    """
    from attnsearch.build.host_weights import identify
    from attnsearch.core.messages import DataSource, Job
    from attnsearch.train.worker import Worker

    if runs < 2:
        raise UsageError(f"--measure takes 2 runs at least, got {runs}")
    space = prepared(space, settings)
    settings = sized(space, settings)
    weights = identify(space.weights) if space.weights else None
    worker = Worker(DataSource(settings.data, settings.data_options()), pick_devices(settings.device)[0])
    metric, errors, seconds = METRICS[space.recipe.metric], [], []
    for i in range(runs):
        spec, seed = space.baseline().to_dict(), trial_seed(settings.seed, i)
        job = Job(i, spec, seed, space.recipe, weights=weights)
        outcome = worker.run(job, lambda progress: True)
        if outcome.state != "complete":
            raise NoResultError(f"the baseline could not be trained: {outcome.reason}")
        errors.append(outcome.curve[-1].val_error)
        seconds.append(outcome.seconds)
        notify(f"baseline, seed {job.seed}: {metric.error} {errors[-1]:.2f} %, {seconds[-1]:.0f} s")
    sd, degrees = pooled_sd([errors])
    if not sd:
        raise NoResultError(
            f"{runs} runs of the baseline all err alike; the noise between seeds is not known"
        )
    return Noise(sd, degrees, 0.0, median(seconds))


def outlook(schedule: AblationSchedule, record: StudyRecord) -> str:
    """What a design about to run can see: in points where the study knows its noise, else in run sds."""
    variants, seeds = len(schedule.variants), len(schedule.design.blocks)
    sds = mde(seeds, variants)
    if not math.isfinite(sds):
        return (
            f"{many(variants, 'variant')} in {many(seeds, 'seed')} tell too little of the noise between seeds to find "
            "any effect with 80 % power, so expect differences without a verdict; --seeds N"
        )
    head = f"{variants} variants x {seeds} seed blocks see, with 80 % power, effects of"
    try:
        noise = known(record)
    except NoResultError:
        return f"{head} {sds:.1f} run standard deviations or more; `attnsearch plan` gives it in points"
    return f"{head} {mde(seeds, variants, sd=noise.sd, rho=noise.rho):.2f} points or more"
