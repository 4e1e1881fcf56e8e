"""What every pruner answers, where rungs lie, and the pruner that stops nothing.

Rungs lie on the one full-length learning-rate schedule, so stopping saves epochs and changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from attnsearch.statistics.false_stops import Run

# Epochs. The first of three ends near chance, whatever the arch ends at (of ten classes 75 to 90 % went before 17 to
# 60 %): to stop there saves two epochs, and lost half of the archs of a first run for it.
SHORTEST = 4


@dataclass(frozen=True)
class Decision:
    """Whether to stop, one sentence why, and whether this is a stop that is let run for the audit."""

    stop: bool
    reason: str
    audited: bool = False


class Pruner(Protocol):
    """What the coordinator asks at each rung."""

    def rungs(self, epochs: int) -> tuple[int, ...]: ...

    def decide(
        self,
        rung: int,
        costs: tuple[float, ...],
        error: float,
        others: Sequence[Run],
        *,
        key: str,
        share: float,
        protected: bool = False,
    ) -> Decision: ...


@dataclass(frozen=True)
class NeverStop:
    """Every trial runs to its last epoch."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        return ()

    def decide(
        self,
        rung: int,
        costs: tuple[float, ...],
        error: float,
        others: Sequence[Run],
        *,
        key: str,
        share: float,
        protected: bool = False,
    ) -> Decision:
        return Decision(False, "nothing is stopped")


def thirds(epochs: int) -> tuple[int, ...]:
    """Rungs after a ninth and a third of the epochs, rounded up; none in a training of fewer than SHORTEST."""
    if epochs < SHORTEST:
        return ()
    return tuple(sorted({math.ceil(epochs / 9), math.ceil(epochs / 3)}))
