"""The one engine of the tests that trains nothing: errors are computed at once, and given out as by a worker."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from attnsearch.core.messages import Job, Message, Outcome, Progress
from attnsearch.core.trial import Dtype, Epoch
from attnsearch.space.arch import Arch

Curve = Callable[[Job], tuple[Epoch, ...]]  # of a whole training
ErrorOf = Callable[[Arch, int, int], float]  # arch, seed, epochs -> error in percent at the end


class FakeEngine:
    """An engine whose trainings take no time.

    Args:
        curve: what a job's training gives.
        slots: jobs at once.
        steps: also each epoch by itself, waiting at rungs for an answer; else the outcome alone.
        dies: numbers of jobs whose worker dies. fails: every job does, for a reason.
    """

    def __init__(
        self, curve: Curve, *, slots: int = 1, steps: bool = True, dies: Collection[int] = (), fails: str = ""
    ) -> None:
        self.curve, self.slots, self.steps, self.dies, self.fails = curve, slots, steps, dies, fails
        self.jobs: list[Job] = []  # in the order they came
        self._by_number: dict[int, Job] = {}
        self.messages: list[Message] = []

    dtype: Dtype = "float32"

    def submit(self, job: Job) -> None:
        if job.timed:  # nothing takes time here
            self.messages.append(Outcome(job.number, "complete"))
            return
        self.jobs.append(job)
        self._by_number[job.number] = job
        if job.number in self.dies:
            self.messages.append(Outcome(job.number, "failed", reason="killed by signal 9", lost=True))
        elif self.fails:
            self.messages.append(Outcome(job.number, "failed", reason=self.fails))
        else:
            self._train(job, 1)

    def _train(self, job: Job, first: int) -> None:
        curve = self.curve(job)
        for epoch in curve[first - 1 :] if self.steps else ():
            waits = epoch.epoch in job.rungs and epoch.epoch < job.recipe.epochs
            self.messages.append(Progress(job.number, epoch, waits))
            if waits:
                return
        self.messages.append(Outcome(job.number, "complete", curve, seconds=1.0, device="none"))

    def wait(self, seconds: float) -> list[Message]:
        messages, self.messages = self.messages, []
        return messages

    def answer(self, number: int, go: bool) -> None:
        job = self._by_number[number]
        if go:
            self._train(replace(job, rungs=()), max(job.rungs) + 1)
        else:
            curve = self.curve(job)[: max(job.rungs)]
            self.messages.append(Outcome(number, "stopped", curve, reason="beaten", device="none"))

    def cancel(self, number: int, reason: str) -> None:
        self.messages.append(Outcome(number, "failed", reason=reason))

    def close(self) -> None: ...


def ending_in(error: ErrorOf) -> Curve:
    """Curves that fall by a point an epoch to the error of an arch."""

    def curve(job: Job) -> tuple[Epoch, ...]:
        length = job.recipe.epochs
        last = error(Arch.from_dict(job.spec), job.seed, length)
        return tuple(Epoch(e, 1.0, 1.0, last + length - e, 0.1) for e in range(1, length + 1))

    return curve


def instead_of_workers(monkeypatch: Any, error: ErrorOf) -> FakeEngine:
    """Make every run of the test use one engine; gives it back."""
    engine = FakeEngine(ending_in(error), steps=False)
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", lambda *args, **options: engine)
    return engine
