"""What a run is asked to do, as plain values; the command line and `attnsearch.run` fill in the same dataclass."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attnsearch.core.checks import check_data, check_side
from attnsearch.core.costs import LIMITED, parse_limits
from attnsearch.core.errors import UsageError, unknown

DESIGNS = ("search", "loo", "add", "swap", "factorial")
CONTROLS = ("null", "width", "frozen", "none")
ENGINES = ("local", "ray")
SAMPLERS = ("auto", "exhaustive", "pool", "tpe", "nsga2", "random", "gp")
PRUNERS = ("par", "none", "moasha", "one-epoch")


@dataclass(frozen=True)
class Settings:
    """Everything about a run that is not the question.

    Args:
        data: a data set's name or path; data_seed, image_size, bad_images, min_per_class and follow_links go
            to `data.open_data`.
        study: its name; the space's when None. storage: database URL; `OUT/attnsearch.db` when None.
        extend: name of a study whose finished trials are taken over, as far as the space has their archs.
        trials: trainings in all, a total that `resume` counts on; None takes the design's own number.
        timeout: seconds after which nothing new is started.
        reference: option that a design adds to, or leaves out of, every site, or one for each site with bars between;
            the first that is not the baseline's when None.
        controls: which of `null`, `width`, `frozen` run beside a design's variants.
        seeds: seed blocks of a design; in a search, fresh seeds that a confirmed arch may get at most.
        seed: of the study; trials use seeds derived from it.
        enqueue: archs that a search trains first and to the end, written as `Space.named` reads them.
        confirm: share of the trials kept for fresh seeds: of archs that may be on the front, then of the finalists,
            whose last block gives the verdicts; 0 searches only.
        costs: cost axes beside the error, the first of them drawn.
        retries: how often a training is begun again whose worker died.
        engine: `local` trains in processes of this machine, `ray` on the nodes of the cluster at `address`.
        patience: seconds without a node that is ready after which a run on a cluster ends.
    """

    data: str = "cluttered-digits"
    data_seed: int = 0
    image_size: int | None = None
    bad_images: Literal["fail", "skip"] = "fail"
    min_per_class: int | None = None
    follow_links: bool = False
    study: str | None = None
    storage: str | None = None
    out: Path = Path("results")
    resume: bool = False
    extend: str | None = None
    trials: int | None = None
    timeout: float | None = None
    trial_timeout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    train_images: int | None = None
    resplit: bool = False
    design: str | None = None
    reference: str | None = None
    controls: str = "null,width"
    seeds: int | None = None
    seed: int = 0
    enqueue: tuple[str, ...] = ()
    sampler: str = "auto"
    pruner: str = "par"
    confirm: float = 0.5
    budget: str = ""
    costs: tuple[str, ...] = ("macs",)
    margin: float | None = None
    workers: int | None = None
    device: str = "auto"
    engine: Literal["local", "ray"] = "local"
    address: str = ""
    patience: float = 600.0
    retries: int = 2
    allow_changed_data: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))  # a string is as good

    def check(self) -> Settings:
        """Itself, if every value makes sense; raises `UsageError` for the first that does not."""
        for name in (
            "trials",
            "epochs",
            "batch_size",
            "seeds",
            "train_images",
            "workers",
            "image_size",
            "min_per_class",
        ):
            _whole(name, getattr(self, name))
        for name in ("lr", "timeout", "trial_timeout", "margin", "patience"):
            _positive(name, getattr(self, name))
        if not 0 <= self.confirm < 1:
            raise UsageError(f"--confirm must be at least 0 and below 1, got {self.confirm:g}")
        for name in ("seed", "data_seed", "retries"):
            _from_zero(name, getattr(self, name))
        for cost in self.costs:
            _word("objective", cost, LIMITED)
        if not self.costs or len(set(self.costs)) < len(self.costs):
            raise UsageError(
                f"--cost takes one cost or more, none of them twice, got '{','.join(self.costs)}'"
            )
        _word("engine", self.engine, ENGINES)
        if self.engine == "ray" and not self.address:
            raise UsageError("--engine ray needs --address HOST:PORT of a running Ray cluster")
        if self.address and self.engine != "ray":
            raise UsageError("--address is of a Ray cluster: add --engine ray")
        _word("sampler", self.sampler, SAMPLERS)
        _word("pruner", self.pruner, PRUNERS)
        _word("answer to a bad image", self.bad_images, ("fail", "skip"))
        for control in self.controls.split(","):
            _word("control", control, CONTROLS)
        if self.design is not None:
            _word("design", self.design, DESIGNS)
            if self.enqueue and self.design != "search":
                raise UsageError(
                    f"--enqueue is for a search; --design {self.design} says itself which archs it trains"
                )
        parse_limits(self.budget)
        check_side(self.image_size)
        check_data(self.data)
        return self

    def url(self) -> str:
        """The storage's URL: given, from ATTNSEARCH_STORAGE, or one SQLite file in the results folder."""
        return (
            self.storage or os.environ.get("ATTNSEARCH_STORAGE") or f"sqlite:///{self.out / 'attnsearch.db'}"
        )

    def recipe(self) -> dict[str, Any]:
        """What these settings change in the space's recipe."""
        names = ("epochs", "batch_size", "lr", "train_images")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return given | ({"resplit": True} if self.resplit else {})

    def data_options(self) -> dict[str, Any]:
        """Arguments of `data.open_data` beside the name; what stands at its default is left out."""
        further = {name: getattr(self, name) for name in ("image_size", "min_per_class", "follow_links")}
        given = {name: value for name, value in further.items() if value}
        return {"seed": self.data_seed, "on_bad_image": self.bad_images, **given}


def _whole(name: str, value: object) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(f"--{name.replace('_', '-')} must be an integer >= 1, got {value}")


def _from_zero(name: str, value: object) -> None:
    if type(value) is not int or value < 0:
        raise UsageError(f"--{name.replace('_', '-')} must be an integer >= 0, got {value}")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"--{name.replace('_', '-')} must be a positive finite number, got {value:g}")


def _word(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(unknown(what, value, known))
