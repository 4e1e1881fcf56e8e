"""The data sets known by name, which need not be opened to be known; `data/open.py` has how each is opened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before it is opened: `image` is (C, H, W)."""

    image: tuple[int, int, int]
    classes: int


DATA_SETS = {
    "cued-digits": DataSet((3, 20, 20), 10),
    "cluttered-digits": DataSet((3, 32, 32), 10),
    "digits": DataSet((1, 8, 8), 10),
    "cifar10": DataSet((3, 32, 32), 10),
    "cifar100": DataSet((3, 32, 32), 100),
}
