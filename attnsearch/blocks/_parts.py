"""What several blocks are made of: widths, a batch norm that bears one sample, He initialisation."""

from __future__ import annotations

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnsearch.core.errors import BlockError


def hidden_width(channels: int, ratio: int, min_hidden: int = 1, divisor: int = 1) -> int:
    """Width between the two layers of a gate: channels // ratio, to the nearest multiple of divisor, floored.

    The floor keeps a gate from a width of zero, which torch only warns of: such a gate is sigmoid(bias), deaf
    to its input. Raises `BlockError` for a ratio, floor or divisor below 1.
    """
    for name, value in (("ratio", ratio), ("min_hidden", min_hidden), ("divisor", divisor)):
        if value < 1:
            raise BlockError(f"{name} must be at least 1, got {value}")
    rounded = (channels // ratio + divisor // 2) // divisor * divisor
    return max(rounded, min_hidden, divisor if divisor > 1 else 1)


def canonical_hidden(channels: int, hidden: int, *, ratio: int = 16) -> dict[str, int]:
    """`ratio` and `min_hidden` in their one spelling for a hidden width: the largest ratio that gives it.

    Where no ratio does (7 of 16), the floor says the width and `ratio` is the given default, or 1 above it.
    """
    widest = max(channels // hidden, 1)
    if channels // widest == hidden:
        return {"ratio": widest, "min_hidden": 1}
    inert = ratio if channels // ratio <= hidden else channels // hidden + 1
    return {"ratio": inert, "min_hidden": hidden}


def check_odd(kernel: int, name: str = "kernel") -> int:
    """The kernel, or a `BlockError`: padding by kernel // 2 keeps H and W for odd kernels only."""
    if kernel < 1 or kernel % 2 == 0:
        raise BlockError(f"{name} must be odd and at least 1, got {kernel}")
    return kernel


def check_divides(divisor: int, number: int, what: str) -> None:
    """Raise `BlockError` unless `divisor` divides `number`; `what` names both in one sentence."""
    if divisor < 1 or number % divisor:
        raise BlockError(what)


def rounded_width(width: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `width`, one at least, never less than 0.9 width (MobileNet)."""
    near = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * width else near


def fitting(option: str, value: int | None, number: int, of: str, preferred: int = 1) -> int:
    """`value` if it divides `number`, or `BlockError` with those that do; None: gcd with `preferred`."""
    if value is None:
        return gcd(number, preferred)
    if value < 1 or number % value:
        known = ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
        raise BlockError(f"{option}={value} does not divide {number} {of}; it may be {known}")
    return value


def axis_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means over W and over H, (B, C, H, W) -> (B, C, H, 1) and (B, C, W, 1).

    By pools to 1x1, because their backward is deterministic on every device; a pool to (H, 1) is not on CUDA. A row,
    or all columns side by side, stand for an image: seen so, a map in channels-last order is not copied.
    """
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 1, 3).reshape(batch * height, channels, 1, width)
    columns = x.permute(0, 3, 1, 2).reshape(batch, width * channels, height, 1)
    over_width = F.adaptive_avg_pool2d(rows, 1).view(batch, height, channels, 1).transpose(1, 2)
    over_height = F.adaptive_avg_pool2d(columns, 1).view(batch, width, channels, 1).transpose(1, 2)
    return over_width, over_height


@torch.fx.wrap
def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, where sums over a map would overflow or lose digits; others as they are."""
    return x if x.dtype == torch.float64 else x.float()


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over (N, C, ...) for maps of any rank that also trains on a batch with one value per
    channel.

    A single value has no spread, so batch statistics do not exist (torch raises): such a batch is normalised
    by the running statistics and leaves them as they are. Everywhere else, and in eval mode, it is
    `nn.BatchNorm2d`.

    Args:
        views: rows of the batch that come from one sample, 2 where averages and maxima are stacked: two views
            of one sample always normalise to -1 and +1, whatever the sample.
    """

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5, views: int = 1) -> None:
        super().__init__(features, momentum=momentum, eps=eps)
        self.views = views

    def forward(self, input: Tensor) -> Tensor:
        return batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.num_batches_tracked,
            self.training,
            self.momentum,
            self.eps,
            self.views,
        )


@torch.fx.wrap
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    batches: Tensor | None,
    training: bool,
    momentum: float | None,
    eps: float,
    views: int,
) -> Tensor:
    """`BatchNorm` as a function, which torch.fx keeps whole: it looks at the size of its input."""
    if input.dim() < 2:
        raise ValueError("expected (N, C, ...)")
    update = training and input.numel() > views * input.shape[1]
    share = 0.0 if momentum is None else momentum
    if update and batches is not None:
        batches.add_(1)
        if momentum is None:  # a cumulative average
            share = 1.0 / float(batches)
    from_batch = update or running_mean is None
    return F.batch_norm(input, running_mean, running_var, weight, bias, from_batch, share, eps)


class GroupNorm(nn.GroupNorm):
    """Group norm for maps of any rank that also takes a single value in each group, which is the bias then."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm(GroupNorm):
    """Each channel of each sample over its positions, with a weight and a bias; (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)


def he_init(module: nn.Module) -> None:
    """He et al. 2015, fan-out, on the weights of convolutions and linear layers; biases 0, norms 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
