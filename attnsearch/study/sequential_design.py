"""`--seeds auto`: an ablation that goes on by whole seed blocks until every variant is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attnsearch.core.costs import Limit
from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import DesignInfo
from attnsearch.cost.cost_table import CostTable
from attnsearch.space.space import Space
from attnsearch.statistics import Table, alpha_spending
from attnsearch.store.study_store import StudyStore
from attnsearch.study.ablation import AblationSchedule
from attnsearch.study.tasks import Task, counted

EFFECT = 1.0  # points, where none is named
MOST = 60  # seed blocks, where the trials do not end it before


class SequentialSchedule(AblationSchedule):
    """Seed block after seed block; after each from the third on, what is decided is trained no further.

    The baseline runs in every block. How many blocks there are at most follows from the noise of the first three and
    the effect that must not be missed, within the trials.
    """

    may_end_early = "it ends when every variant is decided"

    def __init__(
        self, space: Space, table: CostTable, store: StudyStore, settings: Settings, limits: Sequence[Limit]
    ) -> None:
        super().__init__(space, table, store, replace(settings, seeds=MOST), limits)
        self.effect = settings.effect or EFFECT
        self.margin = settings.margin or self.effect
        self.most = min(MOST, (settings.trials or MOST * len(self.variants)) // len(self.variants))
        self._first = alpha_spending.first_look(len(self.variants))
        if self.most < self._first:
            least = self._first * len(self.variants)
            raise UsageError(
                f"--seeds auto looks after {self._first} seeds for the first time: {len(self.variants)} variants "
                f"take {least} trials at least, not {settings.trials}"
            )
        self.total = self.most * len(self.variants)
        self._open: frozenset[str] = frozenset(self.variants) - {self.design.baseline}
        self._planned = self.most
        self._block = 0  # blocks that are done

    def next(self) -> Task | None:
        names = {variant.arch.key: name for name, variant in self.variants.items()}
        rows = [row for row in counted(self.store) if row.key in names]
        begun = {(names[row.key], row.seed) for row in rows}
        running = any(row.state == "running" for row in rows)
        while self._open and self._block < self._planned:
            seed = self.design.blocks[self._block]
            wanted = {self.design.baseline, *self._open}
            block = replace(self.design, blocks=(seed,)).order(begun, seed=self.settings.seed)
            missing = [name for name, _ in block if name in wanted]
            if missing:
                variant = self.variants[missing[0]]
                return Task(variant.arch, seed, "design", protected=True, choice=variant.choice)
            if running:
                return None  # a look takes the whole block
            self._block += 1
            self._look(names)
        return None

    def _look(self, names: dict[str, str]) -> None:
        """Which variants are still open after the blocks that are done."""
        if self._block < self._first:
            return
        done = set(self.design.blocks[: self._block])
        trials = [row for row in counted(self.store) if row.seed in done]
        table = Table.of_trials(trials, names)
        try:
            self._planned = alpha_spending.planned_blocks(table, self.effect, self.most)
            _, self._open = alpha_spending.judge(
                table, self.design.baseline, self._planned, margin=self.margin
            )
        except NoResultError:  # too many trainings failed for a comparison
            return

    @property
    def ended(self) -> str:
        done = len(counted(self.store))
        what = f"{self._block} seed blocks, {done} trials"
        if not self._open:
            return f"every variant is decided after {what}"
        if self._block >= self._planned:
            return f"{what} are done, the most that {self.effect:g} points take; open: {', '.join(sorted(self._open))}"
        return ""

    def info(self) -> DesignInfo:
        return replace(super().info(), seeds=self.most, effect=self.effect)
