"""Which of a network's parameters are its stem, its stages and its head: what recipes and checkpoints speak of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from attnsearch.build.layers import Layer, find_layers
from attnsearch.build.resnet import ResNet
from attnsearch.build.units import IdentityStart
from attnsearch.core.errors import UsageError


@dataclass(frozen=True)
class Parts:
    """Beginnings of parameters' names, each with its last dot.

    Args:
        stages: of each stage. head: of the linear layer that puts out the classes.
    """

    stages: tuple[str, ...]
    head: str


def parts_of(model: nn.Module) -> Parts:
    """The parts of a network that attnsearch built, or of a model of the user's own.

    Raises:
        UsageError: no stages, or no linear layer behind them.
    """
    if isinstance(model, ResNet):
        return Parts(tuple(f"layer{i + 1}." for i in range(len(model.layers()))), "fc.")
    stages = tuple(f"{layer.path}." for layer in stages_of(model))
    outside = (*stages, *block_paths(model))
    linear = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and not f"{path}.".startswith(outside)
    ]
    if not linear:
        raise UsageError(
            f"{type(model).__name__} has no linear layer behind its stages, which would be its head"
        )
    return Parts(stages, f"{linear[-1]}.")


def stages_of(model: nn.Module) -> list[Layer]:
    """The stages of a model of the user's own, shallow to deep.

    Raises:
        UsageError: it has none, or several backbones.
    """
    layers = find_layers(model).layers
    numbers = [layer.number for layer in layers]
    if len(set(numbers)) < len(numbers):
        twice = [layer.path for layer in layers if numbers.count(layer.number) > 1]
        raise UsageError(f"it has several backbones ({', '.join(twice[:3])}), and a host is one")
    return sorted(layers, key=lambda layer: layer.number)


def block_paths(model: nn.Module) -> tuple[str, ...]:
    """Paths of everything that was put into the host, with a dot behind."""
    return tuple(
        f"{path}."
        for path, module in model.named_modules()
        if path and (hasattr(module, "block_name") or isinstance(module, IdentityStart))
    )


def stem_paths(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what is neither stage nor head nor block."""
    parts = parts_of(model)
    outside = (*parts.stages, parts.head, *block_paths(model))
    named = [
        f"{path}." if path else name
        for path, module in model.named_modules()
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    ]
    return tuple(dict.fromkeys(name for name in named if not name.startswith(outside)))


__all__ = ["Parts", "block_paths", "parts_of", "stages_of", "stem_paths"]
