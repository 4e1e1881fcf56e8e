"""Images sent to another machine: train and val as arrays, kept there in the cache under their fingerprint.

The test split is never sent: it stays behind `open_test` on the machine that owns the study.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.data.dataset import Data, Labels, Pixels
from attnsearch.data.open import data_of
from attnsearch.data.store import Prepared, cached, fetch

SPLITS = ("train", "val")


@dataclass(frozen=True, eq=False)
class Shipment:
    """A data set without its test split: what `Data` says of it, and arrays (N, H, W, C) with class numbers (N,)."""

    fingerprint: str
    meta: dict[str, Any]
    arrays: dict[str, tuple[Pixels, Labels]]


def pack(data: Data) -> Shipment:
    """What a machine needs to train on `data`."""
    meta = {
        "classes": list(data.classes),
        "image": list(data.image),
        "augment": list(data.augment),
        "mean": list(data.mean),
        "std": list(data.std),
        "counts": {name: dict(data.counts[name]) for name in SPLITS},
        "own_val": data.own_val,
        "groups": data.groups
        and {name: rows.tolist() for name, rows in data.groups.items() if name in SPLITS},
        "note": data.note,
        "warnings": list(data.warnings),
        "ignored": data.ignored,
        "bad": [],
    }
    arrays = {
        name: (np.ascontiguousarray(split.images.transpose(0, 2, 3, 1)), np.ascontiguousarray(split.labels))
        for name, split in (("train", data.train), ("val", data.val))
    }
    return Shipment(data.fingerprint, meta, arrays)


def is_here(fingerprint: str, cache: str | Path | None = None) -> bool:
    """Whether this machine's cache holds the shipment already."""
    return cached(_key(fingerprint), cache) is not None


def unpack(shipment: Shipment, cache: str | Path | None = None) -> None:
    """Write a shipment into this machine's cache, once, for all processes to map.

    Raises:
        EnvironmentFault: a chosen cache folder that cannot be written.
    """

    def make(folder: Path | None) -> Prepared:
        if folder is None:
            return Prepared(shipment.meta, None, shipment.arrays)
        for name, (images, labels) in shipment.arrays.items():
            np.save(folder / f"{name}.npy", images)
            np.save(folder / f"{name}.labels.npy", labels)
        return Prepared(shipment.meta, folder)

    fetch(_key(shipment.fingerprint), make, cache)


def open_shipped(name: str, fingerprint: str, cache: str | Path | None = None) -> Data:
    """The data set that `unpack` kept; KeyError where there is none."""
    prepared = cached(_key(fingerprint), cache)
    if prepared is None:
        raise KeyError(fingerprint)
    return data_of(name, prepared, fingerprint)


def _key(fingerprint: str) -> str:
    return f"{fingerprint}-shipped"
