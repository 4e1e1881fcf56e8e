"""Non-local: every position is the attention-weighted sum of all positions, added to the input.

Wang et al., "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971; the embedded Gaussian form.
Differs from the paper: the hidden width is C / 8 rounded to a multiple of 8 (`paper`: C / 2) and scores are
scaled by C^-1/2 (`paper`: not), as in timm. Starts as the identity: the norm's weight is 0. Scores take
(H W)^2 numbers per image, 3,136^2 at 56x56, so keep it to late stages.
"""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, rounded_width
from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError

PRESETS = {"timm": {}, "paper": {"ratio": 2, "scale": False}}


@block("nonlocal")
class NonLocal(nn.Module):
    """x + norm(conv(softmax(query key^T) value)); (B, C, H, W) -> the same shape.

    Parameters: 4 C h + 3 h + 3 C.

    Args:
        channels: C.
        ratio: h = C / ratio, rounded to a multiple of 8.
        scale: whether scores are multiplied by C^-1/2.
    """

    inert_parameters = ("key.bias",)  # adds one number to all scores of a place, which softmax ignores
    starts_as_identity = True  # the norm's weight is 0

    def __init__(self, channels: int, *, ratio: int = 8, scale: bool = True) -> None:
        super().__init__()
        hidden = inner_width(channels, ratio)
        self.scale = channels**-0.5 if scale else 1.0
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, hidden, 1)
        self.out = nn.Conv2d(hidden, channels, 1)
        self.norm = BatchNorm(channels)
        nn.init.zeros_(self.norm.weight)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """The smallest ratio that gives the same hidden width."""
        hidden = inner_width(channels, options["ratio"])
        return {**options, "ratio": next(r for r in itertools.count(1) if inner_width(channels, r) == hidden)}

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.query(x).flatten(2),
            self.key(x).flatten(2),
            self.value(x).flatten(2),
        )  # (B, h, H W)
        scores = query.transpose(1, 2) @ key * self.scale  # (B, H W, H W)
        mixed = scores.softmax(2) @ value.transpose(1, 2)  # (B, H W, h)
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, x.shape[2], x.shape[3])
        context: Tensor = self.norm(self.out(mixed))
        return x + context


def inner_width(channels: int, ratio: int) -> int:
    if ratio < 1:
        raise BlockError(f"ratio must be at least 1, got {ratio}")
    return rounded_width(channels / ratio)
