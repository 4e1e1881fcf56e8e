"""What a run takes, as far as a few timed steps can tell; and what it took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attnsearch.core.text import clock, many

GB = 1e9


@dataclass(frozen=True)
class Timed:
    """An arch whose steps were timed: seconds of a step, how many were timed, and seconds of its whole training."""

    arch: str
    step: float
    steps: int
    seconds: float


@dataclass(frozen=True)
class Requirements:
    """Time and memory of a run from its start to its last training.

    Args:
        trials: trainings still to do. workers: side by side.
        least, mean, most: seconds of a training. seconds: of the run.
        memory: peak bytes of all processes together. device_memory: peak bytes on each GPU, 0 on a CPU.
        at_most: why the run may end earlier, in words; empty where nothing of the kind is known.
    """

    trials: int
    workers: int
    least: float
    mean: float
    most: float
    seconds: float
    memory: int
    device: str
    timed: tuple[Timed, ...]
    device_memory: int = 0
    at_most: str = ""

    def __str__(self) -> str:
        span = clock(self.least)
        if clock(self.most) != span:
            span = f"{span} to {clock(self.most)}"
        early = f" at most ({self.at_most})" if self.at_most else ""
        gpu = f" and {self.device_memory / GB:.1f} GB on each GPU" if self.device_memory else ""
        steps = sum(timed.steps for timed in self.timed)
        return (
            f"takes about {clock(self.seconds)}{early}: {many(self.trials, 'training')} of {span} on "
            f"{many(self.workers, 'worker')} ({self.device}), and {self.memory / GB:.1f} GB of memory in all "
            f"processes{gpu}; by {many(steps, 'timed step')} of {many(len(self.timed), 'arch')}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compared(needed: Requirements, seconds: float, memory: int) -> str:
    """What a run took beside what was expected of it."""
    more = 100 * (seconds / needed.seconds - 1)
    beside = f"{abs(more):.0f} % {'more' if more >= 0 else 'less'} than expected"
    held = f"; peak memory {memory / GB:.1f} GB, expected {needed.memory / GB:.1f}" if memory else ""
    return f"took {clock(seconds)}, {beside}{held}"


__all__ = ["Requirements", "Timed", "compared"]
