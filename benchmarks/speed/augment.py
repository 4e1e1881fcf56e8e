"""What every augmentation costs: images a second on one thread, beside kornia's where that is installed.

    python -m benchmarks.speed.augment [--turns 9] [--json FILE]

CPU time, median over turns in which all take part one after the other. `normalise` is what every batch pays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from attnsearch.core.augmentations import AUGMENTATIONS, MIXES
from attnsearch.data.batches import normalise
from attnsearch.train.augment import augment, mix

BATCHES = {32: 256, 224: 32}  # side in pixels: images
PHOTOGRAPHS = ("random_resized_crop", "flip", "color_jitter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = {side: rates(side, count, args.turns) for side, count in BATCHES.items()}
    names = list(figures[32])
    print(f"{'images a second':34}" + "".join(f"{side:>10} px" for side in figures))
    for name in names:
        print(f"{name:34}" + "".join(f"{figures[side][name]:13,.0f}" for side in figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def rates(side: int, count: int, turns: int) -> dict[str, float]:
    """Images a second by name, the median over turns."""
    draws = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (count, 3, 8, 8), generator=draws).float()
    images = torch.nn.functional.interpolate(small, (side, side), mode="bilinear").to(torch.uint8)
    images = images.to(memory_format=torch.channels_last)
    runs = {**ours(images, draws), **kornias(images)}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if turn:  # the first warms up
                taken[name].append(time.process_time() - began)
    return {name: count / statistics.median(times) for name, times in taken.items()}


def ours(images: Tensor, draws: torch.Generator) -> dict[str, Callable[[], object]]:
    labels = torch.arange(len(images)) % 10

    def run(names: tuple[str, ...]) -> Callable[[], object]:
        if set(names) & set(MIXES):
            return lambda: mix(images, labels, names, draws, 10)
        return lambda: augment(images, names, draws)

    alone: dict[str, Callable[[], object]] = {name: run((name,)) for name in AUGMENTATIONS}
    mean = (0.5, 0.5, 0.5)
    normal = {"normalise": lambda: normalise(images, mean, mean)}
    return {**normal, **alone, "+".join(PHOTOGRAPHS): run(PHOTOGRAPHS)}


def kornias(images: Tensor) -> dict[str, Callable[[], object]]:
    """The same by kornia on its own kind of images, float32 of 0 to 1; nothing where it is not installed."""
    try:
        from kornia import augmentation as k
    except ImportError:
        return {}
    side = images.shape[-1]
    x = (images.float() / 255).contiguous()
    made = {
        "flip": k.RandomHorizontalFlip(),
        "random_resized_crop": k.RandomResizedCrop((side, side), scale=(0.08, 1.0)),
        "color_jitter": k.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0),
        "trivial_augment": k.auto.TrivialAugment(),
        "random_erasing": k.RandomErasing(),
    }
    made["+".join(PHOTOGRAPHS)] = torch.nn.Sequential(*(made[name] for name in PHOTOGRAPHS))
    return {f"kornia: {name}": lambda change=change: change(x) for name, change in made.items()}  # type: ignore[misc]


if __name__ == "__main__":
    main()
