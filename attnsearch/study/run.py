"""Run: a space becomes a study, begun or gone on with, trained by the coordinator and reported on.

`run` is what the command line calls; what it gives back is a `studies.Study`.
"""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from attnsearch.core.checks import check_study_name
from attnsearch.core.costs import COSTS
from attnsearch.core.errors import DataError, EnvironmentFault, NoResultError, UsageError
from attnsearch.core.limits import Limit, parse_limits
from attnsearch.core.machine import cores, pick_devices, versions, worker_count
from attnsearch.core.settings import Settings
from attnsearch.cost.cost_table import CostTable
from attnsearch.data import Data, check_can_resplit, open_data
from attnsearch.sample.rungs import Rungs
from attnsearch.space.space import Space, load_space, shipped_spaces
from attnsearch.store import database
from attnsearch.store.study_store import Book, read_record, study_names
from attnsearch.study.ablation import DesignAgenda
from attnsearch.study.coordinator import Observer, reasons, stopping, train_all, write_report
from attnsearch.study.extend import replay
from attnsearch.study.planning import outlook
from attnsearch.study.schedule import SearchAgenda, counted
from attnsearch.study.study import Study


def run(space: Space | str | Path, *, observer: Observer | None = None, **settings: Any) -> Study:
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
    question = space if isinstance(space, Space) else load_space(space)
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
                check_can_resplit(data)
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
                settings = self._without_an_untrusted_proxy(book)
                recipe, observer = self.space.recipe, self.observer
                ended = train_all(agenda, book, table, recipe, settings, observer, devices, stop)
                return self._end(book, ended)

    def _extend(self, opened: Any, book: Book, data: Data) -> None:
        old = read_record(opened, str(self.settings.extend))
        settings, recipe = self.settings, self.space.recipe
        rungs = Rungs(settings.pruner, costs=settings.costs, epochs=recipe.epochs, seed=settings.seed)
        taken = replay(old, book, self.space, data, rungs)
        self.observer.note(f"{taken} finished trials taken over from study '{old.name}'")

    def _without_an_untrusted_proxy(self, book: Book) -> Settings:
        """The settings; the pruner is off where an audit found that the short training cannot rank."""
        if self.settings.pruner == "none" or (book.fact("audit") or {}).get("verdict") != "do not trust":
            return self.settings
        self.observer.note("the audit of the proxy says: do not trust; no training is stopped early")
        book.facts(pruner="none, since the audit does not trust the proxy")
        return replace(self.settings, pruner="none")

    def _end(self, book: Book, ended: str) -> Study:
        record = book.record()
        fault = write_report(record, self.settings.out)
        self.observer.ended(ended)
        if not any(row.state == "complete" for row in record.trials):
            raise NoResultError(f"study '{self.name}' ended without one finished training: {reasons(book)}")
        if fault:
            raise EnvironmentFault(
                f"{fault}; the study itself is whole, `attnsearch report {self.name}` writes them again"
            )
        return Study(self.name, record)

    def _check_resumable(self, opened: Any, data: Data) -> None:
        if self.name not in study_names(opened):
            if self.settings.resume and self.settings.study:
                self.observer.note(f"no study '{self.name}' to resume; beginning it")
            return
        record = read_record(opened, self.name)
        done = sum(row.state != "running" and not row.lost for row in record.trials)
        if not self.settings.resume and done:
            raise UsageError(f"study '{self.name}' exists ({done} trials). Use --resume or another --study")
        self._check_same_question(record.facts)
        self._check_same_settings(record.facts)
        self._check_same_data(record.facts, data)
        if (was := record.facts.get("versions")) and was != versions():
            moved = ", ".join(f"{k} {was.get(k)} -> {v}" for k, v in versions().items() if was.get(k) != v)
            self.observer.note(f"versions have changed since this study began: {moved}")

    def _check_same_question(self, facts: Mapping[str, Any]) -> None:
        """Space and recipe as they were when the study began."""
        if (had := facts.get("fingerprint")) and had != self.space.fingerprint():
            diff = _site_diff(facts.get("sites", {}), {s: list(o) for s, o in self.space.sites.items()})
            raise UsageError(
                f"the space has changed since study '{self.name}' began: {diff}. Use another --study"
            )
        then, now = facts.get("recipe"), self.space.recipe.to_dict()
        if then and then != now:
            changed = [name for name, value in now.items() if then.get(name) != value]
            raise UsageError(
                f"the recipe has changed since study '{self.name}' began ({', '.join(changed)}). Use another --study"
            )

    def _check_same_data(self, facts: Mapping[str, Any], data: Data) -> None:
        before = (facts.get("data") or {}).get("fingerprint")
        if before and before != data.fingerprint and not self.settings.allow_changed_data:
            raise DataError(
                f"the images of '{data.name}' have changed since study '{self.name}' began; "
                "--allow-changed-data goes on all the same"
            )

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

    def _book(self, opened: Any, data: Data, table: CostTable, devices: list[str]) -> Book:
        sites = {site: tuple(options) for site, options in self.space.sites.items()}
        names = [f"{cost} ({COSTS[cost].unit})" for cost in self.settings.costs]
        book = Book(opened, self.name, sites, ["validation error (%)", *names], self.settings.costs)
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
            recipe=self.space.recipe.to_dict(),
            data=data.facts(),
            data_options=self.settings.data_options(),
            seed=self.settings.seed,
            device=devices[0],
            versions=versions(),
            command=_command(self.space.name, self.settings),
            machine=f"{platform.machine()}, {cores()} cores",
            limits=[f"{limit} ({table.bound(limit):,.0f})" for limit in self.limits],
        )
        if book.fact("started") is None:
            book.facts(started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        return book

    def _agenda(self, table: CostTable, book: Book) -> SearchAgenda | DesignAgenda:
        if (self.settings.design or self.space.design) == "search":
            return SearchAgenda(self.space, table, book, self.settings, self.limits)
        return DesignAgenda(self.space, table, book, self.settings)

    def _write_facts(self, book: Book, agenda: SearchAgenda | DesignAgenda, table: CostTable) -> None:
        book.facts(trials_wanted=agenda.total, cost_range=list(table.range(self.settings.costs[0])))
        if isinstance(agenda, SearchAgenda):
            self._write_search_facts(book, agenda, table)
        else:
            book.facts(**agenda.facts(), margin=self.settings.margin)
        done = [row for row in counted(book) if row.state != "running"]
        workers = worker_count(self.settings, agenda.total)
        self.observer.began(dict(book.study.user_attrs), agenda.total, workers, done)
        if isinstance(agenda, DesignAgenda):
            self.observer.note(outlook(agenda, book.record()))

    def _write_search_facts(self, book: Book, agenda: SearchAgenda, table: CostTable) -> None:
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
