"""Which dtype trains faster on a device: measured once for a machine, remembered in the cache folder.

bfloat16 halves what passes through memory, and pays only where a device multiplies it by instructions of its own. The
answer decides the numbers of every trial, so it is taken once: the first process to measure writes it down, all others
and all later runs read it. A recipe's `precision` overrides it; without a cache folder, instructions alone decide.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from attnsearch.core.machine import device_name
from attnsearch.core.trial import Dtype
from attnsearch.data.files import digest
from attnsearch.data.store import cache_folder

REPEATS = 5
PAYS = 0.9  # of the float32 time: bfloat16 rounds, so it has to earn its place


@dataclass(frozen=True)
class Calibration:
    """Milliseconds of a small training step in each dtype on a device; None where bfloat16 was not timed."""

    device: str
    float32_ms: float | None
    bfloat16_ms: float | None
    dtype: Dtype


def best(device: torch.device | str) -> torch.dtype:
    """The dtype that `precision: auto` means on this device."""
    return torch.bfloat16 if calibrate(device).dtype == "bfloat16" else torch.float32


def calibrate(device: torch.device | str, folder: Path | None = None) -> Calibration:
    """What was measured on this device, measuring it if nobody has; `folder` is the cache's own when None."""
    place = torch.device(device)
    return _calibrated(place.type, place.index or 0, folder or cache_folder()[0])


@cache
def _calibrated(kind: str, index: int, folder: Path) -> Calibration:
    device = torch.device(kind, index) if kind != "cpu" else torch.device(kind)
    name = _name(device)
    if not _has_instructions(device):
        return Calibration(name, None, None, "float32")
    path = folder / "precision" / f"{digest(name, torch.__version__)}.json"
    known = _read(path)
    if known is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # without a place to remember it, two workers might measure two answers
        return Calibration(name, None, None, "bfloat16")
    return _write_first(path, _measure(device, name))


def _measure(device: torch.device, name: str) -> Calibration:
    """Median of CPU time on a CPU, where a neighbour may take the core away; of wall time elsewhere."""
    steps = {dtype: _step(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    taken: dict[torch.dtype, list[float]] = {dtype: [] for dtype in steps}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(1)  # as a worker has
        try:
            for turn in range(REPEATS + 1):
                for dtype, step in steps.items():
                    began = clock()
                    step()
                    if turn:  # the first warms up
                        taken[dtype].append(1e3 * (clock() - began))
        finally:
            torch.set_num_threads(threads)
    single, half = (statistics.median(times) for times in taken.values())
    return Calibration(name, single, half, "bfloat16" if half <= PAYS * single else "float32")


def _step(device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward through three convolutions of a CIFAR ResNet's first stages."""
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        ).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(64, 3, 32, 32).to(device=device, memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = model(x)
        loss = F.mse_loss(y.float(), torch.zeros_like(y, dtype=torch.float32))
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _has_instructions(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":  # nothing is known of it
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _name(device: torch.device) -> str:
    name = device_name(device)
    return name if device.type == "cuda" else f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _read(path: Path) -> Calibration | None:
    try:
        found = Calibration(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.dtype in ("float32", "bfloat16") else None


def _write_first(path: Path, found: Calibration) -> Calibration:
    """Write it down unless another process has: then that one's answer holds."""
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
        if _read(path) is None and path.exists():
            path.unlink()  # damaged
        try:
            os.link(partial, path)  # fails if it exists, where a rename would replace it
        finally:
            partial.unlink()
    except OSError:
        return _read(path) or found
    return found
