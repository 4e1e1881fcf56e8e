"""Costs: each with its unit and the direction that is better, and upper bounds on them. Plain values, no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from attnsearch.core.errors import UsageError, unknown


@dataclass(frozen=True)
class CostInfo:
    """What a column of numbers says.

    Args:
        title: what it is called in a heading; convention: how it is counted, where the title does not say it.
        unit: stands behind a value. better: the direction of progress.
        limitable: counted before training, for every arch of a space; may be an axis and have a limit.
    """

    name: str
    title: str
    convention: str
    unit: str
    better: Literal["lower", "higher"]
    description: str
    limitable: bool = True


COSTS: dict[str, CostInfo] = {
    info.name: info
    for info in (
        CostInfo(
            "params",
            "parameters",
            "",
            "parameters",
            "lower",
            "Elements of all parameters; buffers are left out.",
        ),
        CostInfo(
            "macs",
            "MACs",
            "1 multiply-add = 1",
            "multiply-adds",
            "lower",
            "Products of convolutions and matrices; 1 multiply-add is 1 MAC.",
        ),
        CostInfo(
            "flops",
            "FLOPs",
            "2 x MACs + element-wise",
            "operations",
            "lower",
            "2 x MACs + element-wise work, one operation per element.",
        ),
        CostInfo(
            "activations",
            "activations",
            "elements",
            "elements",
            "lower",
            "Output elements of convolutions and matrix products.",
        ),
        CostInfo(
            "bytes_moved",
            "bytes moved",
            "no operation fused",
            "bytes",
            "lower",
            "Bytes that every operation reads and writes, none fused.",
        ),
        CostInfo(
            "fvcore",
            "fvcore total",
            "its own convention",
            "fvcore flops",
            "lower",
            "FlopCountAnalysis.total(); 1 MAC is 1 fvcore flop.",
            limitable=False,
        ),
        CostInfo(
            "latency_ms",
            "latency",
            "ms",
            "ms",
            "lower",
            "Median time of one forward pass, measured on a device.",
            limitable=False,
        ),
        CostInfo(
            "memory_mb",
            "memory",
            "MB",
            "MB",
            "lower",
            "Peak memory of one pass; 1 MB is 10^6 bytes.",
            limitable=False,
        ),
    )
}
LIMITED = tuple(name for name, info in COSTS.items() if info.limitable)


@dataclass(frozen=True)
class Limit:
    """An upper bound on a cost; `relative` bounds are times the baseline's."""

    cost: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        return f"{self.cost}<={self.value:g}{'x' if self.relative else ''}"


def within(costs: Any, bound: float) -> Any:
    """Whether a cost, or each of an array of them, keeps a bound; sums of floats may be off by their last bits."""
    return costs <= bound * (1 + 1e-12)


def parse_limits(text: str) -> tuple[Limit, ...]:
    """`params<=1.2x,macs<=60M` as limits; raises `UsageError`."""
    limits = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*<=\s*(\S+)", part)
        if match is None:
            raise UsageError(f"Cannot read the limit '{part}': write for example params<=1.2x,macs<=60M")
        limits.append(read_limit(match[1], match[2]))
    return tuple(limits)


def read_limit(cost: str, text: str) -> Limit:
    """The bound `1.2x`, `60M` or `250000` on a cost; raises `UsageError`."""
    if cost not in LIMITED:
        raise UsageError(unknown("cost of a limit", cost, LIMITED))
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([kKMGx]?)", str(text).strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"Cannot read the limit '{text}' of {cost}: write for example 1.2x, 60M or 250000")
    scale = {"": 1, "x": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]]
    return Limit(cost, float(match[1]) * scale, relative=match[2] == "x")
