"""Which parameters of a network a recipe trains, at which rate and with how much decay, and which norms stand still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from attnsearch.build.parts import block_paths, parts_of, stem_paths
from attnsearch.core.trial import Recipe


def frozen_paths(model: nn.Module, recipe: Recipe) -> tuple[str, ...]:
    """Beginnings of the names of the host's parameters that the recipe leaves as they are.

    Blocks and the head are always trained; the neck is a block.
    """
    if recipe.freeze == "none":
        return ()
    stem, stages = stem_paths(model), parts_of(model).stages
    if recipe.freeze == "stem":
        return stem
    if recipe.freeze == "host":
        return (*stem, *stages)
    return (*stem, *(stages[stage - 1] for stage in recipe.freeze if stage <= len(stages)))


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Take the frozen parameters out of training, in place."""
    blocks, frozen = block_paths(model), frozen_paths(model, recipe)
    norms = tuple(f"{path}." for path in _still_norms(model, recipe, blocks, frozen))
    for name, parameter in model.named_parameters():
        ours = not name.startswith(blocks) if blocks else True
        if ours and ((frozen and name.startswith(frozen)) or (norms and name.startswith(norms))):
            parameter.requires_grad_(False)


def train_mode(model: nn.Module, recipe: Recipe) -> None:
    """`model.train()`, with the norms of frozen parts in eval mode: their statistics are frozen with them."""
    model.train()
    for path in _still_norms(model, recipe, block_paths(model), frozen_paths(model, recipe)):
        model.get_submodule(path).eval()


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for an optimizer: `weight_decay` on matrices and kernels alone, `scale` of the rate on the head.

    Where `decay_blocks` is off, nothing of a block decays.
    """
    blocks, head = block_paths(model), parts_of(model).head
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        spared = not recipe.decay_blocks and bool(blocks) and name.startswith(blocks)
        decay = recipe.weight_decay if parameter.ndim > 1 and not spared else 0.0
        scale = recipe.head_lr if name.startswith(head) else 1.0
        groups.setdefault((decay, scale), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for (decay, scale), parameters in groups.items()
    ]


def _still_norms(
    model: nn.Module, recipe: Recipe, blocks: tuple[str, ...], frozen: tuple[str, ...]
) -> Iterator[str]:
    """Paths of the host's batch norms that keep their statistics."""
    if recipe.norm == "train" and not frozen:
        return
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            name = f"{path}."
            ours = not (blocks and name.startswith(blocks))
            if ours and (recipe.norm == "frozen" or name.startswith(frozen)):
                yield path


__all__ = ["freeze", "frozen_paths", "parameter_groups", "train_mode"]
