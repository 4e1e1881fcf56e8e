"""How many trials an hour, against the script that one would write instead, and where the time goes.

    python -m benchmarks.speed.throughput [--parts side,busy,accuracy,step,gates,fused,shares,workers,...]
                                    [--data NAME] [--host resnet20] [--rounds 3] [--images N] [--json FILE]

Both sides train the same archs on the same images by the same schedule, in turns (script, attnsearch, script, ...),
each in processes of its own under this one. A figure is the median over turns or steps, with the smallest and the
largest; where a target is named and missed, what limits the figure stands below it.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import overhead, steps, trials
from benchmarks.speed.trials import Figures, in_process

PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "side": trials.side,
    "busy": trials.busy,
    "accuracy": trials.accuracy,
    "workers": trials.workers,
    "step": steps.step,
    "gates": steps.gates,
    "fused": steps.fused,
    "shares": steps.shares,
    "stacked": steps.stacked,
    "overhead": overhead.overhead,
    "startup": overhead.startup,
    "memory": overhead.memory,
}
ALONE = ("step", "gates", "fused", "shares", "stacked")  # measured in one process that has a worker's memory

# Part, beginning of a figure's name, comparison, bound, and what keeps it from the bound where it is missed.
Target = tuple[str, str, str, float, str]
TARGETS: tuple[Target, ...] = (
    ("side", "times faster by wall", ">=", 2.5, ""),
    ("busy", "times faster by wall", ">=", 5.0, "one core of two is the neighbour's for half the time"),
    ("workers", "two workers / one", ">=", 1.85, "memory bandwidth, which the cores share; or a neighbour"),
    ("step", "float32: a step /", ">=", 0.65, "norms and additions wait for memory"),
    (
        "step",
        "bfloat16: a step /",
        ">=",
        0.65,
        "its convolutions alone do not reach it: 16 to 64 channels fill no tile of matrix units",
    ),
    ("step", "float32: CBAM", "<=", 1.35, "each gate reads and writes its map several times"),
    ("step", "bfloat16: CBAM", "<=", 1.35, "each gate reads and writes its map several times"),
    ("gates", "bam", "<=", 2.0, "channel times spatial logits make a whole map, of which a sigmoid is taken"),
    ("gates", "sge", "<=", 2.0, "similarities to the mean make a whole map, and so do the weights"),
    (
        "gates",
        "ema",
        "<=",
        2.0,
        "channel groups as images of their own: copies, and convolutions of 2 channels",
    ),
    ("gates", "gam", "<=", 2.0, "1.4 times the MACs, in 7x7 convolutions from and to one hidden channel"),
    (
        "gates",
        "nonlocal",
        "<=",
        2.0,
        "2.5 times the MACs, and 1,024 x 1,024 scores an image at 32 x 32 pixels",
    ),
    ("gates", "triplet", "<=", 2.0, "a sum of three gates makes a whole map"),
    ("gates", "", "<=", 2.0, ""),
    ("overhead", "coordinator: share", "<=", 2.0, ""),
    ("startup", "--help", "<=", 0.3, "Python's own start and imports"),
    (
        "startup",
        "report",
        "<=",
        2.0,
        "for the files, importing scikit-learn and drawing",
    ),
    (
        "startup",
        "counting",
        "<=",
        1.0,
        "importing sympy and torch._dynamo, with which torch works out shapes",
    ),
    ("startup", "cost of", "<=", 1.0, "importing torch"),
    ("memory", "growth", "<=", 10.0, ""),
)


def target(part: str, name: str) -> Target | None:
    """The target that a figure has; CPU time and a neighbour's presence have none of their own."""
    if part == "workers" and "neighbour" in name:
        return None
    return next((t for t in TARGETS if t[0] == part and name.startswith(t[1])), None)


def line(part: str, name: str, values: list[float]) -> str:
    """`name  median [smallest, largest] n  target, met or not`, and below it what limits a figure that missed."""
    middle = statistics.median(values)
    text = f"  {name:<66} {middle:>9,.3g}"
    if len(values) > 1:
        text += f"  [{min(values):,.3g}, {max(values):,.3g}] n={len(values)}"
    aim = target(part, name)
    if aim is None:
        return text
    _, _, sign, bound, limit = aim
    met = {">=": operator.ge, "<=": operator.le}[sign](middle, bound)
    text += f"  target {sign} {bound:g}: {'met' if met else 'missed'}"
    return text if met or not limit else f"{text}\n      limited by: {limit}"


def machine() -> dict[str, Any]:
    import numpy
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((text.split(":")[1].strip() for text in lines if text.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Trials per hour, and where the time goes.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data", default="cluttered-digits")
    parser.add_argument("--host", default="resnet20")
    parser.add_argument("--rounds", type=int, default=3, help="turns of script and attnsearch")
    parser.add_argument("--epochs", type=int, default=1, help="of `side`; accuracies take four times as many")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=4096, help="of `side`; accuracies take half of them")
    parser.add_argument("--seeds", type=int, default=5, help="of the accuracies")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--trials", type=int, default=100, help="of the memory test")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "arguments": {**vars(args), "json": None}}
    for name, value in found["machine"].items():
        print(f"{name}: {value}")
    for part in args.parts.split(","):
        began = time.perf_counter()
        alone = part in ALONE
        found[part] = in_process(PARTS[part], args, as_worker=True) if alone else PARTS[part](args)
        print(f"\n{part} ({time.perf_counter() - began:.0f} s)")
        for name, values in found[part].items():
            print(line(part, name, values), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
