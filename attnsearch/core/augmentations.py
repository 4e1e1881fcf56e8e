"""Augmentations by name: what each does, where it is defined, and the one number that a recipe may set. No torch.

augment: [flip, random_resized_crop]      # each as it is defined
augment: [flip, color_jitter=0.2, mixup]  # with a number of one's own

They are applied in the order of the table, whatever theirs in the recipe; that of `flip`, `crop` and `cutout` is as it
was before there were others, since it decides what a seed draws. `train.augment` has what they compute, under the same
names, and what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from attnsearch.core.errors import UsageError, unknown


@dataclass(frozen=True)
class Augmentation:
    """One row.

    Args:
        name: in recipes. meaning: what happens to every image, each for itself.
        source: of the definition.
        strength: the number where a recipe names none; None where there is none to set.
        number: what it is; least, most: its bounds.
        off: the number at which nothing happens.
    """

    name: str
    meaning: str
    source: str
    strength: float | None = None
    number: str = ""
    least: float = 0.0
    most: float = 1.0
    off: float = 0.0

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name}={self.strength:g}"


AUGMENTATIONS: dict[str, Augmentation] = {
    row.name: row
    for row in (
        Augmentation("flip", "mirrored left to right, with even odds", "Krizhevsky et al. 2012"),
        Augmentation(
            "crop", "shifted by up to an eighth of its side each way, black beside it", "He et al. 2016"
        ),
        Augmentation(
            "random_resized_crop",
            "a rectangle of a random share of the area and of sides 3:4 to 4:3, scaled to the whole image",
            "Szegedy et al. 2015, as RandomResizedCrop of torchvision",
            0.08,
            "least share of the area",
            least=0.01,
            off=1.0,
        ),
        Augmentation(
            "trivial_augment",
            "one of 14 operations (shear, shift, rotation, colour, ...) at a random one of 31 strengths",
            "Müller and Hutter 2021 (arXiv:2103.10158), as TrivialAugmentWide of torchvision",
            1.0,
            "largest strength, as a share of the definition's",
        ),
        Augmentation(
            "color_jitter",
            "brightness, contrast and saturation times 1 - s to 1 + s, hue shifted by up to s / 4, in random order",
            "Howard 2013 (arXiv:1312.5402), as ColorJitter(s, s, s, s / 4) of torchvision",
            0.4,
            "s",
        ),
        Augmentation(
            "cutout",
            "a square of a quarter of its side blackened, centred anywhere",
            "DeVries and Taylor 2017 (arXiv:1708.04552)",
        ),
        Augmentation(
            "random_erasing",
            "a rectangle of 2 to 33 % of the area filled with noise",
            "Zhong et al. 2020 (arXiv:1708.04896)",
            0.5,
            "probability",
        ),
        Augmentation(
            "mixup",
            "mixed with another of its batch, as its label is, in shares drawn from Beta(a, a)",
            "Zhang et al. 2018 (arXiv:1710.09412)",
            0.2,
            "a",
            most=100.0,
        ),
        Augmentation(
            "cutmix",
            "a rectangle replaced by another's of its batch, and the label in the same share, drawn from Beta(a, a)",
            "Yun et al. 2019 (arXiv:1905.04899)",
            1.0,
            "a",
            most=100.0,
        ),
    )
}
MIXES = ("mixup", "cutmix")  # change labels too; with both, each image takes one of them with even odds


def parse(text: str) -> tuple[Augmentation, float | None]:
    """`color_jitter=0.2` as its row and number; the table's own number where none is written.

    Raises:
        UsageError: no such augmentation, or a number that it cannot take.
    """
    name, equals, number = str(text).partition("=")
    row = AUGMENTATIONS.get(name.strip())
    if row is None:
        raise UsageError(unknown("augmentation", name.strip(), AUGMENTATIONS))
    if not equals:
        return row, row.strength
    if row.strength is None:
        raise UsageError(f"augmentation {row.name} takes no number, got '{text}'")
    value = _number(number)
    if not row.least <= value <= row.most:
        raise UsageError(
            f"augmentation {row.name}: {row.number} must be from {row.least:g} to {row.most:g}, got '{number.strip()}'"
        )
    return row, value


def chosen(names: Iterable[str]) -> dict[str, float | None]:
    """The number of every augmentation that does anything, by name in the table's order; None where there is none."""
    numbers = {row.name: number for row, number in map(parse, names) if number is None or number != row.off}
    return {name: numbers[name] for name in AUGMENTATIONS if name in numbers}


def check(values: tuple[object, ...]) -> str:
    """What is wrong with a recipe's list, or an empty string."""
    names = []
    for value in values:
        try:
            names.append(parse(str(value))[0].name)
        except UsageError as error:
            return str(error)
    twice = next((name for name in names if names.count(name) > 1), "")
    return f"augmentation {twice} is named twice" if twice else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # within no bounds


__all__ = ["AUGMENTATIONS", "MIXES", "Augmentation", "check", "chosen", "parse"]
