"""Steps of a residual unit by name: formulas here, single passes over memory where `train.fused` overrides them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

P = ParamSpec("P")


def overridable(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The function, open to a `TorchFunctionMode` as torch's own functions are."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if has_torch_function(tensors):
            return handle_torch_function(call, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    return call


def optional(layer: nn.Module | None, x: Tensor) -> Tensor:
    """layer(x), or x where there is no layer."""
    return x if layer is None else layer(x)


@overridable
def gated(gate: nn.Module, x: Tensor) -> Tensor:
    """gate(x)."""
    return gate(x)  # type: ignore[no-any-return]


@overridable
def norm_relu(norm: nn.Module | None, x: Tensor) -> Tensor:
    """relu(norm(x)); without a norm x itself, of a block that ends in a norm and an activation of its own."""
    return x if norm is None else torch.relu(norm(x))


@overridable
def norm_add_relu(norm: nn.Module | None, x: Tensor, shortcut: Tensor) -> Tensor:
    """relu(norm(x) + shortcut), or relu(x + shortcut) without a norm."""
    return torch.relu(optional(norm, x) + shortcut)


@overridable
def add_relu(x: Tensor, shortcut: Tensor) -> Tensor:
    """relu(x + shortcut)."""
    return torch.relu(x + shortcut)


@overridable
def gated_add_relu(gate: nn.Module, x: Tensor, shortcut: Tensor) -> Tensor:
    """relu(gate(x) + shortcut)."""
    return torch.relu(gate(x) + shortcut)


__all__ = [
    "add_relu",
    "gated",
    "gated_add_relu",
    "norm_add_relu",
    "norm_relu",
    "optional",
    "overridable",
]
