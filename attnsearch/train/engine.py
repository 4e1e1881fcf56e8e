"""Engines run jobs somewhere else: they take (arch, seed, budget), give back metrics, and never touch the study.

`pool` is a pool of worker processes on this machine; another engine need only speak the messages of `core.jobs`.
"""

from __future__ import annotations

from typing import Protocol

from attnsearch.core.jobs import Job, Message


class Engine(Protocol):
    """Runs jobs in `slots` places at once."""

    @property
    def slots(self) -> int:
        """Places that can take a job; they may become more or fewer."""

    def submit(self, job: Job) -> None:
        """Start a job; only called while fewer than `slots` are running."""

    def wait(self, seconds: float) -> list[Message]:
        """What happened, waiting at most so long for something to happen.

        Raises `DataError` or `EnvironmentFault` where no worker can start.
        """

    def answer(self, number: int, go: bool) -> None:
        """Let a waiting job go on, or stop it."""

    def cancel(self, number: int, reason: str) -> None:
        """End a running job now; its `Outcome` is failed with the reason."""

    def close(self) -> None:
        """Release everything; running jobs are dropped."""
