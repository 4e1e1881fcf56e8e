"""How images become numbers: (x / 255 - mean) / std per channel, by a convention's name or by stated values."""

from __future__ import annotations

import math

from attnsearch.core.errors import UsageError, unknown

Convention = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation per channel of 0..1

# Published weights were trained with these; `data` and `auto` stand beside them.
CONVENTIONS: dict[str, Convention] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's and most of timm's
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # Inception's, and timm's for some ResNets
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
WORDS = ("auto", "data", *CONVENTIONS)


def convention(text: str, channels: int | None = None) -> Convention | None:
    """Mean and standard deviation of a word or of `0.5,0.5,0.5/0.2,0.2,0.2`; None for the data's own.

    Args:
        channels: of the images; None leaves their number unchecked.

    Raises:
        UsageError: an unknown word, or numbers that are not one pair for each channel.
    """
    if text in ("data", "auto"):
        return None
    if text in CONVENTIONS:
        found = CONVENTIONS[text]
        if channels not in (None, len(found[0])):
            raise UsageError(f"--normalise {text} is for images of 3 channels, these have {channels}")
        return found
    mean, slash, std = text.partition("/")
    if not slash:
        raise UsageError(f"{unknown('normalisation', text, WORDS)}, or MEAN,MEAN,MEAN/STD,STD,STD")
    numbers = tuple(_numbers(part, text) for part in (mean, std))
    count = channels or len(numbers[0])
    if any(len(row) != count for row in numbers) or min(numbers[1]) <= 0:
        raise UsageError(
            f"--normalise {text}: expected {count} means and {count} standard deviations above 0"
        )
    return numbers[0], numbers[1]


CIFAR_SIDE, IMAGENET_SIDE = 32, 224  # pixels of the images that published weights of these stems have seen


def default_for(stem: str, channels: int | None = None, classes: int | None = None) -> str:
    """What `auto` is for weights of a host with this stem: networks of photos are trained with ImageNet's numbers.

    Args:
        channels, classes: that the weights themselves take and give; with a CIFAR stem they tell whose numbers theirs
            are.
    """
    if stem != "cifar":
        return "imagenet"
    return {10: "cifar10", 100: "cifar100"}.get(classes or 0, "data") if channels == 3 else "data"


def _numbers(part: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(number) for number in part.split(","))
    except ValueError:
        raise UsageError(f"--normalise {text}: expected numbers with commas between") from None
    if not all(map(math.isfinite, values)):
        raise UsageError(f"--normalise {text}: expected finite numbers")
    return values


__all__ = ["CIFAR_SIDE", "CONVENTIONS", "IMAGENET_SIDE", "WORDS", "Convention", "convention", "default_for"]
