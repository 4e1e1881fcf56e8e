"""Does the proxy rank archs as a longer training does? An audit of a study by trainings of its own.

Archs are drawn evenly over cost and over the error of the short training; where the study knows too few, others of
the space are trained short as well. Each is then trained long, eight of them twice, which tells how well even a
perfect proxy could rank; with more seeds, all of them so often, short and long. `proxy.audit` judges; the outcome stays
with the study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.convergence import LEAST_SEEDS, LONGER, Convergence
from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.machine import pick_devices, worker_count
from attnsearch.core.seeds import Repeats, trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import AuditPlan, ProxyAudit
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space
from attnsearch.statistics import proxy
from attnsearch.statistics.proxy_pairs import choose, pairs
from attnsearch.store import database
from attnsearch.store.study_store import StudyStore
from attnsearch.study.coordinator import train_all, write_report
from attnsearch.study.observer import Observer
from attnsearch.study.signals import stopping
from attnsearch.study.study import Study, data_of, open_study, settings_of, space_of
from attnsearch.study.tasks import Costed, Task

ARCHS = 30  # with as many the interval of a good proxy's partial tau stays above 0.2 in nine of ten audits
FACTOR = 4
REPEATED = 8


@dataclass(frozen=True)
class Plan:
    """What an audit trains: archs as `Arch.to_dict()`, the first of them spread over cost, to this length."""

    archs: tuple[Mapping[str, Any], ...]
    epochs: int


class AuditSchedule:
    """Short trainings that are missing, then one long training of every arch, then a second of the first eight, or as
    many more of all as there are seeds.
    """

    is_audit = True
    may_end_early = ""

    def __init__(self, plan: Plan, space: Space, store: StudyStore, seed: int, seeds: int = 1) -> None:
        self.store = store
        archs = [Arch.from_dict(spec) for spec in plan.archs]
        short = [arch for arch in archs if not _short(store, arch.key, space.recipe.epochs)]
        # What is short shares the seed of the study's first block, or seeds would separate the new archs from the old.
        first, second, *rest = Repeats.AUDIT.take(2 * max(seeds, 2))
        planned = [
            *((arch, space.recipe.epochs, 0) for arch in short),
            *((arch, plan.epochs, first) for arch in archs),
            *((arch, plan.epochs, second) for arch in (archs if seeds > 1 else archs[:REPEATED])),
            # No seed is used at both lengths: its luck would pass for a rank of the arch.
            *((arch, space.recipe.epochs, repeat) for repeat in rest[::2][: seeds - 1] for arch in archs),
            *((arch, plan.epochs, repeat) for repeat in rest[1::2][: max(0, seeds - 2)] for arch in archs),
        ]
        self.tasks = [
            Task(arch, trial_seed(seed, repeat), "audit", True, space.choice(arch), epochs=epochs)
            for arch, epochs, repeat in planned
        ]
        self.total = sum(not self._begun(task) for task in self.tasks)

    def expected(self) -> list[Costed]:
        """Nothing: an audit trains for two lengths, which one estimate does not cover."""
        return []

    def next(self) -> Task | None:
        return next((task for task in self.tasks if not self._begun(task)), None)

    @property
    def ended(self) -> str:
        return "" if self.next() else "all trainings of the audit are done"

    def _begun(self, task: Task) -> bool:
        training = task.arch.key, task.seed, task.epochs, "audit"
        rows = self.store.results.values()
        return any((r.key, r.seed, r.epochs, r.role) == training and not r.lost for r in rows)


def validate(
    name: str | None = None,
    *,
    archs: int = ARCHS,
    factor: int = FACTOR,
    seeds: int = 1,
    storage: str | None = None,
    out: Path = Path("results"),
    observer: Observer | None = None,
    **settings: Any,
) -> Study:
    """Audit the proxy of a study; the study keeps the outcome. Calling it again goes on.

    Args:
        archs: trained long, at least 8. factor: how many times longer.
        seeds: of every arch at both lengths; with one, eight archs are trained long a second time.
        settings: `workers`, `device`, `timeout` and their like of `Settings`.

    Raises:
        UsageError: no such study, or numbers that make no audit.
        DataError: the images have changed. NoResultError: too few trainings ended well.
        Interrupted: a signal came; everything finished is kept.
    """
    if archs < proxy.LEAST or factor < 2:
        raise UsageError(
            f"An audit takes at least {proxy.LEAST} archs and a factor of 2, got {archs} and {factor}"
        )
    observer, record = observer or Observer(), open_study(name, storage, out=out).record
    options = settings_of(record, storage=storage, out=out, **settings)
    url = options.url()
    opened = database.open_storage(url, create=False)
    with stopping() as stop, database.owned(url, record.name, opened), database.faults(url):
        store = StudyStore.reopen(opened, record.name)
        space, data = space_of(record), data_of(record.info.data)
        table = CostTable(space, data.image, len(data.classes))
        plan = _planned(store, table, archs, factor)
        schedule = AuditSchedule(plan, space, store, options.seed, seeds)
        _announce(observer, store, plan, schedule.total, options)
        devices = pick_devices(options.device, options.engine)
        why = train_all(schedule, store, table, space.recipe, options, observer, devices, stop)
        store.set_attrs(_outcome(store.snapshot(), plan, space.recipe.epochs, seeds))
        if measured := _convergence(store.snapshot(), plan, space):
            store.set_attrs(replace(store.info.run, convergence=measured))
        if fault := write_report(store.snapshot(), out):
            observer.note(fault)
        observer.ended(why)
        return Study(record.name, store.snapshot())


def _announce(observer: Observer, store: StudyStore, plan: Plan, total: int, settings: Settings) -> None:
    info, recipe = store.info, store.info.recipe
    question = f"Does a proxy of {recipe.epochs} epochs rank archs as {plan.epochs} epochs do?"
    shown = replace(
        info,
        space=replace(info.space, question=question),
        run=replace(info.run, recipe=replace(recipe, epochs=plan.epochs)),
    )
    devices = pick_devices(settings.device, settings.engine)
    observer.began(shown, total, worker_count(settings.workers, total, devices))


def _convergence(record: StudyRecord, plan: Plan, space: Space) -> Convergence | None:
    """The baseline's errors in short and in long on the same images, where both have enough seeds and length."""
    rows = [t for t in record.trials if t.key == space.baseline().key and t.role != "report"]
    short = tuple(t.error for t in rows if t.epochs == space.recipe.epochs and t.error is not None)
    long = tuple(t.error for t in rows if t.epochs == plan.epochs and t.error is not None)
    if plan.epochs < LONGER * space.recipe.epochs or min(len(short), len(long)) < LEAST_SEEDS:
        return None
    return Convergence(space.recipe.epochs, short, plan.epochs, long)


def _outcome(record: StudyRecord, plan: Plan, epochs: int, seeds: int) -> ProxyAudit:
    keys = {Arch.from_dict(spec).key for spec in plan.archs}
    trials = [t for t in record.trials if t.key in keys and t.epochs in (epochs, plan.epochs)]
    try:
        audit = proxy.audit(pairs(trials, record.info.costs.axes[0], seeds))
    except NoResultError as error:
        raise NoResultError(f"{error}; the same command goes on") from None
    return ProxyAudit(audit.verdict, epochs, plan.epochs, asdict(audit))


def _planned(store: StudyStore, table: CostTable, archs: int, factor: int) -> Plan:
    """The plan that the study began with, if it is of this size; else a new one, which the study keeps."""
    epochs = factor * table.space.recipe.epochs
    earlier = store.info.audit_plan
    if earlier is not None and earlier.asked == (archs, factor):
        return Plan(earlier.archs, epochs)
    chosen = draw(table, tuple(store.results.values()), archs, store.info.costs.axes[0])
    plan = Plan(tuple(arch.to_dict() for arch in chosen), epochs)
    store.set_attrs(AuditPlan((archs, factor), plan.archs))
    return plan


def draw(table: CostTable, rows: Sequence[TrialResult], count: int, cost: str) -> list[Arch]:
    """Archs for an audit: even over cost and short error; the first eight spread over cost, the baseline among all.

    Archs that a pruner stopped are drawn as well, or the proxy would be judged by those it favoured. Archs that the
    study never met fill up what is missing; a space that is smaller than `count` is taken whole.
    """
    space = table.space
    known = {
        row.key: row
        for row in reversed(rows)
        if row.curve and row.spec and row.role not in ("audit", "report")
    }
    rows_known = list(known.values())
    costs = [row.costs[cost] for row in rows_known]
    picks = choose(costs, [row.curve[-1].val_error for row in rows_known], count)
    archs = {space.baseline().key: space.baseline()}
    for i in picks:
        if len(archs) < count:
            archs.setdefault(rows_known[i].key, Arch.from_dict(rows_known[i].spec))
    for seed in range(100 * count):
        if len(archs) >= min(count, space.size()):
            break
        archs.setdefault((arch := space.sample(seed)).key, arch)
    by_cost = sorted(archs.values(), key=lambda arch: table.of(arch, space.choice(arch))[cost])
    spread = {
        by_cost[i].key
        for i in np.linspace(0, len(by_cost) - 1, min(REPEATED, len(by_cost))).round().astype(int)
    }
    return sorted(by_cost, key=lambda arch: arch.key not in spread)


def _short(store: StudyStore, key: str, epochs: int) -> bool:
    """Whether the study itself trained the arch to the proxy's end."""
    rows = store.results.values()
    return any(r.key == key and r.epochs == epochs and r.finished and r.role != "audit" for r in rows)
