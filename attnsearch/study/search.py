"""The schedule of a search: a sampler proposes, then fresh seeds go where the front is uncertain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from attnsearch.core.costs import Limit
from attnsearch.core.errors import Exhausted, UsageError
from attnsearch.core.seeds import Repeats, repeat_of, trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Role
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample import ArchSampler, PoolEHVI, default_sampler, make_sampler
from attnsearch.sample.pruners import make_pruner
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space
from attnsearch.statistics import front
from attnsearch.store.study_store import StudyStore
from attnsearch.study.ablation import positive_control
from attnsearch.study.confirmation import (
    BASELINE_SEEDS,
    REPORT_LEAST,
    TRIALS,
    block_seeds,
    due,
    finalist_count,
    search_trials,
)
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
        if self._last_block_is_due():
            return self._spare() or self._last_block()
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
        undecided = next(front.runs_in_turn(self._standing()), None)
        if not self.store.results.running or undecided is None:
            return None
        return self._confirm(at_once=2) or (None if self._all_tried else self._propose(least_promise=0.0))

    def _last_block_is_due(self) -> bool:
        """When the trials left are what the last block takes, and are enough for the baseline and one arch."""
        if self.store.info.search.selected:
            return True
        left = self._left()
        if not left >= 2 * REPORT_LEAST or not self._finalists(left):
            return False
        # The baseline is one of them.
        sure = sum(row.status in (front.Status.BY_COST, front.Status.CONFIRMED) for row in self._standing())
        return left <= due(bool(self.control), sure)

    def _spare(self) -> Task | None:
        """A further seed for the least certain arch, while the trials left are more than whole seeds of the block."""
        if self.store.info.search.selected:
            return None
        left = self._left()
        archs = self._block(left)
        seeds, further = self._seeds(left, archs)
        return self._confirm() if left > seeds * len(archs) + 2 * further else None

    def _last_block(self) -> Task | None:
        """The frozen archs, each once in every seed of a block that had no say in choosing them."""
        if not self.store.info.search.selected:
            # What is running may still change the front; better than to wait for it is what any front will need.
            running = (self.store.results[number] for number in self.store.results.running)
            if any(row.role != "report" for row in running) and (ahead := self._ahead()):
                return ahead
            self._freeze()
        specs = {row.key: row.spec for row in self.store.results.values()}
        if self.control:
            specs[self.control.key] = self.control.to_dict()
        search = self.store.info.search
        cells = [(key, repeat) for repeat in search.report_repeats for key in search.selected]
        if self.control:
            pair = self.baseline.key, self.control.key
            cells += [(key, repeat) for repeat in search.control_repeats for key in pair]
        for key, repeat in cells:
            if not self._has(key, repeat):
                return self._task(Arch.from_dict(specs[key]), repeat, "report", protected=True)
        if self._left() >= 2 * REPORT_LEAST:
            self._select((), ())  # done; a resumed study with more trials may settle on other archs
        return None

    def _ahead(self) -> Task | None:
        """Baseline and control in seeds of the last block, which needs them whoever the finalists are."""
        left = self._left()
        archs = [arch for arch in (self.baseline, self.control) if arch and arch.key in self._block(left)]
        if not self.store.info.search.report_repeats:
            self._select((), Repeats.REPORT.take(REPORT_LEAST, self._used()))
        for repeat in self.store.info.search.report_repeats:
            for arch in archs:
                if not self._has(arch.key, repeat):
                    return self._task(arch, repeat, "report", protected=True)
        return None

    def _left(self) -> int:
        """Trials that are left for the last block, those counted that it has begun with."""
        search = self.store.info.search
        ahead = () if search.selected else search.report_repeats
        archs = [arch.key for arch in (self.baseline, self.control) if arch]
        begun = sum(self._has(key, repeat) for repeat in ahead for key in archs)
        return self.total - self.store.results.counted + begun

    def _used(self) -> set[int]:
        return {repeat_of(row.seed) for row in self.store.results.values()}

    def _freeze(self) -> None:
        """Settle on the finalists, and on seeds for them and the baseline that nothing has used."""
        left = self._left()
        archs = self._block(left)
        ahead = self.store.info.search.report_repeats
        seeds, further = self._seeds(left, archs)
        fresh = Repeats.REPORT.take(seeds + further - len(ahead), {*self._used(), *ahead})
        repeats = (*ahead, *fresh)
        self._select(tuple(archs), repeats[:seeds], repeats[seeds:])

    def _seeds(self, trials: int, archs: Sequence[str]) -> tuple[int, int]:
        return block_seeds(trials, len(archs), self.control is not None and self.control.key in archs)

    def _select(self, keys: tuple[str, ...], repeats: tuple[int, ...], further: tuple[int, ...] = ()) -> None:
        search = self.store.info.search
        self.store.set_attrs(replace(search, selected=keys, report_repeats=repeats, control_repeats=further))

    def _block(self, trials: int) -> list[str]:
        """The archs of the last block: baseline, finalists, and the positive control where the trials go round."""
        archs = [self.baseline.key, *self._finalists(trials)]
        if self.control and trials >= REPORT_LEAST * (len(archs) + 1):
            archs.append(self.control.key)
        return archs

    def _finalists(self, trials: int) -> list[str]:
        """The arch of least error, then the likeliest on the front: at least one, as many as get `REPORT_SEEDS` seeds.

        While few runs tell of the noise, P(front) alone would prefer archs that cost little more than the baseline:
        they have few rivals.
        """
        rows = [row for row in self._standing() if row.key != self.baseline.key]
        if not rows:
            return []
        best = min(rows, key=lambda row: float(np.mean(row.errors)))
        likely = [row for row in rows if row is not best and (row.p_front or 0.0) > front.DOMINATED]
        likely.sort(key=lambda row: -(row.p_front or 0.0))
        return [row.key for row in (best, *likely)][: finalist_count(trials, bool(self.control))]

    def _standing(self) -> front.Front:
        """Every arch's place by the trainings that are done; of many, by all but the latest half percent."""
        finished = self.store.results.finished
        due = finished - finished % (1 + finished // 200)
        if self._assessed is None or self._assessed[0] != due:  # rows that are complete never change
            apart = (
                self.control.key if self.control else ""
            )  # no rival; a study that is resumed has runs of it
            done = [row for row in counted(self.store) if row.finished][:due]
            rivals = front.gather([row for row in done if row.key != apart], [self.settings.costs[0]])
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
        for key, _ in islice(front.runs_in_turn(self._standing()), self.store.results.counted):
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
