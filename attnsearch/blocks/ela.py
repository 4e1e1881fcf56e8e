"""ELA: gates over rows and over columns, one wide 1-D convolution for both, the channels kept as they are.

Xu and Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", 2024, arXiv:2403.01123.
    f = sigmoid(group norm(conv1d)); y = x * f(row means) * f(column means)
Differs from the paper: no, as far as it is known; we found no code of its authors, and public copies disagree. This is
the commonest, ELA(in_channels, phi).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from attnsearch.blocks._parts import GroupNorm, axis_means, check_divides
from attnsearch.blocks.registry import block

FORMS = {"T": (5, True, 32), "B": (7, True, 16), "S": (5, False, 16), "L": (7, False, 16)}


@block("ela")
class ELA(nn.Module):
    """x * gate of its row * gate of its column; (B, C, H, W) -> the same shape; kC + 2C or 8kC + 2C parameters.

    Args:
        channels: C; divisible by 32 (T) or 16, the groups of the norm.
        form: kernel k, channels that each group of the convolution reads, groups of the norm: T 5, 1, 32;
            B 7, 1, 16; S 5, 8, 16; L 7, 8, 16.
    """

    def __init__(self, channels: int, *, form: Literal["T", "B", "S", "L"] = "T") -> None:
        super().__init__()
        kernel, depthwise, groups = FORMS[form]
        check_divides(
            groups, channels, f"ela of form {form} needs channels divisible by {groups}, got {channels}"
        )
        self.conv = nn.Conv1d(
            channels,
            channels,
            kernel,
            padding=kernel // 2,
            groups=channels if depthwise else channels // 8,
            bias=False,
        )
        self.norm = GroupNorm(groups, channels)

    def weights(self, profile: Tensor) -> Tensor:
        """(B, C, positions) -> the same shape, each in (0, 1)."""
        scores: Tensor = self.norm(self.conv(profile))
        return scores.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = axis_means(x)  # (B, C, H, 1), (B, C, W, 1)
        return x * self.weights(rows[..., 0])[..., None] * self.weights(columns[..., 0])[:, :, None]
