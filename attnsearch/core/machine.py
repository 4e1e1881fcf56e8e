"""What there is to train with: devices, cores, and the versions that numbers may depend on."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.core.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    import torch


PER_GPU = 4  # workers on one by default; how many fill it was never measured


def pick_devices(device: str, engine: str = "local") -> list[str]:
    """`auto`, `cpu`, `cuda`, `mps` or a list like `cuda:0,cuda:1` as torch device names; a cluster picks its own.

    Raises `UsageError` for any other word, `EnvironmentFault` for a device that is not there.
    """
    if engine != "local":
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device on a cluster is auto, cpu or cuda, got '{device}'")
        return [f"{engine}: {device}"]
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return ["cpu"]
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise EnvironmentFault(f"MPS not available (torch {torch.__version__}); use --device cpu")
        return ["mps"]
    if not all(part.split(":")[0] == "cuda" for part in device.split(",")):
        raise UsageError(f"Unknown device '{device}': use auto, cpu, cuda, mps or cuda:0,cuda:1")
    if not torch.cuda.is_available():
        raise EnvironmentFault(
            f"CUDA not available (torch {torch.__version__}); use --device cpu or install a CUDA build of torch"
        )
    count = torch.cuda.device_count()
    names = [f"cuda:{i}" for i in range(count)] if device == "cuda" else device.split(",")
    for name in names:
        if not name.partition(":")[2].isdigit() or int(name.partition(":")[2]) >= count:
            raise EnvironmentFault(f"no device '{name}' here; there are {count}: cuda:0 to cuda:{count - 1}")
    return names


def device_name(device: torch.device) -> str:
    """What a person calls the device: `NVIDIA H200`, or the processor's model."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):  # no Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_count() -> int:
    """How many GPUs torch sees; none is an `EnvironmentFault`."""
    import torch

    if not torch.cuda.is_available():
        raise EnvironmentFault(
            f"CUDA not available (torch {torch.__version__}); --workers takes a number here"
        )
    return torch.cuda.device_count()


def worker_count(asked: int | None, trainings: int, devices: Sequence[str]) -> int:
    """The workers asked for, else one for each core, as far as there are trainings for them; on GPUs at most 4 a card.

    A process holds half a gigabyte of a card before its first network is there.
    """
    on_gpus = devices[0].startswith(("cuda", "mps"))
    most = min(cores(), PER_GPU * len(devices)) if on_gpus else cores()
    return asked or max(1, min(most, trainings))


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores whose time this process may use, at least one.

    A container that is allowed the time of 2 cores out of 64 still sees 64, and workers on all would take turns on
    the two; `quota` is where Linux says so: microseconds of time in a period of microseconds, or `max`.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        time, period = quota.read_text(encoding="ascii").split()
        return min(seen, max(1, int(time) // int(period)))
    except (OSError, ValueError):  # no Linux, no container or no quota
        return seen


def peak_memory() -> int:
    """Most bytes that this process has held; of pages that it shares with others, its part where the system tells."""
    import resource

    import psutil

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    now = psutil.Process().memory_full_info()
    return int(peak - (now.rss - getattr(now, "pss", now.rss)))


def memory_of_all() -> int:
    """Bytes that this process and those it started hold now; a shared page counts once where the system tells."""
    import psutil

    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has ended
            held = process.memory_full_info()
            total += getattr(held, "pss", held.rss)
    return total


def versions() -> dict[str, str]:
    """What numbers may depend on."""
    return dict(_versions())


@cache
def _versions() -> Mapping[str, str]:
    """Looked up once: it takes as long as to give out a training."""
    packages = ("attnsearch", "torch", "optuna", "numpy", "numba", "scipy")
    numbers = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            numbers[package] = metadata.version(package)
    return numbers
