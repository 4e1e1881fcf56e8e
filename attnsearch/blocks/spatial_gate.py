"""Spatial gate: CBAM's second half alone, a convolution over the channels' mean and maximum at each position.

Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521, section 3.
    y = x * sigmoid(conv_k([max_C(x), mean_C(x)]))
Differs from the paper: batch norm after the convolution, as in the authors' code, whose weight starts at
zero: the gate is 0.5 everywhere at first. Presets:
    official  as the defaults, but the gradient of a maximum goes to one of tied channels (ties=one)
    paper     the convolution alone (spatial=lite)
    article   of the article on improving CBAM: two convolutions through 32 maps, and the mean of both inputs
              added (spatial=deep_residual). That puts a raw activation beside a normalised logit: its weight
              depends on the scale of x and can saturate the sigmoid; spatial=deep leaves it out
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, check_odd, he_init
from attnsearch.blocks.registry import block

PRESETS = {
    "official": {"ties": "one"},
    "paper": {"spatial": "lite"},
    "article": {"spatial": "deep_residual"},
}


@block("spatial_gate")
class SpatialGate(nn.Module):
    """x * sigmoid(f([max, mean] over C)); (B, C, H, W) -> the same shape.

    Args:
        channels: C; no parameter depends on it.
        kernel: odd.
        spatial: `plain` is a convolution and batch norm over [max, mean] (2k^2 + 2 parameters); `lite` a
            convolution over [mean, max] (2k^2); `lite_norm` the same with batch norm as torch starts it
            (2k^2 + 2), timm's; `deep` two with batch norm and 32 maps between (96k^2 + 66);
            `deep_residual` adds (mean + max) / 2 before the sigmoid.
        weights_init: `default` is the official code's for plain (He, norm weight 0) and torch's for the
        others; `he`. ties: gradient of a maximum reached in several channels: `shared` among them, or to
        `one`.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel: int = 7,
        spatial: Literal["plain", "lite", "lite_norm", "deep", "deep_residual"] = "plain",
        weights_init: Literal["default", "he"] = "default",
        ties: Literal["shared", "one"] = "shared",
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.ties = ties
        self.body = _body(check_odd(kernel), spatial)
        if weights_init == "he" or spatial == "plain":
            he_init(self)
        if weights_init == "default" and spatial == "plain":
            nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def weights(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), each in (0, 1)."""
        mean = x.mean(1, keepdim=True)
        largest = x.amax(1, keepdim=True) if self.ties == "shared" else x.max(1, keepdim=True).values
        return self.of_pools(mean, largest)

    def of_pools(self, mean: Tensor, largest: Tensor) -> Tensor:
        """Means and maxima, (B, 1, H, W) each, -> the same shape."""
        # Each as its source orders them.
        pair = (largest, mean) if self.spatial == "plain" else (mean, largest)
        logits: Tensor = self.body(torch.cat(pair, 1))  # (B, 2, H, W) -> (B, 1, H, W)
        if self.spatial == "deep_residual":
            logits = logits + (mean + largest) / 2
        return logits.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


def _body(kernel: int, spatial: str) -> nn.Sequential:
    pad = kernel // 2
    if spatial == "lite":
        return nn.Sequential(nn.Conv2d(2, 1, kernel, padding=pad, bias=False))
    if spatial == "lite_norm":
        return nn.Sequential(nn.Conv2d(2, 1, kernel, padding=pad, bias=False), BatchNorm(1))
    if spatial == "plain":
        return nn.Sequential(nn.Conv2d(2, 1, kernel, padding=pad, bias=False), BatchNorm(1, momentum=0.01))
    return nn.Sequential(
        nn.Conv2d(2, 32, kernel, padding=pad, bias=False),
        BatchNorm(32),
        nn.ReLU(),
        nn.Conv2d(32, 1, kernel, padding=pad, bias=False),
        BatchNorm(1),
    )
