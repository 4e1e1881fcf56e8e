"""What the coordinator and an engine say to each other: plain values that travel between processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from attnsearch.core.metrics import ClassCounts
from attnsearch.core.trial import Epoch, Recipe, State, Weights

ValHalf = Literal["first", "second"]  # of the validation images: one to choose by, one to confirm by


@dataclass(frozen=True)
class DataSource:
    """What a worker opens: a data set's name and the options of `data.open_data`.

    Args:
        shipped: fingerprint of images that were sent to the worker's machine, which are opened instead.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shipped: str = ""


@dataclass(frozen=True)
class Job:
    """One training: plain values that travel to a worker.

    Args:
        val_half: the half of the validation images to judge by; None for all of them.
        number: of the trial in the study; a training that is run again has a new one, so a late message is known by it.
        spec: `Arch.to_dict()`.
        rungs: epochs after which the worker waits for the word to go on.
        weights: that the host starts from, read where the worker is.
        timed: a few steps are timed in place of the training, to know beforehand what it takes.
    """

    number: int
    spec: Mapping[str, Any]
    seed: int
    recipe: Recipe
    rungs: tuple[int, ...] = ()
    val_half: ValHalf | None = None
    weights: Weights | None = None
    timed: bool = False


@dataclass(frozen=True)
class Timing:
    """What a few steps of a training took.

    Args:
        start: seconds to build the network and put it on the device. step: of a step, the median of `timed` ones.
        steps: in an epoch. validation: seconds of one pass over the validation images.
        memory: peak bytes of the worker. device_memory: peak bytes on its GPU, 0 on a CPU.
    """

    start: float
    step: float
    steps: int
    timed: int
    validation: float
    memory: int
    device_memory: int = 0

    def seconds(self, epochs: int) -> float:
        """Of a training of so many epochs."""
        return self.start + epochs * (self.steps * self.step + self.validation)


@dataclass(frozen=True)
class Began:
    """A worker has taken up the job: its time counts from now."""

    number: int


@dataclass(frozen=True)
class Progress:
    """An epoch has ended; with `waits` the worker pauses until `Engine.answer`."""

    number: int
    epoch: Epoch
    waits: bool = False


@dataclass(frozen=True)
class Outcome:
    """A job has ended.

    Args:
        lost: its worker died and nothing is known of the training.
        blameless: lost by a fault of the place where it ran, which does not count against the job's retries.
        counts: answers on the validation images after the last epoch of the curve.
        timing: of a job that was `timed`.
        parts: in which each batch went through the network one after the other, since the whole did not fit.
    """

    number: int
    state: State
    curve: tuple[Epoch, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    device: str = ""
    lost: bool = False
    blameless: bool = False
    counts: ClassCounts | None = None
    timing: Timing | None = None
    parts: int = 1


@dataclass(frozen=True)
class Notice:
    """News of the engine itself, as one sentence for the user."""

    sentence: str


Message = Began | Progress | Outcome | Notice
