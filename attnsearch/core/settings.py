"""What a run is asked to do, as plain values; the command line and `attnsearch.run` fill in the same dataclass.

A field says its type, its flag's help, metavar and check, and its default: `cli.run` builds the command's options from
that, `Settings.check` the checks. Groups are base classes, so that all names stay flat in a call of `attnsearch.run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from attnsearch.core import choices
from attnsearch.core.checks import (
    check_data,
    check_side,
    check_weights,
    check_word,
    in_home,
    natural,
    positive,
    share,
    whole,
)
from attnsearch.core.choices import listed
from attnsearch.core.costs import LIMITED, parse_limits
from attnsearch.core.errors import UsageError
from attnsearch.core.metrics import METRICS, check_metric


@dataclass(frozen=True)
class Flag:
    """How a field is written on the command line.

    Args:
        help: one sentence. metavar: the value's name in the help.
        check: the value as it should be, from text or from a Python value; raises `ValueError` or `UsageError`.
        name: where it is not the field's.
    """

    help: str
    metavar: str | None = None
    check: Callable[[Any], Any] | None = None
    name: str = ""


def _one_of(what: str, known: Mapping[str, str]) -> Callable[[str], str]:
    return partial(check_word, what, known=known)


def _each_of(what: str, known: Mapping[str, str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        for word in text.split(","):
            check_word(what, word, known)
        return text

    return check


def _costs(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """`macs,params`, or the names themselves."""
    names = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
    for name in names:
        check_word("cost", name, LIMITED)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"takes one cost or more, none of them twice, got '{','.join(names)}'")
    return names


def _names(values: str | Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _limits(text: str) -> str:
    parse_limits(text)
    return text


def workers(value: str | int) -> int:
    """A count, or `gpus` for one on each GPU."""
    if value == "gpus":
        from attnsearch.core.machine import gpu_count

        return gpu_count()
    try:
        return whole(value)
    except ValueError:
        raise ValueError(f"must be an integer ≥ 1 or 'gpus', got '{value}'") from None


AUTO_SEEDS = 0


def seeds(value: str | int) -> int:
    """A count, or `auto` for `AUTO_SEEDS`: as many as it takes to decide."""
    if value in ("auto", AUTO_SEEDS):
        return AUTO_SEEDS
    try:
        return whole(value)
    except ValueError:
        raise ValueError(f"must be an integer ≥ 1 or 'auto', got '{value}'") from None


def _side(value: str | int) -> int:
    side = whole(value)
    check_side(side)
    return side


@dataclass(frozen=True)
class DataOptions:
    """The images: a data set's name or path, and what `data.open_data` takes beside it."""

    data: Annotated[
        str, Flag("Data set: a name, hf:NAME, a folder, a .parquet or .npz file.", check=check_data)
    ] = "cued-digits"
    data_seed: Annotated[int, Flag("Seed of the data set's own split and images.", "N", natural)] = 0
    image_size: Annotated[int | None, Flag("Resize images to squares of this side.", "PIXELS", _side)] = None
    resize: Annotated[
        Literal["crop", "stretch", "pad"],
        Flag(
            f"How images become squares: {listed(choices.RESIZES)}.", None, _one_of("resize", choices.RESIZES)
        ),
    ] = "crop"
    min_per_class: Annotated[int | None, Flag("Leave out classes with fewer images.", "N", whole)] = None
    group_by: Annotated[
        str | None,
        Flag("Keep together what a column, folder:N or an expression calls one.", "COLUMN|folder:N|REGEX"),
    ] = None
    follow_links: Annotated[bool, Flag("Read links out of an image folder.")] = False
    bad_images: Annotated[
        Literal["fail", "skip"],
        Flag(
            "Unreadable images: fail, or skip and count them.",
            None,
            _one_of("answer to a bad image", choices.BAD_IMAGES),
            "on-bad-image",
        ),
    ] = "fail"

    def data_options(self) -> dict[str, Any]:
        """Arguments of `data.open_data` beside the name; what stands at its default is left out."""
        further = {
            name: getattr(self, name) for name in ("image_size", "min_per_class", "group_by", "follow_links")
        }
        return {
            "seed": self.data_seed,
            "on_bad_image": self.bad_images,
            **{name: value for name, value in further.items() if value},
            **({"resize": self.resize} if self.resize != "crop" else {}),
        }


@dataclass(frozen=True)
class TrainOptions:
    """What every training starts from and what changes in the space's recipe; None leaves the space's own."""

    epochs: Annotated[int | None, Flag("Epochs per training; the space's own if not given.", "N", whole)] = (
        None
    )
    batch_size: Annotated[int | None, Flag("Images per step.", "N", whole)] = None
    lr: Annotated[float | None, Flag("Peak learning rate (one-cycle schedule).", "RATE", positive)] = None
    weights: Annotated[
        str | None, Flag("Checkpoint that every training starts from.", "FILE", check_weights)
    ] = None
    host_module: Annotated[
        str | None, Flag("The file of a model of your own that the space names as its host.", "FILE")
    ] = None
    freeze: Annotated[
        Literal["none", "stem", "host"] | None,
        Flag(
            f"Frozen part of the backbone: {listed(choices.FREEZE)}.", None, _one_of("freeze", choices.FREEZE)
        ),
    ] = None
    train_images: Annotated[
        int | None, Flag("At most N training images (fixed stratified part).", "N", whole)
    ] = None
    resplit: Annotated[bool, Flag("Draw a new train/val split for every seed.")] = False
    metric: Annotated[str | None, Flag(f"What is minimised: {listed(METRICS)}.", None, check_metric)] = None
    class_weights: Annotated[
        str | None,
        Flag(f"{listed(choices.CLASS_WEIGHTS)}.", None, _one_of("class weights", choices.CLASS_WEIGHTS)),
    ] = None

    def recipe(self) -> dict[str, Any]:
        """The fields of the recipe that change."""
        names = ("epochs", "batch_size", "lr", "train_images", "freeze", "metric", "class_weights")
        changed = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return changed | ({"resplit": True} if self.resplit else {})


@dataclass(frozen=True)
class SearchOptions:
    """How a search chooses.

    Args:
        enqueue: archs that are trained first and to the end, written as `Space.named` reads them.
        confirm: share of the trials kept for fresh seeds: of archs that may be on the front, then of the finalists,
            whose last block gives the verdicts; 0 searches only.
        costs: axes beside the error, the first of them drawn.
    """

    enqueue: Annotated[
        tuple[str, ...],
        Flag("Train this architecture first, without pruning; may be repeated.", "OPTION|...", _names),
    ] = ()
    sampler: Annotated[
        str, Flag(f"Sampler: {listed(choices.SAMPLERS)}.", check=_one_of("sampler", choices.SAMPLERS))
    ] = "auto"
    pruner: Annotated[
        str, Flag(f"Pruner: {listed(choices.PRUNERS)}.", check=_one_of("pruner", choices.PRUNERS))
    ] = "par"
    confirm: Annotated[
        float, Flag("Fraction of the trials for independent seeds and verdicts.", "SHARE", share)
    ] = 0.5
    costs: Annotated[
        tuple[str, ...], Flag(f"Cost axis: {', '.join(LIMITED)}.", "COST,...", _costs, "cost")
    ] = ("macs",)
    budget: Annotated[
        str, Flag('Limits before training, as "params<=1.2x,macs<=60M".', "LIMITS", _limits)
    ] = ""


@dataclass(frozen=True)
class DesignOptions:
    """An ablation.

    Args:
        reference: option that a design adds to, or leaves out of, every site, or one for each site with bars between;
            the first that is not the baseline's when None.
        controls: which of `choices.CONTROLS` run beside a design's variants; beside a search's finalists, `narrow`.
        seeds: of each variant, `AUTO_SEEDS` until each is decided; in a search, the most that a confirmed arch may get.
        effect: in points, that a design of `AUTO_SEEDS` must not miss; the margin where none is named.
    """

    design: Annotated[
        str | None,
        Flag(f"Search, or an ablation: {listed(choices.DESIGNS)}.", check=_one_of("design", choices.DESIGNS)),
    ] = None
    reference: Annotated[str | None, Flag("Option that the ablation adds or removes.", "OPTION|...")] = None
    margin: Annotated[float | None, Flag("Equivalence margin.", "POINTS", positive)] = None
    controls: Annotated[
        str,
        Flag(
            f"Control variants, by comma: {listed(choices.CONTROLS)}.",
            check=_each_of("control", choices.CONTROLS),
        ),
    ] = "null,width,narrow"
    seeds: Annotated[
        int | None, Flag("Seeds per variant, or auto; in a search the most per architecture.", "N", seeds)
    ] = None
    effect: Annotated[
        float | None,
        Flag("Smallest effect that --seeds auto must detect; 1 if not given.", "POINTS", positive),
    ] = None


@dataclass(frozen=True)
class RunOptions:
    """Which study, where it is kept, on what it is trained and when it ends.

    Args:
        study: its name; the space's when None. storage: database URL; `OUT/attnsearch.db` when None.
        extend: name of a study whose finished trials are taken over, as far as the space has their archs.
        trials: trainings in all, a total that `resume` counts on; None takes the design's own number.
        timeout: seconds after which nothing new is started.
        seed: of the study; trials use seeds derived from it.
        retries: how often a training is started again whose worker died.
        no_images: a study otherwise keeps some training images as a network sees them, which its report shows.
        engine: `local` trains in processes of this machine, `ray` on the nodes of the cluster at `address`.
        patience: seconds without a node that is ready after which a run on a cluster ends.
    """

    study: Annotated[str | None, Flag("Name of the study.", "NAME")] = None
    trials: Annotated[
        int | None, Flag("Total training runs, including those before --resume.", "N", whole)
    ] = None
    timeout: Annotated[float | None, Flag("Stop launching trials after SECONDS.", "SECONDS", positive)] = None
    seed: Annotated[int, Flag("Master seed; trial seeds are derived from it.", "N", natural)] = 0
    workers: Annotated[int | None, Flag("Parallel workers, or gpus for one per GPU.", "N", workers)] = None
    device: Annotated[str, Flag("Device: auto, cpu, cuda, mps, or cuda:0,cuda:1.")] = "auto"
    engine: Annotated[
        Literal["local", "ray"],
        Flag(
            "local: processes of this machine; ray: the nodes of a cluster.",
            None,
            _one_of("engine", choices.ENGINES),
        ),
    ] = "local"
    address: Annotated[str, Flag("Address of the Ray cluster.", "HOST:PORT")] = ""
    patience: Annotated[
        float, Flag("Wait at most SECONDS for a node of the cluster.", "SECONDS", positive)
    ] = 600.0
    trial_timeout: Annotated[float | None, Flag("End a training that takes longer.", "SECONDS", positive)] = (
        None
    )
    retries: Annotated[int, Flag("Retries after a worker crash.", "N", natural)] = 2
    storage: Annotated[str | None, Flag("Study database.", "URL")] = None
    out: Annotated[Path, Flag("Folder of results.")] = Path("results")
    resume: Annotated[bool, Flag("Continue an existing study.")] = False
    no_images: Annotated[bool, Flag("Keep no training images in the study and its report.")] = False
    extend: Annotated[str | None, Flag("Reuse finished trials of another study.", "STUDY")] = None
    allow_changed_data: Annotated[bool, Flag("Resume although the images have changed.")] = False

    def url(self) -> str:
        """The storage's URL: as asked, from ATTNSEARCH_STORAGE, or one SQLite file in the results folder."""
        return (
            self.storage
            or os.environ.get("ATTNSEARCH_STORAGE")
            or f"sqlite:///{Path(self.out) / 'attnsearch.db'}"
        )


@dataclass(frozen=True)
class Settings(DesignOptions, SearchOptions, RunOptions, TrainOptions, DataOptions):
    """Everything about a run that is not the question; fields stand in the order of the groups, the last one first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", in_home(self.out))  # a string is as good

    def check(self) -> Settings:
        """These settings with every value as it should be; raises `UsageError` for the first that makes no sense."""
        values = {}
        for name, flag in flags().items():
            value = getattr(self, name)
            if flag.check is not None and value is not None:
                try:
                    values[name] = flag.check(value)
                except ValueError as error:
                    raise UsageError(f"--{flag.name or name.replace('_', '-')} {error}") from None
        checked = replace(self, **values)
        checked._check_together()
        return checked

    def _check_together(self) -> None:
        """Values that make no sense beside each other."""
        if self.engine == "ray" and not self.address:
            raise UsageError("--engine ray needs --address HOST:PORT of a running Ray cluster")
        if self.address and self.engine != "ray":
            raise UsageError("--address is of a Ray cluster: add --engine ray")
        if self.effect is not None and self.seeds != AUTO_SEEDS:
            raise UsageError(
                "--effect is what --seeds auto must not miss: add it, or plan with `attnsearch plan`"
            )
        if self.enqueue and self.design not in (None, "search"):
            raise UsageError(
                f"--enqueue is for a search; --design {self.design} says itself which archs it trains"
            )


@cache
def _hints() -> dict[str, Any]:
    """The annotations of all fields, evaluated once: 40 of them take a millisecond."""
    return get_type_hints(Settings, include_extras=True)


@cache
def flags() -> dict[str, Flag]:
    """The flag of every field of `Settings`, by the field's name."""
    annotated = {
        name: [entry for entry in hint.__metadata__ if isinstance(entry, Flag)]
        for name, hint in _hints().items()
    }
    return {name: entries[0] for name, entries in annotated.items() if entries}


def kind_of(name: str) -> type:
    """The type of a field's values, of one that may be None too: bool, int, float, str, tuple or Path."""
    hint = _hints()[name].__origin__
    while (parts := get_args(hint)) and get_origin(hint) is not tuple:
        hint = next(part for part in parts if part is not type(None))
    kind = get_origin(hint) or hint
    return kind if isinstance(kind, type) else type(kind)
