"""The end of a search: finalists, baseline and positive control, once in every seed of a block of fresh ones.

That block gives the verdicts. Its seeds are new and its images had no say in the choice; `search_shape` says how many
seeds it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from attnsearch.core.seeds import Repeats, repeat_of
from attnsearch.space.arch import Arch
from attnsearch.statistics import front
from attnsearch.store.study_store import StudyStore
from attnsearch.study.search_shape import REPORT_LEAST, block_seeds, due, finalist_count

Training = tuple[Arch, int]  # an arch and the number of its seed


class Confirmation:
    """Which archs the block has, in which seeds, and which of its trainings is next.

    Args:
        total: trials of the search, those of the block among them.
        standing: every arch's place by the trainings that are done; by all but the latest unless `exact`.
        has: whether a training of this arch's key in this seed has begun.
    """

    def __init__(
        self,
        store: StudyStore,
        total: int,
        baseline: Arch,
        control: Arch | None,
        standing: Callable[..., front.Front],
        has: Callable[[str, int], bool],
    ) -> None:
        self.store, self.total, self.baseline, self.control = store, total, baseline, control
        self._standing, self._has = standing, has

    @property
    def is_due(self) -> bool:
        """Whether the trials left are what the block takes, and are enough for the baseline and one arch."""
        if self.store.info.search.selected:
            return True
        left = self._left()
        if not left >= 2 * REPORT_LEAST or not self._finalists(left):
            return False
        # The baseline is one of them.
        sure = sum(row.status in (front.Status.BY_COST, front.Status.CONFIRMED) for row in self._standing())
        return left <= due(bool(self.control), sure)

    @property
    def has_trials_to_spare(self) -> bool:
        """Whether more trials are left than whole seeds of the block take; it has not begun then."""
        if self.store.info.search.selected:
            return False
        left = self._left()
        archs = self._archs(left)
        seeds, further = self._seeds(left, archs)
        return left > seeds * len(archs) + 2 * further

    def next(self) -> Training | None:
        """The block's next training; with the first, archs and seeds are settled. None when all have begun."""
        if not self.store.info.search.selected:
            # What is running may still change the front; better than to wait for it is what any front will need.
            running = (self.store.results[number] for number in self.store.results.running)
            if any(row.role != "report" for row in running) and (ahead := self._ahead()):
                return ahead
            self._settle()
        if training := next(
            (pair for pair in self._trainings() if not self._has(pair[0].key, pair[1])), None
        ):
            return training
        if self._left() >= 2 * REPORT_LEAST:
            self._write((), ())  # done; a resumed study with more trials may settle on other archs
        return None

    def _trainings(self) -> Iterator[Training]:
        """All trainings of the block: each arch in every seed, then the control's further ones."""
        search = self.store.info.search
        archs = {row.key: row.spec for row in self.store.results.values()}
        if self.control:
            archs[self.control.key] = self.control.to_dict()
        for repeat in search.report_repeats:
            for key in search.selected:
                yield Arch.from_dict(archs[key]), repeat
        for repeat in search.control_repeats if self.control else ():
            yield from ((arch, repeat) for arch in self._pair)

    def _ahead(self) -> Training | None:
        """Baseline and control in seeds of the block, which needs them whoever the finalists are."""
        left = self._left()
        keys = self._archs(left)
        if not self.store.info.search.report_repeats:
            self._write((), Repeats.REPORT.take(REPORT_LEAST, self._used()))
        for repeat in self.store.info.search.report_repeats:
            for arch in self._pair:
                if arch.key in keys and not self._has(arch.key, repeat):
                    return arch, repeat
        return None

    def _settle(self) -> None:
        """Settle on the finalists, and on seeds for them and the baseline that nothing has used."""
        left = self._left()
        archs = self._archs(left, exact=True)
        ahead = self.store.info.search.report_repeats
        seeds, further = self._seeds(left, archs)
        fresh = Repeats.REPORT.take(seeds + further - len(ahead), {*self._used(), *ahead})
        repeats = (*ahead, *fresh)
        self._write(tuple(archs), repeats[:seeds], repeats[seeds:])

    def _write(self, keys: tuple[str, ...], repeats: tuple[int, ...], further: tuple[int, ...] = ()) -> None:
        search = self.store.info.search
        self.store.set_attrs(replace(search, selected=keys, report_repeats=repeats, control_repeats=further))

    @property
    def _pair(self) -> tuple[Arch, ...]:
        return (self.baseline, self.control) if self.control else (self.baseline,)

    def _left(self) -> int:
        """Trials that are left for the block, those counted that it has begun with."""
        search = self.store.info.search
        ahead = () if search.selected else search.report_repeats
        begun = sum(self._has(arch.key, repeat) for repeat in ahead for arch in self._pair)
        return self.total - self.store.results.counted + begun

    def _used(self) -> set[int]:
        return {repeat_of(row.seed) for row in self.store.results.values()}

    def _seeds(self, trials: int, archs: Sequence[str]) -> tuple[int, int]:
        return block_seeds(trials, len(archs), self.control is not None and self.control.key in archs)

    def _archs(self, trials: int, exact: bool = False) -> list[str]:
        """Keys of the block: baseline, finalists, and the positive control where the trials go round."""
        archs = [self.baseline.key, *self._finalists(trials, exact)]
        if self.control and trials >= REPORT_LEAST * (len(archs) + 1):
            archs.append(self.control.key)
        return archs

    def _finalists(self, trials: int, exact: bool = False) -> list[str]:
        """The arch of least error, then the likeliest on the front: at least one, as many as get `REPORT_SEEDS` seeds.

        While few runs tell of the noise, P(front) alone would prefer archs that cost little more than the baseline:
        they have few rivals.
        """
        rows = [row for row in self._standing(exact=exact) if row.key != self.baseline.key]
        if not rows:
            return []
        best = min(rows, key=lambda row: float(np.mean(row.errors)))
        likely = [row for row in rows if row is not best and (row.p_front or 0.0) > front.DOMINATED]
        likely.sort(key=lambda row: -(row.p_front or 0.0))
        return [row.key for row in (best, *likely)][: finalist_count(trials, bool(self.control))]
