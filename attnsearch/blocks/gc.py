"""Global context: one softmax-weighted mean over all positions, through an MLP, added to (or scaling) each.

Cao et al., "GCNet", ICCV 2019 workshop, arXiv:1904.11492; at the end of a unit, in the later stages.
Differs from the paper: the norm's epsilon is 1e-6, as in timm; min_hidden keeps the norm over the hidden
layer from seeing a single value, which it would turn into a constant. It starts as the identity when it
adds.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from attnsearch.blocks._parts import canonical_hidden, hidden_width
from attnsearch.blocks.registry import block


@block("gc")
class GC(nn.Module):
    """x + mlp(sum of softmax(conv(x)) * x); (B, C, H, W) -> the same shape.

    Parameters: 2 C h + 3 h + 2 C + 1 with h = max(C // ratio, min_hidden).

    Args:
        channels: C.
        ratio, min_hidden: width h of the MLP.
        fusion: add the transformed context, or multiply by its sigmoid (mul).
    """

    inert_parameters = ("score.bias",)  # softmax ignores a shift; kept as published

    def __init__(
        self, channels: int, *, ratio: int = 16, min_hidden: int = 4, fusion: Literal["add", "mul"] = "add"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, ratio, min_hidden)
        self.fusion = fusion
        self.score = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.expand = nn.Linear(hidden, channels)
        if fusion == "add":
            nn.init.zeros_(self.expand.weight)
            nn.init.zeros_(self.expand.bias)

    @property
    def starts_as_identity(self) -> bool:
        """Whether nothing is added at first: the last layer is zero."""
        return self.fusion == "add"

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width."""
        hidden = hidden_width(channels, options["ratio"], options["min_hidden"])
        return {**options, **canonical_hidden(channels, hidden)}

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).flatten(2).softmax(2)  # (B, 1, H W)
        context = (x.flatten(2) @ weights.transpose(1, 2))[..., 0]  # (B, C, H W) (B, H W, 1) -> (B, C)
        change: Tensor = self.expand(self.norm(self.reduce(context)).relu())[:, :, None, None]  # (B, C, 1, 1)
        return x + change if self.fusion == "add" else x * change.sigmoid()
