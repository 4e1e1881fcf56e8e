"""What a run will take: a few steps of a few of its archs are timed by the workers that will train them.

Archs that are not timed are placed between those that are by their MACs and by the bytes that they move, which is what
a step's time consists of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

import numpy as np

from attnsearch.core.machine import memory_of_all, peak_memory
from attnsearch.core.messages import Job, Outcome, Timing
from attnsearch.core.requirements import Requirements, Timed
from attnsearch.space.arch import Arch
from attnsearch.study.signals import Stop
from attnsearch.study.tasks import Costed
from attnsearch.train.engine import Engine

SIDE_BY_SIDE = 8  # places kept busy while steps are timed: they share memory and cache as they will later
WORK = ("macs", "bytes_moved")  # what a step's time consists of
PATIENCE = 15.0  # seconds after which no further arch is timed, where some are: steps of photos take seconds
PAUSE = 5.0  # seconds between two looks at the memory: one takes some 10 ms


def estimate(
    engine: Engine, expected: Sequence[Costed], trials: int, sample: Job, stop: Stop, began: float
) -> tuple[Requirements | None, str]:
    """What so many trainings of these archs take on this engine; None, and why, where nothing could be timed.

    Args:
        expected: see `Schedule.expected`.
        began: when the run did, by `time.monotonic`: its start and this timing are part of what it takes.
        sample: a job of the run; archs are timed with its recipe, images and weights.
    """
    chosen = extremes(expected)
    jobs = [
        replace(sample, number=-1 - i, spec=arch.to_dict(), rungs=(), timed=True)
        for i, (arch, _) in enumerate(chosen)
    ]
    outcomes = _outcomes(engine, jobs, stop)
    known = [(chosen[-1 - o.number], o.timing) for o in outcomes if o.timing is not None]
    if not known:
        return None, next((outcome.reason for outcome in outcomes if outcome.reason), "no step was timed")
    epochs = sample.recipe.epochs
    seconds = predicted(expected, [(row, timing.seconds(epochs)) for row, timing in known])
    workers = max(1, min(engine.slots, trials))
    needed = Requirements(
        trials=trials,
        workers=workers,
        least=min(seconds),
        mean=mean(seconds),
        most=max(seconds),
        seconds=time.monotonic() - began + mean(seconds) * math.ceil(trials / workers),
        memory=workers * max(timing.memory for _, timing in known) + peak_memory(),
        device=outcomes[0].device,
        timed=_by_arch([(arch, timing) for (arch, _), timing in known], epochs),
        device_memory=max(timing.device_memory for _, timing in known),
    )
    return needed, ""


def extremes(expected: Sequence[Costed]) -> list[Costed]:
    """The first arch and those that do most and least of each kind of work, each once."""
    rows = [expected[0]]
    for cost in WORK:
        rows += [max(expected, key=lambda row: row[1][cost]), min(expected, key=lambda row: row[1][cost])]
    return list({arch.key: (arch, costs) for arch, costs in rows}.values())


def predicted(expected: Sequence[Costed], known: Sequence[tuple[Costed, float]]) -> list[float]:
    """Seconds of a training of each arch: the mean of what is known of it, or else a sum of shares of its work.

    Args:
        known: timed archs and seconds of a training. The shares, none below 0, are those that fit them best.
    """
    from scipy.optimize import nnls

    work = np.array([[costs[cost] for cost in WORK] for (_, costs), _ in known])
    seconds = np.array([taken for _, taken in known])
    scale = work.max(axis=0)
    # Rows in units of what was measured: an arch of a second counts as much as one of a minute.
    shares, _ = nnls(work / scale / seconds[:, None], np.ones(len(known)))
    own: dict[str, list[float]] = {}
    for (arch, _), taken in known:
        own.setdefault(arch.key, []).append(taken)
    return [
        mean(own[arch.key])
        if arch.key in own
        else float(np.array([costs[cost] for cost in WORK]) / scale @ shares)
        for arch, costs in expected
    ]


def _outcomes(engine: Engine, jobs: Sequence[Job], stop: Stop) -> list[Outcome]:
    """What became of the jobs; each place is busy meanwhile, some of them with a job over again."""
    waiting, running, outcomes = list(jobs), set[int](), list[Outcome]()
    repeated, began = 0, time.monotonic()
    while (waiting or running) and not stop.signal:
        if outcomes and time.monotonic() - began > PATIENCE:
            waiting = []
        while waiting and len(running) < engine.slots:
            running.add(waiting[0].number)
            engine.submit(waiting.pop(0))
            short = not waiting and len(jobs) + repeated < min(engine.slots, SIDE_BY_SIDE)
            if short:
                waiting.append(replace(jobs[repeated % len(jobs)], number=-1 - len(jobs) - repeated))
                repeated += 1
        for message in engine.wait(0.5):
            if isinstance(message, Outcome) and message.number in running:
                running.discard(message.number)
                outcomes.append(replace(message, number=-1 - (-1 - message.number) % len(jobs)))
    return outcomes


def _by_arch(timings: Sequence[tuple[Arch, Timing]], epochs: int) -> tuple[Timed, ...]:
    """One row an arch, of the mean of its timings."""
    rows: dict[str, list[Timing]] = {}
    for arch, timing in timings:
        rows.setdefault(str(arch), []).append(timing)
    return tuple(
        Timed(arch, mean(t.step for t in ts), sum(t.timed for t in ts), mean(t.seconds(epochs) for t in ts))
        for arch, ts in rows.items()
    )


class MemoryWatch:
    """The largest sum of what all processes of the run held at once, as far as it was looked at."""

    def __init__(self) -> None:
        self.peak = 0
        self._next = 0.0

    def look(self) -> None:
        """Look, unless the last look was a moment ago."""
        if (now := time.monotonic()) >= self._next:
            self.peak, self._next = max(self.peak, memory_of_all()), now + PAUSE


__all__ = ["MemoryWatch", "estimate", "extremes", "predicted"]
