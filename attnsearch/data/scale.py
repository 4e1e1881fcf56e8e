"""One scale of brightness for a data set whose pictures hold more, or other, than bytes of 0..255.

A picture alone does not tell what white is, so the set is looked over first. The rule, for each type of number:

- white is a customary one where the set fills at least a quarter of it: 65,535 in unsigned sixteen bits, 255 or
  65,535 in wider integers, 1 or 255 in floats (the first that holds the set; black is 0);
- else, as for twelve bits in sixteen or for -1..1, the least and the greatest value of the set become 0 and 255;
- one pixel in a thousand at either end does not decide, and is clipped where it lies far beyond the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.data.dataset import BadImage, Pixels, Pool
from attnsearch.data.images import decode

Numbers = NDArray[Any]

TAIL = 1e-3  # share of the pixels at either end that does not decide
FAR = 1.5  # times the range without tails: from there on the tails are clipped
FILLED = 0.25  # of the way from black to a customary white
FEW = 64  # pixels, below which all of them decide
SURVEYED = 4096  # pictures looked at to learn the scale, evenly spaced over the set
SAMPLE = 2**22  # pixels kept of them


@dataclass(frozen=True)
class Scale:
    """These numbers become 0 and 255; what is beyond is clipped."""

    low: float
    high: float

    def to_bytes(self, values: Numbers) -> Pixels:
        half = (
            1.0 if np.isfinite(self.high - self.low) else 0.5
        )  # floats at both ends of what floats can hold
        low, high = self.low * half, self.high * half
        span = high - low
        parts = (np.asarray(values, np.float64) * half - low) * (255 / span if span > 0 else 0)
        scaled: Pixels = np.clip(np.rint(parts), 0, 255).astype(np.uint8)
        return scaled


@dataclass
class _Range:
    """What was seen of one type of number."""

    low: float = np.inf
    high: float = -np.inf
    sample: list[Numbers] = field(default_factory=list)

    def add(self, values: Numbers, keep: int) -> None:
        flat = values.reshape(-1)
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.sample.append(flat[:: max(1, -(-flat.size // keep))].astype(np.float64))

    def without_tails(self) -> tuple[float, float]:
        pixels = np.concatenate(self.sample)
        beyond = int(np.ceil(len(pixels) * TAIL)) if len(pixels) >= FEW else 0
        ordered = np.partition(pixels, (beyond, len(pixels) - 1 - beyond))
        return float(ordered[beyond]), float(ordered[len(pixels) - 1 - beyond])


class Scales:
    """The scales of a pool's types of numbers, each learnt when its first picture comes up."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, Scale] = {}
        self.notes: list[str] = []

    def to_bytes(self, path: str, values: Numbers) -> Pixels | BadImage:
        """A picture's numbers on the scale of its set; bytes are left as they are."""
        if values.dtype == np.uint8:
            return values
        if not np.isfinite(values).all():
            return BadImage(f"{path}: holds NaN or infinity")
        if _type(values) not in self._known:
            self._learn(_type(values))
        return self._known[_type(values)].to_bytes(values)

    def _learn(self, kind: str) -> None:
        seen = _survey(self._pool, kind, SURVEYED) or _survey(self._pool, kind, None)
        assert seen is not None, f"a picture of {kind} is in the pool"
        self._known[kind], note = choose(kind, (seen.low, seen.high), seen.without_tails())
        self.notes.append(note)


def _type(values: Numbers) -> str:
    return values.dtype.newbyteorder("=").name


def _survey(pool: Pool, kind: str, count: int | None) -> _Range | None:
    """The range of all pictures of this type, or of those among so many; None where there are none."""
    total = sum(len(labels) for labels in pool.labels.values())
    keep = max(256, SAMPLE // min(total, count or total))
    seen = _Range()
    for values in _numbers(pool, 1.0 if count is None else min(1.0, count / total)):
        if _type(values) == kind and values.size and np.isfinite(values).all():
            seen.add(values, keep)
    return seen if seen.sample else None


def _numbers(pool: Pool, share: float) -> Iterator[Numbers]:
    for part, labels in pool.labels.items():
        rows = np.linspace(0, len(labels) - 1, max(1, round(len(labels) * share))).astype(np.int64)
        for path, picture in pool.read(part, rows if len(labels) else rows[:0]):
            values = decode(path, picture) if isinstance(picture, bytes) else picture
            if not isinstance(values, BadImage):
                yield values


def choose(kind: str, ends: tuple[float, float], typical: tuple[float, float]) -> tuple[Scale, str]:
    """The scale and a sentence on it, from least and greatest value of the set, with and without its tails."""
    low, high = ends
    if typical[1] > typical[0] and high - low > FAR * (typical[1] - typical[0]):
        low, high = typical
    for white in _whites(kind):
        if typical[0] >= 0 and typical[1] <= white:
            if typical[1] - typical[0] >= FILLED * white:
                return Scale(0, white), _note(kind, 0, white, "", ends)
            break
    return Scale(low, high), _note(kind, low, high, ", the least and greatest of the data set,", ends)


def _whites(kind: str) -> tuple[int, ...]:
    if kind == "bool":
        return (1,)
    if kind == "uint16":
        return (65_535,)
    return (255, 65_535) if "int" in kind else (1, 255)


def _note(kind: str, low: float, high: float, which: str, ends: tuple[float, float]) -> str:
    clipped = "" if low <= ends[0] and ends[1] <= high else "; the few pixels beyond are clipped"
    return f"pictures of {kind}: {low:,.6g} to {high:,.6g}{which} become 0 to 255{clipped}"
