"""An engine for tests that trains nothing: each job ends at once, with the error that a function gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from attnsearch.core.jobs import Job, Message, Outcome
from attnsearch.core.trial import Epoch
from attnsearch.space.arch import Arch

ErrorOf = Callable[[Arch, int, int], float]  # arch, seed, epochs -> error in percent


@dataclass
class Instant:
    """One job at a time; `jobs` are those submitted."""

    error: ErrorOf
    slots: int = 1
    jobs: list[Job] = field(default_factory=list)
    _waiting: list[Message] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        if job.timed:  # nothing takes time here
            self._waiting.append(Outcome(job.number, "complete"))
            return
        self.jobs.append(job)
        arch = Arch.from_dict(job.spec)
        length = job.recipe.epochs
        curve = tuple(
            Epoch(e, 1.0, 1.0, self.error(arch, job.seed, length) + length - e, 0.1)
            for e in range(1, length + 1)
        )
        self._waiting.append(Outcome(job.number, "complete", curve, seconds=0.1, device="none"))

    def wait(self, seconds: float) -> list[Message]:
        said, self._waiting = self._waiting, []
        return said

    def answer(self, number: int, go: bool) -> None: ...
    def cancel(self, number: int, reason: str) -> None: ...
    def close(self) -> None: ...


def instead_of_workers(monkeypatch: Any, error: ErrorOf) -> Instant:
    """Make every run of the test use one `Instant` engine; gives it back."""
    engine = Instant(error)
    monkeypatch.setattr("attnsearch.train.pool.LocalPool", lambda *given, **options: engine)
    return engine
