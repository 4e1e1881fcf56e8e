"""Values in a space file: what is wrong with one of a recipe, and the forms of a block that lists of options make."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from attnsearch.blocks import registry
from attnsearch.core import augmentations
from attnsearch.core.checks import positive, whole
from attnsearch.core.choices import CLASS_WEIGHTS
from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.metrics import check_metric
from attnsearch.core.normalisation import convention

_RECIPE_WORDS = {
    "optimizer": ("sgd", "adamw"),
    "precision": ("auto", "float32", "bfloat16"),
    "norm": ("train", "frozen"),
    "class_weights": tuple(CLASS_WEIGHTS),
}
# Numbers of a recipe from 0 on, and what they must stay below.
_SHARES = {"momentum": 1, "weight_decay": math.inf, "warmup": 1, "label_smoothing": 1, "ema": 1}


def truth_value(value: bool, meant: str) -> str:
    """What to say of a word that YAML reads as true or false."""
    written = "yes, on and true" if value else "no, off and false"
    return f"{written} are truth values in YAML; write {meant}, or quote the word"


def recipe_problem(key: str, value: Any) -> str:
    """What is wrong with one value of a recipe, or an empty string."""
    if value is None and key in ("augment", "train_images"):
        return ""  # what the data set states as safe; all of its images
    if check := {"epochs": whole, "batch_size": whole, "train_images": whole, "lr": positive}.get(key):
        try:
            check(repr(value) if isinstance(value, str) else value)  # text is no number in a file
        except ValueError as error:
            return f"{key} {error}"
        return ""
    if key in _SHARES:
        right = is_number(value) and 0 <= value < _SHARES[key]
        return "" if right else f"{key} must be a number from 0 to below {_SHARES[key]}, got {value!r}"
    if key in ("resplit", "decay_blocks"):
        return "" if isinstance(value, bool) else f"{key} must be true or false, got {value!r}"
    if key == "head_lr":
        right = is_number(value) and 0 < value < math.inf
        return "" if right else f"{key} must be a positive finite number, got {value!r}"
    if key == "normalise":
        return _problem(convention, value)
    if key == "metric":
        return _problem(check_metric, value)
    if key == "freeze":
        return _freeze_problem(value)
    if key in _RECIPE_WORDS:
        return "" if value in _RECIPE_WORDS[key] else unknown(key, value, _RECIPE_WORDS[key])
    if not isinstance(value, tuple):
        return f"{key} must be a list of {', '.join(augmentations.AUGMENTATIONS)}, got {value!r}"
    return augmentations.check(value)


def _problem(check: Callable[[str], object], value: Any) -> str:
    try:
        check(str(value))
    except UsageError as error:
        return str(error)
    return ""


def _freeze_problem(value: Any) -> str:
    words = ("none", "stem", "host")
    stages = isinstance(value, tuple) and all(type(stage) is int and stage >= 1 for stage in value)
    return (
        "" if stages or value in words else f"{unknown('freeze', value, words)}, or a list of stages from 1"
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_built(option: registry.Option, node: Any) -> Any:
    """The value a constructor takes for what a file says: `3-5-7` and lists are tuples, 1 may stand for 1.0."""
    if "tuple" in option.type:
        if isinstance(node, str) and re.fullmatch(r"\d+(-\d+)*", node):
            return tuple(int(part) for part in node.split("-"))
        return tuple(node) if isinstance(node, list) else node
    return float(node) if "float" in option.type and type(node) is int else node


def combinations(
    axes: Mapping[str, tuple[list[Any], Mapping[str, Any]]], left_out: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The product of all axes; an option whose `when` does not hold is left out, and so asked only under it.

    Args:
        left_out: value of every option that a combination does not name.
    """
    free = {key: values for key, (values, when) in axes.items() if not when}
    asked = {key: pair for key, pair in axes.items() if pair[1]}
    out = [dict(zip(free, row, strict=True)) for row in itertools.product(*free.values())]
    for key, (values, when) in asked.items():
        grown = []
        for row in out:
            holds = all({**left_out, **row}[other] in wanted for other, wanted in when.items())
            grown.extend([{**row, key: value} for value in values] if holds else [row])
        out = grown
    return out


__all__ = ["as_built", "combinations", "is_number", "recipe_problem", "truth_value"]
