"""What there is to train with: devices, cores, and the versions that numbers may depend on."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata

from attnsearch.errors import EnvironmentFault, UsageError
from attnsearch.settings import Settings


def pick_devices(wanted: str) -> list[str]:
    """`auto`, `cpu`, `cuda` or a list like `cuda:0,cuda:1` as torch device names; raises `EnvironmentFault`."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return ["cpu"]
    if not all(part.split(":")[0] == "cuda" for part in wanted.split(",")):
        raise UsageError(f"Unknown device '{wanted}': use auto, cpu, cuda or cuda:0,cuda:1")
    if not torch.cuda.is_available():
        raise EnvironmentFault(
            f"CUDA not available (torch {torch.__version__}); use --device cpu or install a CUDA build of torch"
        )
    count = torch.cuda.device_count()
    found = [f"cuda:{i}" for i in range(count)] if wanted == "cuda" else wanted.split(",")
    for device in found:
        if not device.partition(":")[2].isdigit() or int(device.partition(":")[2]) >= count:
            raise EnvironmentFault(
                f"no device '{device}' here; there are {count}: cuda:0 to cuda:{count - 1}"
            )
    return found


def worker_count(settings: Settings) -> int:
    """The workers asked for, else one for each core."""
    return settings.workers or len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """What numbers may depend on."""
    packages = ("attnsearch", "torch", "optuna", "numpy", "numba", "scipy")
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
