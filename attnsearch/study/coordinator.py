"""The coordinator: one process gives a schedule's tasks to workers and writes what came of each.

schedule ─► start (store) ─► submit (engine) ─► epochs, rungs ─► finish (store) ─► schedule ...
"""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import replace
from pathlib import Path

from attnsearch.blocks import registry
from attnsearch.core.errors import EnvironmentFault, Interrupted, NoResultError
from attnsearch.core.machine import versions
from attnsearch.core.messages import Began, Job, Message, Notice, Outcome, ValHalf
from attnsearch.core.requirements import Requirements, compared
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Dtype, Recipe, Role, TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample.rungs import Rungs
from attnsearch.space.arch import Arch
from attnsearch.store import database
from attnsearch.store.study_store import StudyStore
from attnsearch.study.dry_run import MemoryWatch, estimate
from attnsearch.study.observer import Observer
from attnsearch.study.signals import Stop
from attnsearch.study.study import weights_of
from attnsearch.study.tasks import Schedule, Task, counted
from attnsearch.train.engine import Engine, start_engine

FAILURES_LOOKED_AT = 10  # if more than half of the first ten trainings fail, the fault is not the archs'


def train_all(
    schedule: Schedule,
    store: StudyStore,
    table: CostTable,
    recipe: Recipe,
    settings: Settings,
    observer: Observer,
    devices: list[str],
    stop: Stop,
) -> str:
    """Work off a schedule on an engine of its own; however that ends, no worker and no running trial is left behind."""
    url = settings.url()
    store.fail_stale_trials(settings.retries, released=False)
    engine = start_engine(settings, schedule.total, devices=devices, plugins=registry.plugins())
    try:
        coordinator = Coordinator(recipe, settings, schedule, store, table, engine, observer)
        ended = coordinator.run(stop)
        if not schedule.is_audit:
            stops = coordinator.rungs.false_stops(store.results.values())
            store.set_attrs(
                replace(store.info.run, ended=ended), replace(store.info.search, false_stops=stops)
            )
        return ended
    except BaseException as error:
        engine.close()
        # The first error is the one to report.
        with contextlib.suppress(EnvironmentFault), database.faults(url):
            store.fail_stale_trials(settings.retries, released=True)
            if not schedule.is_audit:
                store.set_attrs(replace(store.info.run, ended=str(error) or type(error).__name__))
            write_report(store.snapshot(), settings.out, pictures=False)
        raise
    finally:
        engine.close()


def estimate_all(
    schedule: Schedule,
    store: StudyStore,
    table: CostTable,
    recipe: Recipe,
    settings: Settings,
    observer: Observer,
    devices: list[str],
    stop: Stop,
) -> Requirements:
    """What `train_all` would take, by steps timed on an engine of its own; nothing is trained.

    Raises:
        NoResultError: nothing could be timed, or there is nothing to train.
    """
    engine = start_engine(settings, schedule.total, devices=devices, plugins=registry.plugins())
    try:
        stop.graceful = True
        needed, reason = Coordinator(recipe, settings, schedule, store, table, engine, observer).estimate(
            stop
        )
    finally:
        engine.close()
    if stop.signal:
        raise Interrupted("stopped before the steps were timed", stop.signal)
    if needed is None:
        raise NoResultError(f"what the run takes cannot be estimated: {reason}")
    return needed


def write_report(record: StudyRecord, out: Path, *, pictures: bool = True) -> str:
    """Write tables and pictures, as far as there is anything to report; the problem in words, if there was one."""
    from attnsearch import report as reports

    try:
        reports.write(reports.build(record), out / record.name, pictures=pictures)
    except NoResultError:
        pass
    except (EnvironmentFault, OSError) as error:
        return f"results could not be written ({error})"
    return ""


class Coordinator:
    """Keeps every worker busy with the schedule's tasks and writes what they say."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Settings,
        schedule: Schedule,
        store: StudyStore,
        table: CostTable,
        engine: Engine,
        observer: Observer,
    ) -> None:
        self.recipe, self.settings, self.schedule, self.store = recipe, settings, schedule, store
        self.table, self.engine, self.observer = table, engine, observer
        self.rungs = Rungs(settings.pruner, costs=settings.costs, epochs=recipe.epochs, seed=settings.seed)
        self.weights = weights_of(store.info.weights, settings.weights)
        self.stopped: dict[int, str] = {}  # number -> why
        self.running: dict[int, float | None] = {}  # number -> when a worker took it up, None before
        self.nothing_now = (
            False  # the schedule had nothing to give; only a training that ends can change that
        )
        self.first_states: list[str] = []  # of the first trainings that ended in this run
        self.retries: list[Task] = [_retry_of(row) for row in store.to_retry()]
        self.began = time.monotonic()
        self.memory: MemoryWatch | None = None
        self.check_storage = database.watcher(settings.url())

    def run(self, stop: Stop) -> str:
        """Until the schedule ends, the time is over or a signal comes; the answer says which, in words.

        Messages of workers are handled before a job is sent, one job a turn: a worker that waits at a rung must not
        wait for the proposals of all free places.
        """
        deadline = time.monotonic() + (self.settings.timeout or float("inf"))
        stop.graceful = True
        needed = self._announce(stop) if self.observer.wants_estimate else None
        done = len(counted(self.store))
        ended = self._train(stop, deadline)
        if needed is not None and len(counted(self.store)) - done == needed.trials:
            self._compare(needed, time.monotonic() - self.began)
        return ended

    def estimate(self, stop: Stop) -> tuple[Requirements | None, str]:
        """What the run will take, by a few timed steps; None, and why, where that cannot be known."""
        left = self.schedule.total - len(counted(self.store))
        expected = self.schedule.expected()
        if left < 1 or not expected:
            return None, "no training is left to do"
        recipe, val_half = images_of("search", self.store.info.search.confirmed_on, self.recipe)
        sample = Job(-1, {}, 0, recipe, val_half=val_half, weights=self.weights)
        needed, reason = estimate(self.engine, expected, left, sample, stop, self.began)
        return needed and replace(needed, at_most=self.schedule.may_end_early), reason

    def _announce(self, stop: Stop) -> Requirements | None:
        """Tell the observer what the run will take, and look from now on at the memory that it takes."""
        needed, _ = self.estimate(stop)
        if needed is not None:
            self.observer.requires(needed)
            self.memory = MemoryWatch() if self.settings.engine == "local" else None
        return needed

    def _compare(self, needed: Requirements, seconds: float) -> None:
        """Say and keep how near the estimate was."""
        memory = self.memory.peak if self.memory else 0
        self.observer.note(compared(needed, seconds, memory))
        took = {"seconds": round(seconds, 1), "memory": memory}
        expected = {"seconds": round(needed.seconds, 1), "memory": needed.memory}
        self.store.set_attrs(replace(self.store.info.run, estimate={"expected": expected, "took": took}))

    def _train(self, stop: Stop, deadline: float) -> str:
        """The loop of `run`."""
        while True:
            if self.memory:
                self.memory.look()
            late = time.monotonic() > deadline
            free = not (late or self.nothing_now) and len(self.running) < self.engine.slots
            for message in self.engine.wait(0.0 if free else 0.5):
                self._handle(message)
            self.store.flush()
            self._cancel_hanging()
            if stop.signal:
                self._interrupt(stop.signal)
            if free and len(self.running) < self.engine.slots:
                self._dispatch_next()
            if not self.running and (late or self.nothing_now):
                return (
                    f"the time of {self.settings.timeout:g} s is over"
                    if late
                    else self.schedule.ended or "nothing left to do"
                )

    def _dispatch_next(self) -> None:
        task = self.retries.pop(0) if self.retries else self.schedule.next()
        if task is None:
            self.nothing_now = True
        else:
            self._dispatch(task)

    def _dispatch(self, task: Task) -> None:
        arch = task.arch
        recipe, val_half = images_of(task.role, self.store.info.search.confirmed_on, self.recipe)
        recipe = replace(recipe, epochs=task.epochs or recipe.epochs, precision=self._precision())
        row = TrialResult(
            key=arch.key,
            arch=str(arch),
            seed=task.seed,
            epochs=recipe.epochs,
            state="running",
            spec=arch.to_dict(),
            costs=self.table.of(arch, task.choice),
            role=task.role,
            protected=task.protected,
            attempt=task.attempt,
            versions=versions(),
            sites=dict(task.choice or {}),
        )
        if task.number is None:
            row = self.store.start(row, task.choice)
        else:
            row = self.store.write(replace(row, number=task.number), task.choice or {})
        self.running[row.number] = None
        self.observer.trial_began(row)
        rungs = self.rungs.epochs if row.role == "search" else ()
        self.engine.submit(Job(row.number, row.spec, row.seed, recipe, rungs, val_half, self.weights))

    def _precision(self) -> Dtype:
        """Of all trainings of the study, wherever they run: the recipe's, or what `auto` is for the first of them."""
        if self.recipe.precision != "auto":
            return self.recipe.precision
        decided = self.store.info.run.precision or self.engine.dtype
        self.store.set_attrs(replace(self.store.info.run, precision=decided))
        return decided

    def _handle(self, message: Message) -> None:
        if isinstance(message, Notice):
            self.observer.note(message.sentence)
            return
        if message.number not in self.running:
            return  # a trial that was cancelled: its late message no longer counts
        if isinstance(message, Began):
            self.running[message.number] = time.monotonic()
            return
        if isinstance(message, Outcome):
            self._finish(message)
            return
        rung = self.rungs.of(message.epoch.epoch)
        row = self.store.add_epoch(message.number, message.epoch, rung)
        self.observer.epoch(row, message)
        if message.waits and rung is not None:
            decision = self.rungs.judge(row, rung, self.store.results.values())
            if decision.audited:
                self.store.results[row.number] = replace(row, audited=True)
                self.store.set_trial_attrs(row.number, audited=decision.reason)
            if decision.stop:
                self.stopped[row.number] = decision.reason
            self.engine.answer(row.number, not decision.stop)

    def _finish(self, outcome: Outcome) -> None:
        self.check_storage()
        self.nothing_now = False
        began = self.running.pop(outcome.number)
        attempts = self.store.results[outcome.number].attempt + 1
        if outcome.lost and not outcome.blameless and attempts > self.settings.retries:
            # It will not be run again: no longer lost.
            outcome = replace(outcome, lost=False, reason=f"{outcome.reason}, {attempts} times")
        seconds = outcome.seconds or (time.monotonic() - began if began is not None else 0.0)
        reason = self.stopped.pop(outcome.number, outcome.reason)
        row = self.store.finish(outcome.number, replace(outcome, seconds=seconds, reason=reason))
        if row.lost:
            self.retries.append(_retry_of(row))
            self.observer.note(f"trial {row.number} lost ({row.reason}); it will be run again")
        if row.parts > 1 and row.state != "failed":
            size = -(-self.recipe.batch_size // row.parts)
            self.observer.note(
                f"trial {row.number} ran out of memory: its batches of {self.recipe.batch_size} images went through "
                f"the network in {row.parts} parts, gradients added up; batch norm saw {size} at a time. "
                f"--batch-size {size} makes all trials alike"
            )
        self.observer.trial_ended(row)
        if not row.lost:
            self._check_failures(row)

    def _check_failures(self, row: TrialResult) -> None:
        """End a run most of whose first trainings fail."""
        if len(self.first_states) == FAILURES_LOOKED_AT:
            return
        self.first_states.append(row.state)
        failed = self.first_states.count("failed")
        if len(self.first_states) == FAILURES_LOOKED_AT and failed > FAILURES_LOOKED_AT / 2:
            raise NoResultError(
                f"{failed} of the first {FAILURES_LOOKED_AT} trials failed: {reasons(self.store)}"
            )

    def _cancel_hanging(self) -> None:
        if self.settings.trial_timeout is None:
            return
        for number, began in self.running.items():
            if began is not None and time.monotonic() - began > self.settings.trial_timeout:
                self.engine.cancel(number, f"timeout: longer than {self.settings.trial_timeout:g} s")

    def _interrupt(self, number: int) -> None:
        done = sum(row.state in ("complete", "stopped") for row in self.store.results.values())
        name = signal.Signals(number).name
        how = "the same command goes on" if self.schedule.is_audit else "add --resume to go on"
        raise Interrupted(f"{name}: stopped after {done} finished trials; {how}", number)


def images_of(role: Role, confirmed_on: str, recipe: Recipe) -> tuple[Recipe, ValHalf | None]:
    """The recipe, and the half of the validation images, that a trial of this role is judged by.

    The last block of a search is judged on images that had no say in the choice: on splits of its own, or on the half
    of the validation images that the search did not see.
    """
    if confirmed_on == "new splits":
        return (replace(recipe, resplit=True) if role == "report" else recipe), None
    if confirmed_on == "other half":
        return recipe, "second" if role == "report" else "first"
    return recipe, None


def _retry_of(row: TrialResult) -> Task:
    return Task(
        Arch.from_dict(row.spec),
        row.seed,
        row.role,
        row.protected,
        dict(row.sites) or None,
        attempt=row.attempt + (not row.released),
        epochs=row.epochs,
    )


def reasons(store: StudyStore) -> str:
    """Why trainings failed, each with how many did."""
    counts: dict[str, int] = {}
    for row in store.results.values():
        if row.state == "failed":
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return "; ".join(f"{reason} ({n} times)" for reason, n in counts.items()) or "nothing was trained"
