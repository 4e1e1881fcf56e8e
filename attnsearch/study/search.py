"""The schedule of a search: a sampler proposes, then fresh seeds go where the front is uncertain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from attnsearch.core.costs import Limit
from attnsearch.core.errors import Exhausted, UsageError
from attnsearch.core.seeds import trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Role
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample import ArchSampler, PoolEHVI, default_sampler, make_sampler
from attnsearch.sample.pool_sampler import LAG
from attnsearch.sample.pruners import make_pruner
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space
from attnsearch.statistics import front
from attnsearch.statistics.arch_runs import gather
from attnsearch.statistics.next_runs import runs_in_turn
from attnsearch.store.study_store import StudyStore
from attnsearch.study.ablation import positive_control
from attnsearch.study.confirmation import Confirmation
from attnsearch.study.search_shape import BASELINE_SEEDS, TRIALS, search_trials
from attnsearch.study.tasks import Costed, Task, counted

# Of the search's trials at most: with many options "each one everywhere" would eat them all.
HOMOGENEOUS_SHARE = 0.25
LEAST_PROMISE = 0.01  # of the hypervolume: below it the rest of the budget buys certainty instead of archs
EXPECTED = 64  # archs that stand for all that may be trained, when the time of a run is estimated
DRAWS = 4000  # for a decision between archs, not for a printed probability
LEAST_BEFORE_EARLY_END = 20  # archs known before "no improvement left" is believed


class SearchSchedule:
    """Baseline, then what the sampler proposes on one common seed, then fresh seeds for undecided archs."""

    is_audit = False

    def __init__(
        self, space: Space, table: CostTable, store: StudyStore, settings: Settings, limits: Sequence[Limit]
    ) -> None:
        self.space, self.table, self.store, self.settings = space, table, store, settings
        self.limits = tuple(limits)
        self.baseline = space.baseline()
        self.total = settings.trials or TRIALS
        with_control = "narrow" in settings.controls.split(",") and settings.confirm
        self.control = positive_control(space) if with_control else None
        self.feasible = feasible(table, limits)
        self.search_trials = search_trials(self.total, settings.confirm)
        self.sampler, self.sampler_name, self.sampler_reason = self._sampler(limits)
        self._exhausted = ""  # why the sampler is asked no more, in words
        self._all_tried = False
        self._sure = False
        self._assessed: tuple[int, front.Front] | None = None  # rows trained to the end, and what they say
        self.confirmation = Confirmation(
            store, self.total, self.baseline, self.control, self._standing, self._has
        )

    def next(self) -> Task | None:
        if self.store.results.counted >= self.total:
            return None
        for repeat in range(
            BASELINE_SEEDS if self.settings.confirm and self.total > BASELINE_SEEDS + 2 else 1
        ):
            if not self._has(self.baseline.key, repeat):
                return self._task(
                    self.baseline, repeat, "search" if repeat == 0 else "confirm", protected=True
                )
        if not self._exhausted and self.store.results.searched < self.search_trials:
            proposed = self._propose()
            if proposed is not None:
                return proposed
        if not self.settings.confirm:
            return None
        if self.confirmation.is_due:
            spare = self._confirm() if self.confirmation.has_trials_to_spare else None
            return spare or self._last_block()
        # A front that is decided early leaves trials over, as do seeds that would be too many at once: they look for a
        # better one.
        return self._confirm() or (None if self._exhausted else self._propose()) or self._rather_than_wait()

    def expected(self) -> list[Costed]:
        """The baseline and a sample of the archs that may be trained, with their costs."""
        codes = self.table.codes(EXPECTED)
        codes = codes[self.table.allowed(codes, self.limits)]
        sites = self.space.sites.items()
        choices = [
            {site: list(options)[i] for (site, options), i in zip(sites, row, strict=True)}
            for row in codes.tolist()
        ]
        sample = [
            (self.space.arch(choice), self.table.of(self.space.arch(choice), choice)) for choice in choices
        ]
        return [(self.baseline, self.table.of(self.baseline, self.space.choice(self.baseline))), *sample]

    @property
    def may_end_early(self) -> str:
        """Why fewer or shorter trainings than planned may do, in words; empty where they may not."""
        return "" if self.settings.pruner == "none" else "trainings may be stopped early"

    @property
    def ended(self) -> str:
        if self.store.results.counted >= self.total:
            return f"all {self.total} trials are done"
        if self._sure and self._exhausted:
            return f"{self._exhausted}; the front is decided as far as fresh seeds can decide it"
        if self._exhausted and not self.settings.confirm:
            return self._exhausted
        if any(row.role == "report" for row in self.store.results.values()):
            left = self.total - self.store.results.counted
            return f"the last block of seeds is done; {left} of {self.total} trials are too few for another"
        return ""

    def _propose(self, least_promise: float = LEAST_PROMISE) -> Task | None:
        known = self.store.results.counted >= LEAST_BEFORE_EARLY_END
        if least_promise and known and isinstance(self.sampler, PoolEHVI):
            gain = self.sampler.remaining_gain(self.store.study)
            if gain is not None and gain.share < least_promise:
                self._exhausted = "no arch left promises 1 % more hypervolume"
                return None
        try:
            number, choice = self.store.ask(self.sampler)
        except Exhausted:
            self._exhausted = f"all {self.feasible:,} archs of the space within budget were tried"
            self._all_tried = True
            return None
        arch = self.space.arch(choice)
        protected = choice in self.sampler_initial
        repeat = 0
        while self._has(arch.key, repeat):  # a known arch gets its next seed
            repeat += 1
        role: Role = "search" if repeat == 0 else "confirm"
        return replace(self._task(arch, repeat, role, protected), choice=choice, number=number)

    def _last_block(self) -> Task | None:
        training = self.confirmation.next()
        return training and self._task(*training, "report", protected=True)

    def _confirm(self, at_once: int = 1) -> Task | None:
        pick = self._least_certain(at_once)
        self._sure = pick is None and not self.store.results.running
        if pick is None:
            return None
        repeat = 1
        while self._has(pick.key, repeat):
            repeat += 1
        if not self._has(self.baseline.key, repeat):
            # the same seeds as its rivals
            return self._task(self.baseline, repeat, "confirm", protected=True)
        return self._task(Arch.from_dict(pick.spec), repeat, "confirm")

    def _rather_than_wait(self) -> Task | None:
        """For a worker that others leave nothing to do while archs are undecided: more seeds at once, then exploration.

        One worker never comes here: nothing else runs when it asks.
        """
        undecided = next(runs_in_turn(self._standing()), None)
        if not self.store.results.running or undecided is None:
            return None
        return self._confirm(at_once=2) or (None if self._all_tried else self._propose(least_promise=0.0))

    def _standing(self, exact: bool = False) -> front.Front:
        """Every arch's place by the trainings that are done.

        Of many, by all but the latest half percent; while others run and unless `exact`, by all but a tenth as many as
        these.
        """
        finished = self.store.results.finished
        due = finished - finished % (1 + finished // 200)
        late = 0 if exact else len(self.store.results.running) // LAG
        # Rows that are complete never change.
        if self._assessed is None or not 0 <= due - self._assessed[0] <= late:
            apart = (
                self.control.key if self.control else ""
            )  # no rival; a study that is resumed has runs of it
            done = [row for row in counted(self.store) if row.finished][:due]
            rivals = gather([row for row in done if row.key != apart], [self.settings.costs[0]])
            self._assessed = due, front.assess(rivals, baseline=self.baseline.key, draws=DRAWS)
        return self._assessed[1]

    def _least_certain(self, at_once: int) -> front.ArchResult | None:
        """The arch whose place on the front is least certain for its number of seeds; None when all are decided.

        Seeds that are still running count as run, and an arch gets no more of them at once than `at_once` for each of
        its results: with many workers the rest would be decided before they end.
        """
        standing = {row.key: row for row in self._standing()}
        most = self.settings.seeds or self.total
        seeds = Counter(key for key, _ in self.store.results.runs.elements())
        turns: Counter[str] = Counter()
        for key, _ in islice(runs_in_turn(self._standing()), self.store.results.counted):
            turns[key] += 1
            runs = len(standing[key].errors)
            ahead = seeds[key] - runs  # running, or done since the front was assessed
            if turns[key] > ahead and ahead < at_once * runs <= at_once * most:
                return standing[key]
        return None

    def _task(self, arch: Arch, repeat: int, role: Role, protected: bool = False) -> Task:
        return Task(arch, self._seed(repeat), role, protected, choice=self.space.choice(arch))

    def _has(self, key: str, repeat: int) -> bool:
        return self.store.results.runs[key, self._seed(repeat)] > 0

    def _seed(self, repeat: int) -> int:
        return trial_seed(self.settings.seed, repeat)

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
        first = [baseline, *(self._enqueued(text, limits) for text in self.settings.enqueue), *spread]
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
        sampler.remember(self.store.results.values, make_pruner(self.settings.pruner).rungs)
        return sampler, name, reason

    def _enqueued(self, text: str, limits: Sequence[Limit]) -> dict[str, str]:
        """An arch of the user's own, the baseline's option at sites that it does not name."""
        choice = {**(self.space.choice(self.baseline) or {}), **self.space.named(text)}
        if missing := [site for site in self.space.sites if site not in choice]:
            raise UsageError(f"--enqueue '{text}' says nothing of {', '.join(missing)}")
        costs = self.table.of(self.space.arch(choice), choice)
        for limit in self.table.broken(costs, limits):
            raise UsageError(f"--enqueue '{text}' costs {costs[limit.cost]:,.0f} {limit.cost}, over {limit}")
        return choice


def feasible(table: CostTable, limits: Sequence[Limit], most: int = 200_000) -> int:
    """Archs within the limits: counted where the space is small, estimated from random ones where it is not."""
    size = table.space.size()
    if not limits:
        return size
    share = table.allowed(table.codes(most), limits).mean()
    return round(float(share) * size)
