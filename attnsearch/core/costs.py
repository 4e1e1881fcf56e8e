"""Names of the costs, each with its unit and the direction that is better. Plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CostInfo:
    """What a column of numbers says: `unit` stands behind a value, `better` is the direction of progress."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    description: str


COSTS: dict[str, CostInfo] = {
    info.name: info
    for info in (
        CostInfo("params", "parameters", "lower", "Elements of all parameters; buffers are left out."),
        CostInfo(
            "macs",
            "multiply-adds",
            "lower",
            "Products of convolutions and matrices; 1 multiply-add is 1 MAC.",
        ),
        CostInfo("flops", "operations", "lower", "2 x MACs + element-wise work, one operation per element."),
        CostInfo("activations", "elements", "lower", "Output elements of convolutions and matrix products."),
        CostInfo("bytes_moved", "bytes", "lower", "Bytes that every operation reads and writes, none fused."),
        CostInfo("fvcore", "fvcore flops", "lower", "FlopCountAnalysis.total(); 1 MAC is 1 fvcore flop."),
        CostInfo("latency_ms", "ms", "lower", "Median time of one forward pass, measured on a device."),
        CostInfo("memory_mb", "MB", "lower", "Peak memory of one pass; 1 MB is 10^6 bytes."),
    )
}
