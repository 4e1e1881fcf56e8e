"""An arch as a network, whatever its host is: one of attnsearch's ResNets, or a model of the user's own."""

from __future__ import annotations

from torch import nn

from attnsearch.build.module_host import build_module_host
from attnsearch.build.resnet import build
from attnsearch.space.arch import Arch


def build_network(
    arch: Arch, *, classes: int = 10, in_channels: int = 3, seed: int | None = None
) -> nn.Module:
    """An arch as a network, (B, in_channels, H, W) -> (B, classes), on the CPU, in train mode.

    Args:
        seed: of the initialisation; layers that two archs share start alike. None draws from torch's global generator.

    Raises:
        UsageError: a model of the user's own that may not be run, or takes other images.
        BlockError: a block refuses its options at a stage's width.
    """
    if arch.host.module:
        return build_module_host(arch, classes=classes, in_channels=in_channels, seed=seed)
    return build(arch, classes=classes, in_channels=in_channels, seed=seed)


__all__ = ["build_network"]
