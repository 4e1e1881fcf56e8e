"""Channel gate: CBAM's first half alone, an MLP over the channels' means and maxima.

Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521, section 3.
    y = x * sigmoid(MLP(mean_HW(x)) + MLP(max_HW(x)))
Differs from the paper: no. Presets:
    official        as the defaults, but the gradient of a maximum goes to one of tied positions (ties=one);
                    the default shares it among them, which is deterministic on every device
    paper           the defaults
    article         of the article on improving CBAM: two independent MLPs with batch norm
    article_shared  its later form: one MLP with batch norm, hidden width at least 4, He initialisation
In the article the shared norm sees means and maxima in turn, twice a step; here both pass it as one batch, so
that training and running statistics describe the same mixture. In eval mode the two are equal.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.blocks._parts import BatchNorm, canonical_hidden, he_init, hidden_width
from attnsearch.blocks.registry import block

PRESETS = {
    "official": {"ties": "one"},
    "paper": {},
    "article": {"mlp": "independent"},
    "article_shared": {"mlp": "shared_norm", "min_hidden": 4, "weights_init": "he"},
}


@block("channel_gate")
class ChannelGate(nn.Module):
    """x * sigmoid(MLP(mean) + MLP(max)); (B, C, H, W) -> the same shape.

    Args:
        channels: C.
        ratio, min_hidden: hidden width h = max(C // ratio, min_hidden).
        mlp: `shared` by mean and maximum (2Ch + h + C parameters); `shared_norm` with batch norm after each
            layer (2Ch + 2h + 2C); `independent`, one such MLP for each (twice that).
        bias: of the MLP; inert beside a norm.
        weights_init: `default` is torch's with zero biases, as the official code has it; `he`.
        ties: gradient of a maximum reached at several positions: `shared` among them, or to `one`.
        rounding: of C / ratio, `down` or to the `nearest`, as timm.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 16,
        min_hidden: int = 1,
        mlp: Literal["shared", "shared_norm", "independent"] = "shared",
        bias: bool = True,
        weights_init: Literal["default", "he"] = "default",
        ties: Literal["shared", "one"] = "shared",
        rounding: Literal["down", "nearest"] = "down",
    ) -> None:
        super().__init__()
        hidden = mlp_width(channels, ratio, min_hidden, rounding)
        self.ties = ties
        normed = mlp != "shared"
        self.article = normed or not bias
        if mlp == "independent":
            self.mlp = _mlp_with_norm(channels, hidden, views=1)
            self.mlp_max: nn.Module | None = _mlp_with_norm(channels, hidden, views=1)
        else:
            self.mlp = _mlp_with_norm(channels, hidden, views=2) if normed else _mlp(channels, hidden, bias)
            self.mlp_max = None
        if weights_init == "he":
            he_init(self)
        for part in self.modules():
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def weights(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1), each in (0, 1)."""
        # Both are the mean. fvcore counts a pooling, not a mean: each form is spelled as in its source.
        average = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.article else x.mean((2, 3))
        largest = x.amax((2, 3)) if self.ties == "shared" else x.flatten(2).max(2).values
        return self.of_pools(average, largest)

    def of_pools(self, average: Tensor, largest: Tensor) -> Tensor:
        """Means and maxima, (B, C) each, -> (B, C, 1, 1)."""
        if self.mlp_max is None:
            both = self.mlp(torch.cat((average, largest)))  # one pass over (2B, C)
            by_mean, by_max = (
                both[: average.shape[0]],
                both[average.shape[0] :],
            )  # torch.export chunks no batch at will
        else:
            by_mean, by_max = self.mlp(average), self.mlp_max(largest)
        weights: Tensor = (by_mean + by_max).sigmoid()
        return weights[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)

    @staticmethod
    def resolve(channels: int, options: dict[str, Any]) -> dict[str, Any]:
        """Ratio and floor matter only through the hidden width; a bias beside a norm not at all."""
        hidden = mlp_width(channels, options["ratio"], options["min_hidden"], options["rounding"])
        bias = options["bias"] or options["mlp"] != "shared"
        return {**options, **canonical_hidden(channels, hidden), "bias": bias, "rounding": "down"}


def mlp_width(channels: int, ratio: int, min_hidden: int, rounding: str) -> int:
    """Hidden width: C / ratio rounded down or to the nearest whole number, at least `min_hidden`."""
    down = hidden_width(channels, ratio, min_hidden)
    return down if rounding == "down" else max((2 * channels + ratio) // (2 * ratio), min_hidden)


def _mlp(channels: int, hidden: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, channels, bias=bias)
    )


def _mlp_with_norm(channels: int, hidden: int, views: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=False),
        BatchNorm(hidden, views=views),
        nn.ReLU(),
        nn.Linear(hidden, channels, bias=False),
        BatchNorm(channels, views=views),
    )
