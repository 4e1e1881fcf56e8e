"""Agendas say which cell (arch x seed) is trained next; the coordinator asks one whenever a worker is free.

`SearchAgenda` lets a sampler propose and then spends fresh seeds where the front is undecided; `DesignAgenda` works off
the rows of an ablation, block by block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from attnsearch.core.errors import Exhausted, UsageError
from attnsearch.core.limits import Limit
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Role, TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample import ArchSampler, PoolEHVI, default_sampler, make_sampler
from attnsearch.sample.pruning import make_pruner
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space
from attnsearch.statistics import front
from attnsearch.store.study_store import Book

TRIALS = 32  # the baseline and 20 others or more; with the embedded data, four minutes on two cores
# Of the search's trials at most: with many options "each one everywhere" would eat them all.
HOMOGENEOUS_SHARE = 0.25
REPORT_SEEDS = 3  # of the last block, which alone is claimed: the runs that settled the front flatter it
REPORT_ARCHS = 3  # that trials are kept for: the baseline and two others, more where more are confirmed
REPORT_FROM = 900  # seed blocks from here on are kept for it
BASELINE_SEEDS = 2  # trained at once: their spread is the noise that everything else is held against
LEAST_PROMISE = 0.01  # of the hypervolume: below it the rest of the budget buys certainty instead of archs
DRAWS = 4000  # for a decision between archs, not for a printed probability
LEAST_BEFORE_EARLY_END = 20  # archs known before "no improvement left" is believed


@dataclass(frozen=True)
class Cell:
    """One training to do.

    Args:
        epochs: where they are not the recipe's.
        number: set where the trial is already in the study (a sampler asked for it).
    """

    arch: Arch
    seed: int
    role: Role
    protected: bool = False
    choice: Mapping[str, str] | None = None
    number: int | None = None
    attempt: int = 0
    epochs: int | None = None


class Agenda(Protocol):
    """What the coordinator drives; one that is `aside` answers another question than the study's, and ends nothing."""

    total: int
    aside: bool

    def next(self) -> Cell | None:
        """The next cell; None when there is none now, or ever: then `ended` says why once nothing runs."""

    @property
    def ended(self) -> str:
        """Why there is nothing more to do, in words; empty while there is."""


def seed_of(study_seed: int, repeat: int) -> int:
    """Seed of the repeat-th seed block: 0 is the one that searches, all later ones are fresh."""
    return 1000 * study_seed + repeat


def counted(book: Book) -> list[TrialResult]:
    """Trainings that count for a run: those of an audit come on top, lost ones are run again."""
    return [row for row in book.results.values() if not row.lost and row.role != "audit"]


class SearchAgenda:
    """Baseline, then what the sampler proposes on one common seed, then fresh seeds for undecided archs."""

    aside = False

    def __init__(
        self, space: Space, table: CostTable, book: Book, settings: Settings, limits: Sequence[Limit]
    ) -> None:
        self.space, self.table, self.book, self.settings = space, table, book, settings
        self.baseline = space.baseline()
        self.total = settings.trials or TRIALS
        self.feasible = feasible(table, limits)
        wanted = self.total - math.floor(settings.confirm * self.total)
        least = min(2, self.total)  # the baseline, and an arch to hold against it
        self.search_trials = max(least, wanted - (BASELINE_SEEDS - 1 if settings.confirm else 0))
        self.sampler, self.sampler_name, self.sampler_reason = self._sampler(limits)
        self._exhausted = ""
        self._sure = False

    def next(self) -> Cell | None:
        done = counted(self.book)
        if len(done) >= self.total:
            return None
        for repeat in range(
            BASELINE_SEEDS if self.settings.confirm and self.total > BASELINE_SEEDS + 2 else 1
        ):
            if not self._has(self.baseline.key, repeat):
                return self._cell(
                    self.baseline, repeat, "search" if repeat == 0 else "confirm", protected=True
                )
        if not self._exhausted and sum(row.role == "search" for row in done) < self.search_trials:
            proposed = self._propose()
            if proposed is not None:
                return proposed
        if not self.settings.confirm:
            return None
        if self._last_block_is_due():
            return self._spare() or self._last_block()
        # A front that is decided early leaves trials over: they look for a better one.
        return self._confirm() or (self._propose() if self._sure and not self._exhausted else None)

    @property
    def ended(self) -> str:
        if len(counted(self.book)) >= self.total:
            return f"all {self.total} trials are done"
        if self._sure and self._exhausted:
            return f"{self._exhausted}; the front is decided as far as fresh seeds can decide it"
        if self._exhausted and not self.settings.confirm:
            return self._exhausted
        if any(row.role == "report" for row in self.book.results.values()):
            left = self.total - len(counted(self.book))
            return f"the last block of seeds is done; {left} of {self.total} trials are too few for another"
        return ""

    def _propose(self) -> Cell | None:
        if isinstance(self.sampler, PoolEHVI) and len(counted(self.book)) >= LEAST_BEFORE_EARLY_END:
            outlook = self.sampler.outlook(self.book.study)
            if outlook is not None and outlook.share < LEAST_PROMISE:
                self._exhausted = "no arch left promises 1 % more hypervolume"
                return None
        try:
            number, choice = self.book.ask(self.sampler)
        except Exhausted:
            self._exhausted = f"all {self.feasible:,} archs of the space within budget were tried"
            return None
        arch = self.space.arch(choice)
        protected = choice in self.sampler_initial
        repeat = 0
        while self._has(arch.key, repeat, but=number):  # a known arch gets its next seed
            repeat += 1
        role: Role = "search" if repeat == 0 else "confirm"
        return replace(self._cell(arch, repeat, role, protected), choice=choice, number=number)

    def _confirm(self) -> Cell | None:
        rows = counted(self.book)
        pick = self._least_certain(rows)
        self._sure = pick is None and not any(row.state == "running" for row in rows)
        if pick is None:
            return None
        repeat = 1
        while self._has(pick, repeat):
            repeat += 1
        spec = next(row.spec for row in rows if row.key == pick)
        if not self._has(self.baseline.key, repeat):
            # the same seeds as its rivals
            return self._cell(self.baseline, repeat, "confirm", protected=True)
        return self._cell(Arch.from_dict(spec), repeat, "confirm")

    def _last_block_is_due(self) -> bool:
        """When the trials left are what the last block needs, and are enough for the baseline and one arch."""
        if self.book.fact("frozen"):
            return True
        left = self.total - len(counted(self.book))
        archs = max(REPORT_ARCHS, 1 + sum(p >= front.CONFIRMED for p in self._chances().values()))
        return 2 * REPORT_SEEDS <= left <= REPORT_SEEDS * archs

    def _spare(self) -> Cell | None:
        """A further seed for the least certain arch, while the trials left are more than whole seeds of the block."""
        left = self.total - len(counted(self.book))
        return None if self.book.fact("frozen") or left % REPORT_SEEDS == 0 else self._confirm()

    def _last_block(self) -> Cell | None:
        """The frozen archs, each once in every seed of a block that had no say in choosing them."""
        if not self.book.fact("frozen"):
            if any(row.state == "running" for row in self.book.results.values()):
                return None  # what is running may still change the front
            self._freeze()
        specs = {row.key: row.spec for row in self.book.results.values()}
        for repeat in self.book.fact("report_blocks"):
            for key in self.book.fact("frozen"):
                if not self._has(key, repeat):
                    return self._cell(Arch.from_dict(specs[key]), repeat, "report", protected=True)
        self.book.facts(frozen=[])  # done; a resumed study with more trials may settle on other archs
        return None

    def _freeze(self) -> None:
        """Settle on the baseline and the archs likeliest on the front, as many as get every seed of the block."""
        room = (self.total - len(counted(self.book))) // REPORT_SEEDS - 1
        chances = self._chances()
        likeliest = sorted(chances, key=lambda key: -chances[key])[:room]
        used = {row.seed for row in self.book.results.values()}
        fresh = (repeat for repeat in itertools.count(REPORT_FROM) if self._seed(repeat) not in used)
        self.book.facts(
            frozen=[self.baseline.key, *likeliest], report_blocks=[next(fresh) for _ in range(REPORT_SEEDS)]
        )

    def _chances(self) -> dict[str, float]:
        """P(front) of every arch but the baseline that has any."""
        done = [row for row in counted(self.book) if row.state == "complete"]
        standing = front.assess(front.candidates(done, [self.settings.costs[0]]), draws=DRAWS)
        chances = {row.candidate.key: row.p_front or 0.0 for row in standing.standings}
        return {key: p for key, p in chances.items() if p > front.DOMINATED and key != self.baseline.key}

    def _least_certain(self, rows: Sequence[TrialResult]) -> str | None:
        """The arch whose place on the front is least certain for its number of seeds; None when all are decided."""
        done = [row for row in rows if row.state == "complete"]
        waiting = {row.key for row in rows if row.state == "running"}
        standing = front.assess(front.candidates(done, [self.settings.costs[0]]), draws=DRAWS)
        most = self.settings.seeds or self.total
        runs = {row.candidate.key: len(row.candidate.errors) for row in standing.standings}
        cells = [key for key, _ in front.next_cells(standing, len(waiting) + 1)]
        return next((key for key in cells if key not in waiting and runs[key] <= most), None)

    def _cell(self, arch: Arch, repeat: int, role: Role, protected: bool = False) -> Cell:
        return Cell(arch, self._seed(repeat), role, protected, choice=self.space.choice(arch))

    def _has(self, key: str, repeat: int, but: int | None = None) -> bool:
        seed = self._seed(repeat)
        return any(r.key == key and r.seed == seed and r.number != but for r in counted(self.book))

    def _seed(self, repeat: int) -> int:
        return seed_of(self.settings.seed, repeat)

    def _sampler(self, limits: Sequence[Limit]) -> tuple[ArchSampler, str, str]:
        name, reason = self.settings.sampler, "chosen by --sampler"
        if name == "auto":
            name, reason = default_sampler(
                self.feasible, self.search_trials, objectives=1 + len(self.settings.costs)
            )
        baseline = self.space.choice(self.baseline)
        pure = [self.space.choice(arch) for arch in self.space.homogeneous()]
        rivals = [choice for choice in pure if choice is not None and choice != baseline]
        room = max(2, int(HOMOGENEOUS_SHARE * self.search_trials))
        spread = [rivals[i * len(rivals) // room] for i in range(room)] if len(rivals) > room else rivals
        first = [baseline, *(self._enqueued(said, limits) for said in self.settings.enqueue), *spread]
        self.sampler_initial = [choice for choice in first if choice is not None]
        axis = self.settings.costs[0]
        sampler = make_sampler(
            name,
            {site: tuple(options) for site, options in self.space.sites.items()},
            lambda codes: self.table.column(codes, axis),
            factors={site: np.array(rows, dtype=np.int64) for site, rows in self.space.factors().items()},
            allowed=(lambda codes: self.table.allowed(codes, limits)) if limits else None,
            initial=self.sampler_initial,
            seed=self.settings.seed,
        )
        sampler.remember(self.book.results.values, make_pruner(self.settings.pruner).rungs)
        return sampler, name, reason

    def _enqueued(self, said: str, limits: Sequence[Limit]) -> dict[str, str]:
        """An arch of the user's own, the baseline's option at sites that it does not name."""
        choice = {**(self.space.choice(self.baseline) or {}), **self.space.named(said)}
        if missing := [site for site in self.space.sites if site not in choice]:
            raise UsageError(f"--enqueue '{said}' says nothing of {', '.join(missing)}")
        costs = self.table.of(self.space.arch(choice), choice)
        for limit in limits:
            if costs[limit.cost] > self.table.bound(limit):
                raise UsageError(
                    f"--enqueue '{said}' costs {costs[limit.cost]:,.0f} {limit.cost}, over {limit}"
                )
        return choice


def feasible(table: CostTable, limits: Sequence[Limit], most: int = 200_000) -> int:
    """Archs within the limits: counted where the space is small, estimated from random ones where it is not."""
    size = table.space.size()
    if not limits:
        return size
    share = table.allowed(table.codes(most), limits).mean()
    return round(float(share) * size)
