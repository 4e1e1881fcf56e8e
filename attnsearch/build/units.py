"""Residual units: He et al., "Deep Residual Learning", CVPR 2016, figure 5, with a gate at one of three positions.

A convolution of the conv slot that ends in a norm and an activation of its own (`normalized`) has no norm behind it
(None), save that a branch's last norm always stays.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnsearch.build.ops import gated, gated_add_relu, norm_add_relu, norm_relu, optional


class ResidualUnit(nn.Module):
    """What the units share: shortcut, addition, activation; (B, C, H, W) -> (B, C', H / stride, W / stride).

    Args:
        downsample: the shortcut where the map changes its shape.
        attention: the gate.
        position: `after_conv`, behind the convolution of the conv slot; `before_add`, behind the branch; `after_add`.
        layers: of the branch, by the names that their parameters have.
    """

    OPTIONAL: tuple[str, ...] = ()  # layers that a unit may be without
    downsample: nn.Module | None
    attention: nn.Module

    def __init__(
        self,
        *,
        downsample: nn.Module | None = None,
        attention: nn.Module | None = None,
        position: str = "",
        **layers: nn.Module | None,
    ) -> None:
        super().__init__()
        for name, layer in {**layers, "downsample": downsample, "attention": attention}.items():
            self.add_module(name, layer)
        for name in set(self.OPTIONAL).difference(layers):
            self.add_module(name, None)
        self.position = position

    def at(self, position: str, x: Tensor) -> Tensor:
        """The gate's output if this is its position."""
        return gated(self.attention, x) if self.position == position else x

    def added(self, norm: nn.Module | None, out: Tensor, x: Tensor) -> Tensor:
        """relu(norm(out) + shortcut(x)) with the gate before the addition or behind the activation."""
        shortcut = optional(self.downsample, x)
        if self.position == "before_add":
            return gated_add_relu(self.attention, optional(norm, out), shortcut)
        return self.at("after_add", norm_add_relu(norm, out, shortcut))


class BasicUnit(ResidualUnit):
    """Two 3x3 convolutions; the second is the conv slot."""

    OPTIONAL = ("bn1",)
    conv1: nn.Module
    bn1: nn.Module | None
    conv2: nn.Module
    bn2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, self.conv1(x))
        out = self.at("after_conv", self.conv2(out))
        return self.added(self.bn2, out, x)


class Bottleneck(ResidualUnit):
    """1x1, 3x3, 1x1; the second is the conv slot, with a stride's pool before or behind it."""

    OPTIONAL = ("pool_first", "bn2", "pool")
    conv1: nn.Module
    bn1: nn.Module
    pool_first: nn.Module | None
    conv2: nn.Module
    bn2: nn.Module | None
    pool: nn.Module | None
    conv3: nn.Module
    bn3: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, self.conv1(x))
        out = self.at("after_conv", self.conv2(optional(self.pool_first, out)))
        out = optional(self.pool, norm_relu(self.bn2, out))
        return self.added(self.bn3, self.conv3(out), x)


class SingleUnit(ResidualUnit):
    """One 3x3 convolution, activated before the addition and behind it, the conv slot."""

    OPTIONAL = ("pool_first", "pool")
    pool_first: nn.Module | None
    conv1: nn.Module
    bn1: nn.Module
    pool: nn.Module | None

    def forward(self, x: Tensor) -> Tensor:
        out = self.at("after_conv", self.conv1(optional(self.pool_first, x)))
        out = optional(self.pool, norm_relu(self.bn1, out))
        return self.added(None, out, x)


class IdentityStart(nn.Module):
    """x + s (gate(x) - x), s a trained scalar that starts at 0, as in ReZero: at first the network without the gate."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * (gated(self.gate, x) - x)


__all__ = ["BasicUnit", "Bottleneck", "IdentityStart", "ResidualUnit", "SingleUnit"]
