"""Adapter: a narrow pair of pointwise convolutions beside the identity, which weighs nothing: what attention is not.

Houlsby et al., "Parameter-efficient transfer learning for NLP", ICML 2019, arXiv:1902.00751: a bottleneck beside the
identity, here of 1x1 convolutions. It has trained parameters and no gate, so that the two can be told apart.
Differs from the paper: the last layer starts at zero, not near it.
"""

from __future__ import annotations

from torch import Tensor, nn

from attnsearch.blocks.registry import block
from attnsearch.core.errors import BlockError


@block("adapter")
class Adapter(nn.Module):
    """x + up(relu(down(x))) with 1x1 convolutions C -> h -> C; (B, C, H, W) -> the same shape.

    Parameters: 2 C h + h + C. It starts as the identity.

    Args:
        channels: C.
        hidden: h.
    """

    starts_as_identity = True

    def __init__(self, channels: int, *, hidden: int = 4) -> None:
        super().__init__()
        if hidden < 1:
            raise BlockError(f"adapter: hidden must be at least 1, got {hidden}")
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x).relu())  # type: ignore[no-any-return]
