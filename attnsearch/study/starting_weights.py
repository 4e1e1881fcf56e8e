"""The weights that a study starts from: read once before anything is trained, reported, and stored with the study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attnsearch.core.checks import is_public
from attnsearch.core.errors import UsageError
from attnsearch.core.normalisation import CIFAR_SIDE, IMAGENET_SIDE, default_for
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import WeightsInfo
from attnsearch.data import Data, open_data
from attnsearch.space.arch import plain
from attnsearch.space.space import Space

LISTED = 20  # names of tensors that a study keeps of each kind


def prepared(space: Space, settings: Settings) -> Space:
    """The space on the data and with the recipe that are asked for, its normalisation settled.

    Weights bring their own: `auto` is ImageNet's for hosts with an ImageNet stem, CIFAR's where a CIFAR stem comes with
    a head of its classes, and the data's own elsewhere.
    """
    space = space.on(settings.data).with_recipe(settings.recipe())
    weights = settings.weights or space.weights
    if not weights:
        return space
    if space.recipe.normalise == "auto":
        space = space.with_recipe({"normalise": _own_convention(weights, space)})
    if settings.weights:  # what was measured of the recipe was measured without them
        space = replace(space, convergence=None)
    return replace(space, weights=weights)


def _own_convention(weights: str, space: Space) -> str:
    """How the images were normalised that the weights saw, where their name says it; else by their stem and head."""
    if is_public(weights):
        from attnsearch.build.hub_weights import normalisation

        if word := normalisation(weights):
            return word
    stem = str(space.host.filled().stem)
    if stem != "cifar":
        return default_for(stem)
    from attnsearch.build.checkpoint import read_checkpoint
    from attnsearch.build.host_weights import ends_of

    return default_for(stem, *ends_of(read_checkpoint(weights)))


def sized(space: Space, settings: Settings) -> Settings:
    """The settings with the image size that the space's weights were made for, unless one is asked for."""
    if not space.weights or settings.image_size is not None or space.host.module:
        return settings
    if space.host.filled().stem != "cifar":
        return replace(settings, image_size=IMAGENET_SIDE)
    image = open_data(settings.data, **settings.data_options()).image
    return settings if max(image[1:]) <= CIFAR_SIDE else replace(settings, image_size=CIFAR_SIDE)


def weights_info(space: Space, settings: Settings, data: Data) -> WeightsInfo | None:
    """What a study keeps of its weights: file, hash, and what became of every tensor; None without weights.

    Raises:
        UsageError: the file cannot be read, or is of another host; nothing has been written then.
    """
    if not space.weights:
        return None
    from attnsearch.build.checkpoint import read_checkpoint
    from attnsearch.build.host_weights import identify, load_host
    from attnsearch.build.network import build_network

    weights = identify(space.weights)
    model = build_network(plain(space.host), classes=len(data.classes), in_channels=data.image[0])
    report = load_host(model, read_checkpoint(weights.path), space.host)
    return WeightsInfo(
        weights.path,
        weights.sha256,
        outside=bool(settings.weights),
        text=str(report),
        loaded=len(report.loaded),
        missing=report.missing[:LISTED],
        unexpected=report.unexpected[:LISTED],
        mismatched=report.mismatched[:LISTED],
    )


def described(info: WeightsInfo, space: Space, image: tuple[int, ...]) -> list[str]:
    """Sentences on the weights for the user before training, and how it may be changed.

    Args:
        image: (C, H, W) that is trained on.
    """
    recipe = space.recipe
    head = "" if recipe.head_lr == 1 else f" ({recipe.head_lr:g} times that for the head)"
    frozen = "nothing frozen" if recipe.freeze == "none" else f"freeze: {_words(recipe.freeze)}"
    return [
        f"weights {info.path}: {info.text}",
        f"fine-tuning: {recipe.epochs} epochs, peak rate {recipe.lr:g}{head}, {frozen}, norms: {recipe.norm}; "
        "the recipe of the space, --epochs, --lr and --freeze change it",
        _size(space, image),
        f"images are normalised by {_convention(recipe.normalise)}; recipe: {{normalise: ...}} changes it",
    ]


def check_same(name: str, before: WeightsInfo | None, now: WeightsInfo | None) -> None:
    """Refuse to go on with other weights than a study began with."""
    was, new = (None if info is None else info.sha256 for info in (before, now))
    if was != new:
        then, here = ((value or "none")[:12] for value in (was, new))
        raise UsageError(
            f"the weights have changed since study '{name}' began: SHA-256 {then}, now {here}. Use another --study"
        )


def _size(space: Space, image: tuple[int, ...]) -> str:
    """The size of the images, and why."""
    side = CIFAR_SIDE if space.host.filled().stem == "cifar" else IMAGENET_SIDE
    why = "" if space.host.module else f"; weights of this stem were made for {side}×{side}"
    return f"images are {image[1]}×{image[2]} pixels{why}; --image-size and --resize change it"


def _convention(word: str) -> str:
    if word in ("data", "auto"):
        return "the data's own mean and standard deviation"
    return f"{word}'s mean and standard deviation" if "/" not in word else word


def _words(freeze: Any) -> str:
    return freeze if isinstance(freeze, str) else f"stages {', '.join(map(str, freeze))} and the stem"


__all__ = ["check_same", "described", "prepared", "sized", "weights_info"]
