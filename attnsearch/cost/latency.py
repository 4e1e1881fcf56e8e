"""Time and memory of a pass, measured on a device: what counts cannot tell."""

from __future__ import annotations

import copy
import statistics
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnsearch.core.errors import CostError, EnvironmentFault
from attnsearch.core.machine import device_name
from attnsearch.cost.meta import Image, inputs, meta_copy, preserve_rng_state

MEGABYTE = 1e6


@dataclass(frozen=True)
class Latency:
    """Quartiles of the time of one forward pass of a whole batch in eval mode, with what they hold for."""

    median_ms: float
    q25_ms: float
    q75_ms: float
    n: int
    device: str
    batch: int
    dtype: str
    threads: int


@dataclass(frozen=True)
class Memory:
    """Peak bytes of a pass in MB (10^6 bytes), weights, gradients and the batch included.

    `method` is `allocator` (CUDA: what PyTorch's allocator handed out at most) or `counted` (elsewhere: the
    largest sum of bytes of tensors alive at once, which leaves out the scratch space inside an operation).
    """

    peak_mb: float
    device: str
    batch: int
    training: bool
    method: Literal["allocator", "counted"]


def latency(
    model: nn.Module,
    image: Image = (3, 224, 224),
    *,
    device: str = "cpu",
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    repeats: int = 30,
) -> Latency:
    """Time `repeats` forward passes of a copy of the model, after a warm-up of 0.2 s, 3 passes at least.

    Raises:
        EnvironmentFault: the device is not there.
        CostError: `batch` or `repeats` below 1, or a shape that is none.
    """
    if batch < 1 or repeats < 1:
        raise CostError(f"batch and repeats must be at least 1, got {batch} and {repeats}.")
    place = _device(device)
    network = copy.deepcopy(model).to(place, dtype).eval()
    x = inputs(network, image, batch)
    with torch.no_grad(), preserve_rng_state(network):
        began, warm = time.perf_counter(), 0
        while warm < 3 or time.perf_counter() - began < 0.2:
            _timed(network, x, place)
            warm += 1
        times = [_timed(network, x, place) for _ in range(repeats)]
    q25, median, q75 = statistics.quantiles(times, n=4, method="inclusive") if repeats > 1 else times * 3
    name, kind = device_name(place), str(dtype).removeprefix("torch.")
    return Latency(median, q25, q75, repeats, name, batch, kind, torch.get_num_threads())


def peak_memory(
    model: nn.Module,
    image: Image = (3, 224, 224),
    batch: int = 1,
    training: bool = False,
    device: str = "cpu",
) -> Memory:
    """Peak memory of a forward pass in eval mode, or of forward and backward in training mode (no optimizer).

    Raises:
        EnvironmentFault: the device is not there.
        CostError: the model does not run on this shape and batch.
    """
    place = _device(device)
    measured = _allocated if place.type == "cuda" else _counted
    try:
        peak = measured(model, image, batch, training, place)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CostError(f"The model does not run on {batch} x {image!r}: {error}") from error
    method: Literal["allocator", "counted"] = "allocator" if place.type == "cuda" else "counted"
    return Memory(peak / MEGABYTE, device_name(place), batch, training, method)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EnvironmentFault(f"Unknown device '{name}'. Use cpu, cuda or cuda:1.") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise EnvironmentFault(f"Device '{name}' is not available (torch {torch.__version__}); use cpu.")
    return device


def _timed(network: nn.Module, x: Any, device: torch.device) -> float:
    """Milliseconds of one pass; the device has nothing else to do before and has ended after."""
    if device.type != "cuda":
        began = time.perf_counter_ns()
        network(x)
        return (time.perf_counter_ns() - began) / 1e6
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    network(x)
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end))


def _step(network: nn.Module, x: Any, training: bool) -> None:
    network.train(training)
    with preserve_rng_state(network), torch.set_grad_enabled(training):
        out = network(x)
        if training:
            out.float().sum().backward()


def _allocated(model: nn.Module, image: Image, batch: int, training: bool, device: torch.device) -> float:
    before = torch.cuda.memory_allocated(device)
    network = copy.deepcopy(model).to(device)
    network.zero_grad(set_to_none=True)
    x = inputs(network, image, batch)
    torch.cuda.reset_peak_memory_stats(device)
    _step(network, x, training)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _counted(model: nn.Module, image: Image, batch: int, training: bool, device: torch.device) -> float:
    network = meta_copy(model)
    x = inputs(network, image, batch)
    alive = LiveBytes()
    alive.see((*network.parameters(), *network.buffers(), x))
    with alive:
        _step(network, x, training)
    return alive.peak


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sum of the bytes of all storages alive, and its peak; a storage goes when its last tensor does."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in attnsearch.cost.counting

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.see(out)
        return out

    def see(self, value: Any) -> None:
        """Take in the storages of all tensors in a value."""
        if isinstance(value, (list, tuple)):
            for item in value:
                self.see(item)
        elif isinstance(value, Tensor):
            storage = value.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self._known:
                self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
                self.now += size
                self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


__all__ = ["Latency", "Memory", "latency", "peak_memory"]
