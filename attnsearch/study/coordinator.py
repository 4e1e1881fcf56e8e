"""The coordinator: one process gives an agenda's cells to workers and writes what came of each.

agenda ─► begin (storage) ─► submit (engine) ─► epochs, rungs ─► finish (storage) ─► agenda ...
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnsearch.blocks import registry
from attnsearch.core.errors import EnvironmentFault, Interrupted, NoResultError
from attnsearch.core.jobs import Began, DataSource, Job, Message, Outcome, Progress
from attnsearch.core.machine import versions, worker_count
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Recipe, StudyRecord, TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample.rungs import Rungs
from attnsearch.space.arch import Arch
from attnsearch.store import database
from attnsearch.store.study_store import Book
from attnsearch.study.schedule import Agenda, Cell
from attnsearch.train.engine import Engine

FAILURES_LOOKED_AT = 10  # if more than half of the first ten trainings fail, the fault is not the archs'


class Observer:
    """Told what happens during a run; the base class keeps quiet.

    began        the study's facts, trainings in all, workers; `done`: of these trainings, what earlier runs did
    trial_began  a row without results; `epoch` tells of each of its epochs, `trial_ended` what became of it
    note         one sentence that a user should see
    ended        why the run is over
    close        called however the run ended; whoever made the observer calls it
    """

    def began(
        self, facts: dict[str, Any], total: int, workers: int, done: Sequence[TrialResult] = ()
    ) -> None: ...
    def trial_began(self, row: TrialResult) -> None: ...
    def epoch(self, row: TrialResult, progress: Progress) -> None: ...
    def trial_ended(self, row: TrialResult) -> None: ...
    def note(self, message: str) -> None: ...
    def ended(self, reason: str) -> None: ...
    def close(self) -> None: ...


class Stop:
    """Which signal asked for the end, 0 while none did; while not `patient`, a signal raises at once."""

    signal = 0
    patient = False


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted`; once `patient` is set, the first is only noted."""
    stop = Stop()

    def handler(number: int, _: Any) -> None:
        if stop.signal or not stop.patient:
            raise Interrupted("stopped at once; add --resume to go on", number)
        stop.signal = number

    wanted = [
        s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN
    ]
    try:
        before = {number: signal.signal(number, handler) for number in wanted}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def train_all(
    agenda: Agenda,
    book: Book,
    table: CostTable,
    recipe: Recipe,
    settings: Settings,
    observer: Observer,
    devices: list[str],
    stop: Stop,
) -> str:
    """Work off an agenda on an engine of its own; however that ends, no worker and no running trial is left behind."""
    from attnsearch.train.pool import LocalPool

    url = settings.url()
    book.close_dead(settings.retries, released=False)
    source = DataSource(settings.data, settings.data_options())
    workers = worker_count(settings, agenda.total)
    engine: Engine = LocalPool(source, workers=workers, devices=devices, plugins=registry.plugins())
    try:
        coordinator = Coordinator(recipe, settings, agenda, book, table, engine, observer)
        ended = coordinator.drive(stop)
        if not agenda.aside:
            book.facts(ended=ended, false_stops=coordinator.rungs.false_stops(book.results.values()))
        return ended
    except BaseException as error:
        engine.close()
        # The first error is the one to tell.
        with contextlib.suppress(EnvironmentFault), database.faults(url):
            book.close_dead(settings.retries, released=True)
            if not agenda.aside:
                book.facts(ended=str(error) or type(error).__name__)
            write_report(book.record(), settings.out, pictures=False)
        raise
    finally:
        engine.close()


def write_report(record: StudyRecord, out: Path, *, pictures: bool = True) -> str:
    """Write tables and pictures, as far as there is anything to tell; what hindered it, in words."""
    from attnsearch import report as reports

    try:
        reports.write(reports.build(record), out / record.name, pictures=pictures)
    except NoResultError:
        pass
    except (EnvironmentFault, OSError) as error:
        return f"results could not be written ({error})"
    return ""


class Coordinator:
    """Keeps every worker busy with the agenda's cells and writes what they say."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Settings,
        agenda: Agenda,
        book: Book,
        table: CostTable,
        engine: Engine,
        observer: Observer,
    ) -> None:
        self.recipe, self.settings, self.agenda, self.book = recipe, settings, agenda, book
        self.table, self.engine, self.observer = table, engine, observer
        self.rungs = Rungs(settings.pruner, costs=settings.costs, epochs=recipe.epochs, seed=settings.seed)
        self.stopped: dict[int, str] = {}  # number -> why
        self.running: dict[int, float | None] = {}  # number -> when a worker took it up, None before
        self.nothing_now = False  # the agenda had nothing to give; only a training that ends can change that
        self.first_states: list[str] = []  # of the first trainings that ended in this run
        self.again: list[Cell] = [_again(row) for row in book.unfinished()]
        self.check_storage = database.watcher(settings.url())

    def drive(self, stop: Stop) -> str:
        """Until the agenda ends, the time is over or a signal comes; the answer says which, in words.

        Workers are heard before a job is given out, one job a turn: a worker that waits at a rung must not wait for
        the proposals of all free places.
        """
        deadline = time.monotonic() + (self.settings.timeout or float("inf"))
        stop.patient = True
        while True:
            late = time.monotonic() > deadline
            free = not (late or self.nothing_now) and len(self.running) < self.engine.slots
            for message in self.engine.wait(0.0 if free else 0.5):
                self._hear(message)
            self._cancel_hanging()
            if stop.signal:
                self._release(stop.signal)
            if free and len(self.running) < self.engine.slots:
                self._begin_next()
            if not self.running and (late or self.nothing_now):
                return (
                    f"the time of {self.settings.timeout:g} s is over"
                    if late
                    else self.agenda.ended or "nothing left to do"
                )

    def _begin_next(self) -> None:
        cell = self.again.pop(0) if self.again else self.agenda.next()
        if cell is None:
            self.nothing_now = True
        else:
            self._begin(cell)

    def _begin(self, cell: Cell) -> None:
        arch = cell.arch
        recipe = replace(self.recipe, epochs=cell.epochs or self.recipe.epochs)
        row = TrialResult(
            key=arch.key,
            arch=str(arch),
            seed=cell.seed,
            epochs=recipe.epochs,
            state="running",
            spec=arch.to_dict(),
            costs=self.table.of(arch, cell.choice),
            role=cell.role,
            protected=cell.protected,
            attempt=cell.attempt,
            versions=versions(),
            sites=dict(cell.choice or {}),
        )
        if cell.number is None:
            row = self.book.begin(row, cell.choice)
        else:
            row = self.book.describe(replace(row, number=cell.number), cell.choice or {})
        self.running[row.number] = None
        self.observer.trial_began(row)
        rungs = self.rungs.epochs if row.role == "search" else ()
        self.engine.submit(Job(row.number, row.spec, row.seed, recipe, rungs))

    def _hear(self, message: Message) -> None:
        if message.number not in self.running:
            return  # a trial that was given up: its late message counts no more
        if isinstance(message, Began):
            self.running[message.number] = time.monotonic()
            return
        if isinstance(message, Outcome):
            self._finish(message)
            return
        rung = self.rungs.of(message.epoch.epoch)
        row = self.book.epoch(message.number, message.epoch, rung)
        self.observer.epoch(row, message)
        if message.waits and rung is not None:
            decision = self.rungs.judge(row, rung, self.book.results.values())
            if decision.audited:
                self.book.results[row.number] = replace(row, audited=True)
                self.book.note(row.number, audited=decision.reason)
            if decision.stop:
                self.stopped[row.number] = decision.reason
            self.engine.answer(row.number, not decision.stop)

    def _finish(self, outcome: Outcome) -> None:
        self.check_storage()
        self.nothing_now = False
        began = self.running.pop(outcome.number)
        attempts = self.book.results[outcome.number].attempt + 1
        if outcome.lost and not outcome.blameless and attempts > self.settings.retries:
            # It will not be run again: no longer lost.
            outcome = replace(outcome, lost=False, reason=f"{outcome.reason}, {attempts} times")
        seconds = outcome.seconds or (time.monotonic() - began if began is not None else 0.0)
        reason = self.stopped.pop(outcome.number, outcome.reason)
        row = self.book.finish(outcome.number, replace(outcome, seconds=seconds, reason=reason))
        if row.lost:
            self.again.append(_again(row))
            self.observer.note(f"trial {row.number} lost ({row.reason}); it will be run again")
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
                f"{failed} of the first {FAILURES_LOOKED_AT} trials failed: {reasons(self.book)}"
            )

    def _cancel_hanging(self) -> None:
        if self.settings.trial_timeout is None:
            return
        for number, began in self.running.items():
            if began is not None and time.monotonic() - began > self.settings.trial_timeout:
                self.engine.cancel(number, f"timeout: longer than {self.settings.trial_timeout:g} s")

    def _release(self, number: int) -> None:
        done = sum(row.state in ("complete", "stopped") for row in self.book.results.values())
        name = signal.Signals(number).name
        how = "the same command goes on" if self.agenda.aside else "add --resume to go on"
        raise Interrupted(f"{name}: stopped after {done} finished trials; {how}", number)


def _again(row: TrialResult) -> Cell:
    return Cell(
        Arch.from_dict(row.spec),
        row.seed,
        row.role,
        row.protected,
        dict(row.sites) or None,
        attempt=row.attempt + (not row.released),
        epochs=row.epochs,
    )


def reasons(book: Book) -> str:
    """Why trainings failed, each with how many did."""
    counts: dict[str, int] = {}
    for row in book.results.values():
        if row.state == "failed":
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return "; ".join(f"{reason} ({n} times)" for reason, n in counts.items()) or "nothing was trained"
