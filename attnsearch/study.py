"""The coordinator: one process asks what to train, gives it to workers, and writes what came of it.

    agenda ─► begin (storage) ─► submit (engine) ─► epochs, rungs ─► finish (storage) ─► agenda ...

`run` is what the command line calls; what it gives back is a `studies.Study`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from attnsearch import database, registry, storage
from attnsearch.ablation import DesignAgenda
from attnsearch.agenda import Agenda, Cell, SearchAgenda
from attnsearch.costing import CostTable
from attnsearch.data import Data, check_redealable, open_data
from attnsearch.engines import DataSource, Engine, Job, Outcome, Progress
from attnsearch.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    NoResultError,
    UsageError,
)
from attnsearch.limits import Limit, parse_limits
from attnsearch.names import check_study_name
from attnsearch.planning import outlook
from attnsearch.rungs import Rungs
from attnsearch.settings import Settings
from attnsearch.space import Space, load_space, shipped_spaces
from attnsearch.studies import Study
from attnsearch.trial import Recipe, StudyRecord, TrialResult

FAILURES_LOOKED_AT = 10  # if more than half of the first ten trainings fail, the fault is not the archs'


class Observer:
    """Told what happens during a run; the base class keeps quiet."""

    def began(self, facts: dict[str, Any], total: int, workers: int) -> None: ...
    def trial_began(self, row: TrialResult) -> None: ...
    def epoch(self, row: TrialResult, progress: Progress) -> None: ...
    def trial_ended(self, row: TrialResult) -> None: ...
    def note(self, message: str) -> None: ...
    def tick(self) -> None: ...
    def ended(self, reason: str) -> None: ...
    def close(self) -> None: ...


def run(space: Space | str, *, observer: Observer | None = None, **settings: Any) -> Study:
    """Search a space or work off a design, and write tables and pictures to `out/<study>/`.

    Args:
        space: a `Space`, a shipped space's name, or a YAML file.
        observer: told of progress.
        settings: fields of `Settings`.

    Raises:
        AttnsearchError: a mistake in the space, the data or the environment, by class.
        Interrupted: a signal came; everything finished is kept.
    """
    wanted = Settings(**settings).check()
    question = load_space(space) if isinstance(space, str) else space
    return Run(question, wanted, observer or Observer()).go()


class Run:
    """One call of `run`, from opening the data to writing the report."""

    def __init__(self, space: Space, settings: Settings, observer: Observer) -> None:
        self.settings, self.observer = settings, observer
        self.space = space.on(settings.data)
        self.space = replace(self.space, recipe=replace(self.space.recipe, **settings.recipe()))
        self.name = check_study_name(settings.study or self.space.name)
        self.limits: tuple[Limit, ...] = (*self.space.limits, *parse_limits(settings.budget))

    def go(self) -> Study:
        with stopping() as stop:
            settings, url = self.settings, self.settings.url()
            devices = pick_devices(settings.device)
            data = open_data(settings.data, **settings.data_options())
            if self.space.recipe.resplit:
                check_redealable(data)
            for warning in data.warnings:
                self.observer.note(warning)
            if data.ignored:
                self.observer.note(data.summary())
            opened = database.open_storage(url, create=True)
            with database.owned(url, self.name), database.faults(url):
                with database.faults(url, reading=True):
                    self._check_resumable(opened, data)
                table = CostTable(self.space, data.image, len(data.classes))
                book = self._book(opened, data, table, devices)
                if self.settings.extend and not book.results:
                    self._extend(opened, book, data)
                agenda = self._agenda(table, book)
                self._write_facts(book, agenda, table)
                ended = self._drive(agenda, book, table, devices, stop)
                return self._end(book, ended)

    def _extend(self, opened: Any, book: storage.Book, data: Data) -> None:
        from attnsearch.extending import replay

        old = storage.read_record(opened, str(self.settings.extend))
        settings, recipe = self.settings, self.space.recipe
        rungs = Rungs(settings.pruner, cost=settings.costs[0], epochs=recipe.epochs, seed=settings.seed)
        taken = replay(old, book, self.space, data, rungs)
        self.observer.note(f"{taken} finished trials taken over from study '{old.name}'")

    def _drive(
        self, agenda: Agenda, book: storage.Book, table: CostTable, devices: list[str], stop: Stop
    ) -> str:
        settings = self._without_an_untrusted_proxy(book)
        return train_all(agenda, book, table, self.space.recipe, settings, self.observer, devices, stop)

    def _without_an_untrusted_proxy(self, book: storage.Book) -> Settings:
        """The settings; the pruner is off where an audit found that the short training cannot rank."""
        if self.settings.pruner == "none" or (book.fact("audit") or {}).get("verdict") != "do not trust":
            return self.settings
        self.observer.note("the audit of the proxy says: do not trust; no training is stopped early")
        book.facts(pruner="none, since the audit does not trust the proxy")
        return replace(self.settings, pruner="none")

    def _end(self, book: storage.Book, ended: str) -> Study:
        record = book.record()
        fault = write_report(record, self.settings.out)
        self.observer.ended(ended)
        if not any(row.state == "complete" for row in record.trials):
            raise NoResultError(f"study '{self.name}' ended without one finished training: {_reasons(book)}")
        if fault:
            raise EnvironmentFault(
                f"{fault}; the study itself is whole, `attnsearch report {self.name}` writes them again"
            )
        return Study(self.name, record)

    def _check_resumable(self, opened: Any, data: Data) -> None:
        if self.name not in storage.study_names(opened):
            if self.settings.resume and self.settings.study:
                self.observer.note(f"no study '{self.name}' to resume; beginning it")
            return
        record = storage.read_record(opened, self.name)
        done = sum(row.state != "running" and not row.lost for row in record.trials)
        if not self.settings.resume and done:
            raise UsageError(f"study '{self.name}' exists ({done} trials). Use --resume or another --study")
        if (had := record.facts.get("fingerprint")) and had != self.space.fingerprint():
            diff = _site_diff(
                record.facts.get("sites", {}), {s: list(o) for s, o in self.space.sites.items()}
            )
            raise UsageError(
                f"the space has changed since study '{self.name}' began: {diff}. Use another --study"
            )
        self._check_same_settings(record.facts)
        recipe = record.facts.get("recipe")
        if recipe and _plain(recipe) != _plain(self.space.recipe.to_dict()):
            changed = [
                k for k, v in self.space.recipe.to_dict().items() if _plain(recipe.get(k)) != _plain(v)
            ]
            raise UsageError(
                f"the recipe has changed since study '{self.name}' began ({', '.join(changed)}). Use another --study"
            )
        before = (record.facts.get("data") or {}).get("fingerprint")
        if before and before != data.fingerprint and not self.settings.allow_changed_data:
            raise DataError(
                f"the images of '{data.name}' have changed since study '{self.name}' began; "
                "--allow-changed-data goes on all the same"
            )
        if (was := record.facts.get("versions")) and was != versions():
            moved = ", ".join(f"{k} {was.get(k)} -> {v}" for k, v in versions().items() if was.get(k) != v)
            self.observer.note(f"versions have changed since this study began: {moved}")

    def _check_same_settings(self, facts: Mapping[str, Any]) -> None:
        """What a study cannot change halfway: its seed, its costs, and what is asked of it."""
        now = {
            "seed": self.settings.seed,
            "cost": ",".join(self.settings.costs),
            "design": self.settings.design or self.space.design,
        }
        then = {
            "seed": facts.get("seed", now["seed"]),
            "cost": ",".join(facts.get("costs_chosen", self.settings.costs)),
            "design": (facts.get("design") or {"kind": "search"})["kind"]
            if "ended" in facts
            else now["design"],
        }
        for name, value in now.items():
            if then[name] != value:
                raise UsageError(
                    f"study '{self.name}' began with --{name} {then[name]}, not {value}. Use another --study"
                )

    def _book(self, opened: Any, data: Data, table: CostTable, devices: list[str]) -> storage.Book:
        from attnsearch.units import COSTS

        sites = {site: tuple(options) for site, options in self.space.sites.items()}
        names = [f"{cost} ({COSTS[cost].unit})" for cost in self.settings.costs]
        book = storage.Book(opened, self.name, sites, ["validation error (%)", *names], self.settings.costs)
        book.facts(
            question=self.space.question,
            space=self.space.name,
            space_text=self.space.text,
            fingerprint=self.space.fingerprint(),
            sites={site: list(options) for site, options in sites.items()},
            size=self.space.size(),
            host=str(self.space.host.name),
            cost=self.settings.costs[0],
            costs_chosen=list(self.settings.costs),
            units={name: {"unit": info.unit, "better": info.better} for name, info in COSTS.items()},
            baseline=self.space.baseline().key,
            recipe=_plain(self.space.recipe.to_dict()),
            data=data.facts(),
            data_options=self.settings.data_options(),
            seed=self.settings.seed,
            device=devices[0],
            versions=versions(),
            command=_command(self.space.name, self.settings),
            machine=f"{platform.machine()}, {os.cpu_count()} cores",
            limits=[f"{limit} ({table.bound(limit):,.0f})" for limit in self.limits],
        )
        if book.fact("started") is None:
            book.facts(started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        return book

    def _agenda(self, table: CostTable, book: storage.Book) -> SearchAgenda | DesignAgenda:
        if (self.settings.design or self.space.design) == "search":
            return SearchAgenda(self.space, table, book, self.settings, self.limits)
        return DesignAgenda(self.space, table, book, self.settings)

    def _write_facts(self, book: storage.Book, agenda: SearchAgenda | DesignAgenda, table: CostTable) -> None:
        book.facts(trials_wanted=agenda.total, cost_range=list(table.range(self.settings.costs[0])))
        if isinstance(agenda, SearchAgenda):
            self._write_search_facts(book, agenda, table)
        else:
            book.facts(**agenda.facts(), margin=self.settings.margin)
        self.observer.began(dict(book.study.user_attrs), agenda.total, worker_count(self.settings))
        if isinstance(agenda, DesignAgenda):
            self.observer.note(outlook(agenda, book.record()))

    def _write_search_facts(self, book: storage.Book, agenda: SearchAgenda, table: CostTable) -> None:
        over = self.space.size() - agenda.feasible
        low, high = table.range(self.settings.costs[0])
        book.facts(
            over_budget=over,
            sampler=f"{agenda.sampler_name}: {agenda.sampler_reason}",
            pruner=self.settings.pruner,
        )
        if agenda.feasible < 1:
            raise UsageError(
                f"no arch of the space keeps {self.settings.budget or 'the limits'}: it costs {low:,.0f} to {high:,.0f}"
            )
        if agenda.total == 1:
            self.observer.note(
                "the one training is the baseline's: --trials 2 is the least that tries an arch"
            )
        if agenda.search_trials > agenda.feasible:
            rest = (
                "the rest are further seeds" if self.settings.confirm else f"will stop at {agenda.feasible}"
            )
            self.observer.note(f"only {agenda.feasible} distinct architectures; {rest}")


def train_all(
    agenda: Agenda,
    book: storage.Book,
    table: CostTable,
    recipe: Recipe,
    settings: Settings,
    observer: Observer,
    devices: list[str],
    stop: Stop,
) -> str:
    """Work off an agenda on an engine of its own; however that ends, no worker and no running trial is left behind."""
    from attnsearch.engines.local import LocalPool

    url = settings.url()
    book.close_dead(settings.retries, released=False)
    source = DataSource(settings.data, settings.data_options())
    workers = worker_count(settings)
    engine: Engine = LocalPool(source, workers=workers, devices=devices, plugins=registry.plugins())
    try:
        coordinator = Coordinator(recipe, settings, agenda, book, table, engine, observer)
        coordinator.check_storage = database.watcher(url)
        ended = coordinator.drive(stop)
        if not agenda.aside:
            book.facts(ended=ended, false_stops=coordinator.rungs.false_stops(book.results.values()))
        return ended
    except BaseException as error:
        engine.close()
        with (
            contextlib.suppress(EnvironmentFault),
            database.faults(url),
        ):  # the first error is the one to tell
            book.close_dead(settings.retries, released=True)
            if not agenda.aside:
                book.facts(ended=str(error) or type(error).__name__)
            write_report(book.record(), settings.out, pictures=False)
        raise
    finally:
        engine.close()


def worker_count(settings: Settings) -> int:
    """The workers asked for, else one for each core."""
    return settings.workers or len(os.sched_getaffinity(0))


def write_report(record: StudyRecord, out: Path, *, pictures: bool = True) -> str:
    """Write tables and pictures, as far as there is anything to tell; what hindered it, in words."""
    from attnsearch import reports

    try:
        reports.write(record, out / record.name, pictures=pictures)
    except NoResultError:
        pass
    except (EnvironmentFault, OSError) as error:
        return f"results could not be written ({error})"
    return ""


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


class Coordinator:
    """Keeps every worker busy with the agenda's cells and writes what they say."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Settings,
        agenda: Agenda,
        book: storage.Book,
        table: CostTable,
        engine: Engine,
        observer: Observer,
    ) -> None:
        self.recipe, self.settings, self.agenda, self.book = recipe, settings, agenda, book
        self.table, self.engine, self.observer = table, engine, observer
        self.rungs = Rungs(settings.pruner, cost=settings.costs[0], epochs=recipe.epochs, seed=settings.seed)
        self.stopped: dict[int, str] = {}  # number -> why
        self.running: dict[int, float] = {}  # number -> when it began
        self.again: list[Cell] = [_again(row) for row in book.unfinished()]
        self.check_storage: Callable[[], None] = lambda: None

    def drive(self, stop: Stop) -> str:
        """Until the agenda ends, the time is over or a signal comes; the answer says which, in words."""
        deadline = time.monotonic() + (self.settings.timeout or float("inf"))
        stop.patient = True
        while True:
            late = time.monotonic() > deadline
            if not late:
                self._fill(stop)
            if not self.running and not stop.signal:
                return (
                    f"the time of {self.settings.timeout:g} s is over"
                    if late
                    else self.agenda.ended or "nothing left to do"
                )
            for message in self.engine.wait(0.5):
                self._hear(message)
            self._cancel_hanging()
            self.observer.tick()
            if stop.signal:
                self._release(stop.signal)

    def _fill(self, stop: Stop) -> None:
        while len(self.running) < self.engine.slots and not stop.signal:
            cell = self.again.pop(0) if self.again else self.agenda.next()
            if cell is None:
                return
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
        self.running[row.number] = time.monotonic()
        self.observer.trial_began(row)
        rungs = self.rungs.epochs if row.role == "search" else ()
        self.engine.submit(Job(row.number, row.spec, row.seed, recipe, rungs))

    def _hear(self, message: Progress | Outcome) -> None:
        if message.number not in self.running:
            return  # a trial that was given up: its late message counts no more
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
        began = self.running.pop(outcome.number)
        attempts = self.book.results[outcome.number].attempt + 1
        if outcome.lost and attempts > self.settings.retries:  # it will not be run again: no longer lost
            outcome = replace(outcome, lost=False, reason=f"{outcome.reason}, {attempts} times")
        seconds = outcome.seconds or time.monotonic() - began
        reason = self.stopped.pop(outcome.number, outcome.reason)
        row = self.book.finish(outcome.number, replace(outcome, seconds=seconds, reason=reason))
        if row.lost:
            self.again.append(_again(row))
            self.observer.note(f"trial {row.number} lost ({row.reason}); it will be run again")
        self.observer.trial_ended(row)
        ended = [
            r
            for r in self.book.results.values()
            if r.state in ("complete", "failed", "stopped") and not r.lost
        ]
        failed = [r for r in ended if r.state == "failed"]
        if len(ended) == FAILURES_LOOKED_AT and len(failed) > FAILURES_LOOKED_AT / 2:
            raise NoResultError(
                f"{len(failed)} of the first {len(ended)} trials failed: {_reasons(self.book)}"
            )

    def _cancel_hanging(self) -> None:
        if self.settings.trial_timeout is None:
            return
        for number, began in self.running.items():
            if time.monotonic() - began > self.settings.trial_timeout:
                self.engine.cancel(number, f"timeout: longer than {self.settings.trial_timeout:g} s")

    def _release(self, number: int) -> None:
        done = sum(row.state in ("complete", "stopped") for row in self.book.results.values())
        name = signal.Signals(number).name
        how = "the same command goes on" if self.agenda.aside else "add --resume to go on"
        raise Interrupted(f"{name}: stopped after {done} finished trials; {how}", number)


def pick_devices(wanted: str) -> list[str]:
    """`auto`, `cpu`, `cuda` or a list like `cuda:0,cuda:1` as torch device names; raises `EnvironmentFault`."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return ["cpu"]
    if not all(part.split(":")[0] == "cuda" for part in wanted.split(",")):
        raise UsageError(f"Unknown device '{wanted}': use auto, cpu, cuda or cuda:0,cuda:1")
    if not torch.cuda.is_available():
        raise EnvironmentFault(
            f"CUDA not available (torch {torch.__version__}); use --device cpu or install a CUDA build of torch"
        )
    count = torch.cuda.device_count()
    found = [f"cuda:{i}" for i in range(count)] if wanted == "cuda" else wanted.split(",")
    for device in found:
        if not device.partition(":")[2].isdigit() or int(device.partition(":")[2]) >= count:
            raise EnvironmentFault(
                f"no device '{device}' here; there are {count}: cuda:0 to cuda:{count - 1}"
            )
    return found


def versions() -> dict[str, str]:
    """What numbers may depend on."""
    packages = ("attnsearch", "torch", "optuna", "numpy", "numba", "scipy")
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _again(row: TrialResult) -> Cell:
    from attnsearch.arch import Arch

    return Cell(
        Arch.from_dict(row.spec),
        row.seed,
        row.role,
        row.protected,
        dict(row.sites) or None,
        attempt=row.attempt + (not row.released),
        epochs=row.epochs,
    )


def _reasons(book: storage.Book) -> str:
    counts: dict[str, int] = {}
    for row in book.results.values():
        if row.state == "failed":
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return "; ".join(f"{reason} ({n} times)" for reason, n in counts.items()) or "nothing was trained"


def _site_diff(old: dict[str, list[str]], new: dict[str, list[str]]) -> str:
    parts = []
    for site in [*old, *(s for s in new if s not in old)]:
        gone = [o for o in old.get(site, []) if o not in new.get(site, [])]
        come = [o for o in new.get(site, []) if o not in old.get(site, [])]
        if gone or come:
            parts.append(f"{site}: {' '.join([*(f'-{o}' for o in gone[:4]), *(f'+{o}' for o in come[:4])])}")
    return "; ".join(parts) or "host or order of options"


def _command(space: str, settings: Settings) -> str:
    """What makes the same study again: the line for a shell, or the call where there was none.

    A space that did not come with attnsearch is kept beside the report, as `space.yaml`.
    """
    program = Path(sys.argv[0])
    if program.stem == "attnsearch" or program.parts[-2:] == ("attnsearch", "__main__.py"):
        return shlex.join(["attnsearch", *sys.argv[1:]])
    question = space if space in shipped_spaces() else "space.yaml"
    unlike = [f for f in fields(Settings) if getattr(settings, f.name) != f.default and f.name != "resume"]
    given = [f"{f.name}={_literal(getattr(settings, f.name))}" for f in unlike]
    return f"attnsearch.run({', '.join([repr(question), *given])})"


def _literal(value: Any) -> str:
    return repr(str(value) if isinstance(value, Path) else value)


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
