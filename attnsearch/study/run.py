"""Run: a space becomes a study, new or resumed, trained by the coordinator and reported.

`run` is what the command line calls; what it gives back is a `studies.Study`.
"""

from __future__ import annotations

import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from attnsearch.core import secrets
from attnsearch.core.checks import check_study_name
from attnsearch.core.costs import COSTS, Limit, parse_limits, within
from attnsearch.core.errors import EnvironmentFault, NoResultError, UsageError
from attnsearch.core.machine import cores, pick_devices, versions, worker_count
from attnsearch.core.metrics import METRICS, check_classes
from attnsearch.core.requirements import Requirements
from attnsearch.core.settings import AUTO_SEEDS, Settings
from attnsearch.core.study_attrs import DataInfo, RunInfo, SpaceInfo
from attnsearch.core.trial import Recipe
from attnsearch.cost.cost_table import CostTable, small_map
from attnsearch.data import Data, open_data
from attnsearch.sample.rungs import Rungs
from attnsearch.space.space import Space, load_space, shipped_spaces
from attnsearch.store import database
from attnsearch.store.read import read_record
from attnsearch.store.study_store import StudyStore, copy_study, none_left_empty
from attnsearch.study import notebook_bar, own_model, starting_weights
from attnsearch.study.ablation import AblationSchedule, positive
from attnsearch.study.coordinator import estimate_all, reasons, train_all, write_report
from attnsearch.study.extend import replay
from attnsearch.study.observer import Observer
from attnsearch.study.planning import outlook
from attnsearch.study.resume import Resume
from attnsearch.study.sample_images import sample_images
from attnsearch.study.search import SearchSchedule
from attnsearch.study.sequential_design import SequentialSchedule
from attnsearch.study.signals import Stop, stopping
from attnsearch.study.study import Study
from attnsearch.study.tasks import Schedule, counted

UNEQUAL = 3  # times as many images in the largest class as in the smallest


def run(space: Space | str | Path, *, observer: Observer | None = None, **settings: Any) -> Study:
    """Search a space or work off a design, and write tables and pictures to `out/<study>/`.

    Args:
        space: a `Space`, a shipped space's name, or a YAML file.
        observer: called with progress; when None, a bar in a notebook and nothing elsewhere.
        settings: fields of `Settings`.

    Raises:
        AttnsearchError: a mistake in the space, the data or the environment, by class.
        Interrupted: a signal came; everything finished is kept.
    """
    checked = Settings(**settings).check()
    own_model.allow(checked.host_module)
    question = space if isinstance(space, Space) else load_space(space, checked.weights)
    return Run(question, checked, observer or notebook_bar.observer()).execute()


class Run:
    """One call of `run`, from opening the data to writing the report."""

    def __init__(self, space: Space, settings: Settings, observer: Observer) -> None:
        self.observer = observer
        self.space = starting_weights.prepared(space, settings)
        self.settings = starting_weights.sized(self.space, settings)
        self.name = check_study_name(settings.study or self.space.name)
        self.limits: tuple[Limit, ...] = (*self.space.limits, *parse_limits(settings.budget))

    def execute(self) -> Study:
        with self._opened() as (store, schedule, table, devices, stop):
            settings = self._without_an_untrusted_proxy(store)
            recipe, observer = self.space.recipe, self.observer
            ended = train_all(schedule, store, table, recipe, settings, observer, devices, stop)
            return self._end(store, ended)

    def estimate(self) -> Requirements:
        """What the run would take. Nothing is left of it: the study that it needs stands in a folder of its own.

        Raises:
            NoResultError: nothing is left to train, or no step could be timed.
        """
        settings = self.settings
        with tempfile.TemporaryDirectory(prefix="attnsearch-") as folder:
            url = f"sqlite:///{Path(folder) / 'attnsearch.db'}"
            if settings.resume or settings.extend:
                copy_study(settings.url(), url, [name for name in (self.name, settings.extend) if name])
            self.settings = replace(settings, storage=url, out=Path(folder))
            try:
                with self._opened() as (store, schedule, table, devices, stop):
                    recipe, observer = self.space.recipe, self.observer
                    return estimate_all(
                        schedule, store, table, recipe, self.settings, observer, devices, stop
                    )
            finally:
                self.settings = settings

    @contextmanager
    def _opened(self) -> Iterator[tuple[StudyStore, Schedule, CostTable, list[str], Stop]]:
        """The study with what is to be trained in it, held for this process."""
        with stopping() as stop:
            settings, url = self.settings, self.settings.url()
            devices = pick_devices(settings.device, settings.engine)
            data = open_data(settings.data, **settings.data_options())
            check_classes(self.space.recipe.metric, len(data.classes))
            for warning in data.warnings:
                self.observer.note(warning)
            if data.ignored:
                self.observer.note(data.summary())
            self.module = own_model.module_info(self.space, data)
            self.host_notes = own_model.described(self.space, data)
            if warning := unequal_classes(data, self.space.recipe):
                self.observer.note(warning)
            if warning := small_map(self.space.host, data.image):
                self.observer.note(warning)
            self.weights = starting_weights.weights_info(self.space, settings, data)
            opened = database.open_storage(url, create=True)
            held = database.owned(url, self.name, opened)
            with held, database.faults(url), none_left_empty(opened, self.name):
                with database.faults(url, reading=True):
                    resume = Resume(self.name, self.space, settings, self.observer)
                    resume.check(opened, data, self.weights, self.module)
                table = CostTable(self.space, data.image, len(data.classes))
                store = self._open_store(opened, data, table, devices)
                if settings.extend and not store.results:
                    self._extend(opened, store, data)
                schedule = self._make_schedule(table, store)
                self._write_schedule_info(store, schedule, table)
                yield store, schedule, table, devices, stop

    def _extend(self, opened: Any, store: StudyStore, data: Data) -> None:
        old = read_record(opened, str(self.settings.extend))
        settings, recipe = self.settings, self.space.recipe
        rungs = Rungs(settings.pruner, costs=settings.costs, epochs=recipe.epochs, seed=settings.seed)
        taken = replay(old, store, self.space, data, rungs)
        # or errors on other images would be mixed
        store.set_attrs(replace(store.info.search, confirmed_on=old.info.search.confirmed_on))
        self.observer.note(f"{taken} finished trials taken over from study '{old.name}'")

    def _without_an_untrusted_proxy(self, store: StudyStore) -> Settings:
        """The settings; the pruner is off where an audit shows that the short training cannot rank."""
        if (
            self.settings.pruner == "none"
            or (audit := store.info.audit) is None
            or audit.verdict != "do not trust"
        ):
            return self.settings
        self.observer.note("the audit of the proxy says: do not trust; no training is stopped early")
        why = "none, since the audit does not trust the proxy"
        store.set_attrs(replace(store.info.search, pruner=why))
        return replace(self.settings, pruner="none")

    def _end(self, store: StudyStore, ended: str) -> Study:
        record = store.snapshot()
        fault = write_report(record, self.settings.out)
        self.observer.ended(ended)
        if not any(row.finished for row in record.trials):
            raise NoResultError(f"study '{self.name}' ended without one finished training: {reasons(store)}")
        if fault:
            raise EnvironmentFault(
                f"{fault}; the study itself is whole, `attnsearch report {self.name}` writes them again"
            )
        return Study(self.name, record)

    def _open_store(self, opened: Any, data: Data, table: CostTable, devices: list[str]) -> StudyStore:
        sites = {site: tuple(options) for site, options in self.space.sites.items()}
        names = [f"{cost} ({COSTS[cost].unit})" for cost in self.settings.costs]
        objective = f"validation {METRICS[self.space.recipe.metric].error} (%)"
        store = StudyStore(opened, self.name, sites, [objective, *names], self.settings.costs)
        store.set_attrs(
            self._space_info(),
            replace(
                store.info.costs,
                drawn=self.settings.costs[0],
                chosen=self.settings.costs,
                range=table.range(self.settings.costs[0]),
                units={name: {"unit": info.unit, "better": info.better} for name, info in COSTS.items()},
                limits=tuple(f"{limit} ({table.bound(limit):,.0f})" for limit in self.limits),
            ),
            DataInfo.of(data.facts(), self.settings.data_options()),
            *([] if self.weights is None else [self.weights]),
            self.module,
        )
        if store.info.run.started is None:
            store.set_attrs(replace(store.info.search, confirmed_on=self._confirmed_on(data)))
            if not self.settings.no_images:
                store.set_attrs(sample_images(data, self.space.recipe, self.settings.seed))
        store.set_attrs(self._run_info(store, devices[0]))
        return store

    def _space_info(self) -> SpaceInfo:
        return SpaceInfo(
            name=self.space.name,
            question=self.space.question,
            text=self.space.text,
            fingerprint=self.space.fingerprint(),
            host=str(self.space.host.name),
            sites={site: tuple(options) for site, options in self.space.sites.items()},
            size=self.space.size(),
            baseline=self.space.baseline().key,
        )

    def _run_info(self, store: StudyStore, device: str) -> RunInfo:
        before = store.info.run
        return replace(
            before,
            seed=self.settings.seed,
            recipe=self.space.recipe,
            margin=self.settings.margin,
            convergence=self.space.convergence,
            started=before.started or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            command=_command(self.space.name, self.settings),
            device=device,
            machine=f"{platform.machine()}, {cores()} cores",
            versions=versions(),
        )

    def _confirmed_on(self, data: Data) -> str:
        """On which images the last block of a search is judged; see `coordinator.images_of`."""
        if (self.settings.design or self.space.design) != "search" or not self.settings.confirm:
            return ""
        return "new splits" if self.space.recipe.resplit or not data.own_val else "other half"

    def _make_schedule(self, table: CostTable, store: StudyStore) -> SearchSchedule | AblationSchedule:
        if (self.settings.design or self.space.design) == "search":
            if self.settings.seeds == AUTO_SEEDS:
                raise UsageError(
                    "--seeds auto is for an ablation: add --design add, loo, swap, factorial or named"
                )
            return SearchSchedule(self.space, table, store, self.settings, self.limits)
        if self.settings.seeds == AUTO_SEEDS:
            return SequentialSchedule(self.space, table, store, self.settings, self.limits)
        return AblationSchedule(self.space, table, store, self.settings, self.limits)

    def _write_schedule_info(
        self, store: StudyStore, schedule: SearchSchedule | AblationSchedule, table: CostTable
    ) -> None:
        store.set_attrs(replace(store.info.run, trials_wanted=schedule.total))
        if isinstance(schedule, SearchSchedule):
            self._write_search_info(store, schedule, table)
        else:
            baseline = replace(store.info.space, baseline=schedule.baseline.key)
            over = replace(store.info.costs, over_limits=len(schedule.left_out))
            store.set_attrs(baseline, over, schedule.info())
            if schedule.left_out:
                limits = ", ".join(map(str, self.limits))
                names = ", ".join(schedule.left_out)
                self.observer.note(f"over {limits} and left out: {names}")
        done = [row for row in counted(store) if row.state != "running"]
        devices = pick_devices(self.settings.device, self.settings.engine)
        workers = worker_count(self.settings.workers, schedule.total, devices)
        loaded = (
            [] if self.weights is None else starting_weights.described(self.weights, self.space, table.image)
        )
        for line in (*self.host_notes, *loaded):
            self.observer.note(line)
        self.observer.began(store.info, schedule.total, workers, done)
        if isinstance(schedule, AblationSchedule) and not isinstance(schedule, SequentialSchedule):
            self.observer.note(outlook(schedule, store.snapshot()))

    def _write_search_info(self, store: StudyStore, schedule: SearchSchedule, table: CostTable) -> None:
        over = self.space.size() - schedule.feasible
        sampler = f"{schedule.sampler_name}: {schedule.sampler_reason}"
        store.set_attrs(
            replace(store.info.costs, over_limits=over),
            replace(
                store.info.search,
                sampler=sampler,
                pruner=self.settings.pruner,
                controls={schedule.control.key: positive(self.space)} if schedule.control else None,
            ),
        )
        if schedule.feasible < 1:
            raise UsageError(_none_within(self.limits, table))
        if schedule.total == 1:
            self.observer.note(
                "the one training is the baseline's: --trials 2 is the least that tries an arch"
            )
        if schedule.search_trials > schedule.feasible:
            rest = (
                "the rest are further seeds" if self.settings.confirm else f"will stop at {schedule.feasible}"
            )
            self.observer.note(f"only {schedule.feasible} distinct architectures; {rest}")


def unequal_classes(data: Data, recipe: Recipe) -> str:
    """What to know where the plain error would be that of the large classes; else an empty string."""
    sizes = data.counts["train"].values()
    if recipe.metric != "error" or recipe.class_weights != "none" or max(sizes) < UNEQUAL * min(sizes):
        return ""
    return (
        f"classes have {min(sizes):,} to {max(sizes):,} training images: the error is mostly that of the large ones. "
        "--metric balanced_accuracy or macro_f1 counts all alike, --class-weights balanced trains so"
    )


def _none_within(limits: Sequence[Limit], table: CostTable) -> str:
    """Which limit no arch keeps, with the range of its own cost."""
    for limit in limits:
        low, high = table.range(limit.cost)
        if not within(low, table.bound(limit)):
            bound = f" ({table.bound(limit):,.0f})" if limit.relative else ""
            return (
                f"no arch of the space keeps {limit}{bound}: its {limit.cost} are {low:,.0f} to {high:,.0f}"
            )
    return f"no arch of the space keeps {', '.join(map(str, limits))} together"


def _command(space: str, settings: Settings) -> str:
    """What makes the same study again: the line for a shell, or the call where there was none.

    A space that did not come with attnsearch stands beside the report, as `space.yaml`.
    """
    program = Path(sys.argv[0])
    if program.stem == "attnsearch" or program.parts[-2:] == ("attnsearch", "__main__.py"):
        return shlex.join(["attnsearch", *secrets.without_servers(sys.argv[1:])])
    question = space if space in shipped_spaces() else "space.yaml"
    unlike = [f for f in fields(Settings) if getattr(settings, f.name) != f.default and f.name != "resume"]
    if settings.storage and secrets.is_server(settings.storage):
        unlike = [f for f in unlike if f.name != "storage"]  # it is for ATTNSEARCH_STORAGE to say
    arguments = [f"{f.name}={_literal(getattr(settings, f.name))}" for f in unlike]
    return f"attnsearch.run({', '.join([repr(question), *arguments])})"


def _literal(value: Any) -> str:
    return repr(str(value) if isinstance(value, Path) else value)
