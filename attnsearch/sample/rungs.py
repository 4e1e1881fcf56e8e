"""Rungs of a run: the pruner's view of the trials, and what its stops would have cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from attnsearch.core.trial import TrialResult
from attnsearch.sample.pruner_base import Decision
from attnsearch.sample.pruners import make_pruner
from attnsearch.statistics.false_stops import Run, audit
from attnsearch.statistics.noise import pooled_sd


class Rungs:
    """Asks the pruner in terms of a study's rows.

    Args:
        pruner: its name; costs: the axes it compares on; epochs: of the whole training.
    """

    def __init__(self, pruner: str, *, costs: Sequence[str], epochs: int, seed: int) -> None:
        self.pruner, self.costs, self.whole = make_pruner(pruner, seed=seed), costs, epochs
        self.epochs: tuple[int, ...] = self.pruner.rungs(epochs)
        self._known: dict[int, tuple[TrialResult, Run]] = {}

    def of(self, epoch: int) -> int | None:
        """Number of the rung that lies after this epoch."""
        return self.epochs.index(epoch) if epoch in self.epochs else None

    def judge(self, row: TrialResult, rung: int, rows: Iterable[TrialResult]) -> Decision:
        """Whether a trial that has just reached a rung goes on, in view of all other search trials."""
        others = [self._seen(other) for other in rows if _searched(other) and other.number != row.number]
        error, share = row.curve[-1].val_error, self.epochs[rung] / self.whole
        return self.pruner.decide(
            rung, self._costs(row), error, others, key=row.key, share=share, protected=row.protected
        )

    def false_stops(self, rows: Iterable[TrialResult]) -> dict[str, dict[str, int]]:
        """Tallies of stops, and of would-be stops let run that proved false: over all, and per option."""
        trials = list(rows)
        repeats: dict[str, list[float]] = {}
        for row in trials:
            if row.error is not None:
                repeats.setdefault(row.key, []).append(row.error)
        sd, _ = pooled_sd(repeats.values())
        overall, per_option = audit([self._seen(row) for row in trials if _searched(row)], sd or 0.0)
        tallies: dict[str, Any] = {"all": overall, **per_option}
        return {
            option: asdict(tally) for option, tally in tallies.items() if option == "all" or tally.audited
        }

    def _seen(self, row: TrialResult) -> Run:
        """Made once of each row as it stands: a judgement looks at all of them."""
        known = self._known.get(row.number)
        if known is None or known[0] is not row:
            self._known[row.number] = known = row, self._run_of(row)
        return known[1]

    def _run_of(self, row: TrialResult) -> Run:
        return Run(
            key=row.key,
            costs=self._costs(row),
            rungs=tuple(row.curve[epoch - 1].val_error for epoch in self.epochs if len(row.curve) >= epoch),
            error=row.error,
            protected=row.protected,
            stopped=row.state == "stopped",
            audited=row.audited,
            options=tuple(f"{site}: {option}" for site, option in row.sites.items()),
        )

    def _costs(self, row: TrialResult) -> tuple[float, ...]:
        return tuple(row.costs[cost] for cost in self.costs)


def _searched(row: TrialResult) -> bool:
    return row.role == "search" and row.state != "failed"
