"""What goes into a trial and what comes out of it. Plain values, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from attnsearch.core.metrics import METRICS, ClassCounts

State = Literal["running", "complete", "stopped", "failed"]
Role = Literal["search", "confirm", "report", "design", "audit"]


Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How a proxy is trained; everything that training depends on beside the arch, the data and the seed.

    Args:
        epochs: passes over the training images, the length of the learning-rate schedule.
        batch_size: images per step; the last incomplete batch of an epoch is left out.
        optimizer: `sgd` (Nesterov) or `adamw`.
        lr: peak of the one-cycle schedule; warmup: share of the steps that climb to it.
        augment: words of `core.augmentations`, as `flip` or `mixup=0.2`; None takes what the data set states as safe.
        train_images: at most so many training images, a fixed stratified part; None takes all.
        resplit: split training and validation images by the trial's seed, so that each seed has its own split.
        ema: decay of averaged weights used in validation; 0 is off.
        precision: `auto` decides by the device's calibration (see `attnsearch doctor`).
        normalise: mean and standard deviation of the images, see `core.normalisation`; `auto` is the data's own.
        freeze: what of the host is frozen: `none`, `stem`, `host` (blocks and head alone train), or numbers of
            stages from 1, the stem with them.
        norm: `frozen` leaves statistics, scale and shift of the host's batch norms as they are.
        head_lr: learning rate of the head over that of the rest.
        decay_blocks: whether weight decay reaches what was put into the host.
        class_weights: `balanced` weighs an image's loss by n / (classes x images of its class), n training images in
            all, as scikit-learn does; `none` weighs all alike.
        metric: what is minimised, see `core.metrics`; validation errors are 100 less its score.
    """

    epochs: int = 8
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.25
    label_smoothing: float = 0.0
    augment: tuple[str, ...] | None = None
    train_images: int | None = None
    resplit: bool = False
    ema: float = 0.0
    precision: Literal["auto"] | Dtype = "auto"
    normalise: str = "auto"
    freeze: Literal["none", "stem", "host"] | tuple[int, ...] = "none"
    norm: Literal["train", "frozen"] = "train"
    head_lr: float = 1.0
    decay_blocks: bool = True
    class_weights: Literal["none", "balanced"] = "none"
    metric: str = "error"

    def to_dict(self) -> dict[str, Any]:
        """Plain values as JSON gives them back: tuples are lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Recipe:
        """From plain values as JSON gives them back: lists are tuples; unknown names are passed over.

        Raises `ValueError` for a metric that there is none of: what the errors are is then not known.
        """
        if stored.get("metric", "error") not in METRICS:
            raise ValueError(f"unknown metric {stored['metric']!r}")
        names = cls.__dataclass_fields__
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in names
        }
        return cls(**values)


@dataclass(frozen=True)
class Weights:
    """A checkpoint that every training of a study starts from, by its path and the SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of a learning curve; errors in percent by the recipe's metric, loss in nats, seconds from the start.

    `counts` is what was answered, as long as the training's own process holds the line.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_error: float
    seconds: float
    counts: ClassCounts | None = None


@dataclass(frozen=True)
class TrialResult:
    """One arch x seed x budget, whatever became of it.

    Args:
        number: the trial's number in the Optuna study; -1 outside one.
        key, arch: canonical key, and the readable string.
        spec: `Arch.to_dict()`.
        error: validation error after the last epoch in percent, by the recipe's metric; None unless complete.
        costs: unit-named numbers counted before training (`params`, `macs`, `flops`, ...).
        curve: one entry per epoch that ran.
        reason: one sentence when the state is failed or stopped.
        role: what the trial was for; only `search` trials may choose, only others may claim.
        protected: never stopped at a rung.
        attempt: how often this training was started before and lost with its run or worker.
        seconds, device, versions: how long the training took, on what, and by which packages.
        sites: the chosen option of each site of the space; empty for an arch outside it.
        lost: the worker or the whole run ended before the training did; it is run again.
        released: lost because the run ended in order or its place failed, so this attempt does not count.
        audited: a stop at a rung that was let run, to learn how often stops are false.
        counts: answers on the validation images after the last epoch that ran; None where nothing was kept.
        parts: in which each batch went through the network for want of memory; its batch norms saw one at a time.
    """

    key: str
    arch: str
    seed: int
    epochs: int
    state: State
    number: int = -1
    spec: Mapping[str, Any] = field(default_factory=dict)
    error: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Epoch, ...] = ()
    reason: str = ""
    role: Role = "search"
    protected: bool = False
    attempt: int = 0
    seconds: float = 0.0
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False
    released: bool = False
    audited: bool = False
    counts: ClassCounts | None = None
    parts: int = 1

    @property
    def finished(self) -> bool:
        """Trained to the end, with an error that is a number."""
        return self.state == "complete" and self.error is not None and math.isfinite(self.error)

    @property
    def accuracy(self) -> float | None:
        """100 less the error: the validation accuracy, or what the metric's score is."""
        return None if self.error is None else 100.0 - self.error
