"""Engines run jobs somewhere else: they take (arch, seed, budget), give back metrics, and never touch the study.

`local` is a pool of worker processes on this machine; another engine need only speak the messages below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from attnsearch.trial import Epoch, Recipe, State


@dataclass(frozen=True)
class DataSource:
    """What a worker opens: a data set's name and the options of `data.open_data`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One training: plain values that travel to a worker.

    Args:
        number: of the trial in the study; a training that is run again has a new one, so a late message is known by it.
        spec: `Arch.to_dict()`.
        rungs: epochs after which the worker waits for the word to go on.
    """

    number: int
    spec: Mapping[str, Any]
    seed: int
    recipe: Recipe
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Progress:
    """An epoch has ended; with `waits` the worker stands still until `Engine.answer`."""

    number: int
    epoch: Epoch
    waits: bool = False


@dataclass(frozen=True)
class Outcome:
    """A job has ended, in whatever way it did; `lost` means that its worker died and nothing is known."""

    number: int
    state: State
    curve: tuple[Epoch, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    device: str = ""
    lost: bool = False


Message = Progress | Outcome


class Engine(Protocol):
    """Runs jobs in `slots` places at once."""

    slots: int

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
