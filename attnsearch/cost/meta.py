"""A network without its weights, and inputs for it: counting works on these, the network is only read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.core.errors import CostError

Shape = tuple[int, ...]
Image = Sequence[int] | Sequence[Sequence[int]]  # one shape without the batch, or one per map of a list


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no values (the meta device); no weight is copied or moved."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = _ghost_tensor(tensor)
    return copy.deepcopy(model, memo)


def _ghost_tensor(tensor: Tensor) -> Tensor:
    if nn.parameter.is_lazy(tensor):
        raise CostError("The model has lazy parameters: run it once on an image, then measure it.")
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def materialize(model: nn.Module) -> None:
    """Zeros on the CPU in place of every tensor without values."""

    def zeros(tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu") if tensor.is_meta else tensor

    model._apply(zeros)  # type: ignore[no-untyped-call]
    for module in model.modules():
        vars(module).update({k: zeros(v) for k, v in vars(module).items() if isinstance(v, Tensor)})


def inputs(model: nn.Module, image: Image, batch: int = 1) -> Any:
    """Zeros of the image's shape, or a list of maps, on the model's device and in its floating type."""
    dtype = next((t.dtype for t in _state(model) if t.is_floating_point()), torch.get_default_dtype())
    maps = [torch.zeros((batch, *shape), dtype=dtype, device=device_of(model)) for shape in _shapes(image)]
    return maps if _is_list(image) else maps[0]


@contextmanager
def preserve_rng_state(model: nn.Module) -> Iterator[None]:
    """Give back the random generators of the CPU and of the model's device as they were."""
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer lives; the CPU for a model without any."""
    return next((tensor.device for tensor in _state(model)), torch.device("cpu"))


def _shapes(image: Image) -> list[Shape]:
    shapes = [tuple(n) if isinstance(n, Sequence) else n for n in (image if _is_list(image) else [image])]
    for shape in shapes:
        if not isinstance(shape, tuple) or not all(isinstance(n, Integral) and int(n) > 0 for n in shape):
            raise CostError(f"A shape is whole numbers above 0, such as (3, 224, 224); got {image!r}.")
    return shapes  # type: ignore[return-value]


def _is_list(image: Image) -> bool:
    return isinstance(image, Sequence) and len(image) > 0 and isinstance(image[0], Sequence)


def _state(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
