"""Blocks with one fault each, and what the audit must say of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sound(nn.Module):
    """A gate without a fault; the broken ones differ from it in one place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 8, 1)
        self.expand = nn.Conv2d(8, channels, 1)

    def pooled(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def gate(self, x: Tensor) -> Tensor:
        return self.expand(self.reduce(self.pooled(x)).relu()).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ConvsInAList(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.branches = [nn.Conv2d(channels, channels, 1) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        return x * sum(branch(x) for branch in self.branches).sigmoid()


class TensorOutsideTheModel(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = torch.rand(channels, 1, 1)

    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) * self.scale


class WritesIntoInput(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.gate(x))


class NormOnOnePlace(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def pooled(self, x: Tensor) -> Tensor:
        return self.norm(super().pooled(x))


class WidthOfZero(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.reduce = nn.Conv2d(channels, channels // 16, 1)
        self.expand = nn.Conv2d(channels // 16, channels, 1)


class RefusesWithoutASentence(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.reduce = nn.Conv2d(channels, 16, 1, groups=16)
        self.expand = nn.Conv2d(16, channels, 1)


class RacingPool(Sound):
    def pooled(self, x: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(x, 1)


class ConstantGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.sigmoid()


class EvenSizesOnly(Sound):
    def gate(self, x: Tensor) -> Tensor:
        small = F.avg_pool2d(x, 2, ceil_mode=True)
        return F.interpolate(self.expand(self.reduce(small).relu()), scale_factor=2.0).sigmoid()


class ShrinksTheMap(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(super().forward(x))


class NotFiniteOnOnePlace(Sound):
    def gate(self, x: Tensor) -> Tensor:
        deviation = x.std((2, 3), keepdim=True)  # of one place: 0 / 0
        return super().gate(x) * (x / (deviation + 1)).sigmoid()


class SumOfSquares(nn.Module):
    """The l2 norm of a large map, by a sum that float16 cannot hold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        energy = x.square().sum((2, 3), keepdim=True) + 1e-5
        return x * (1 + torch.tanh(self.gamma * energy.sqrt() * energy.mean(1, keepdim=True).rsqrt()))


class Float32Constant(Sound):
    def pooled(self, x: Tensor) -> Tensor:
        kernel = torch.full((x.shape[1], 1, 1, 1), 0.5)
        return F.conv2d(super().pooled(x), kernel, groups=x.shape[1])


class UnusedParameter(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.spare = nn.Parameter(torch.zeros(channels))


class CutOffFromInput(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class RandomInEval(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.1)


class CountsItsCalls(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class LearnsInEval(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("average", torch.zeros(channels, 1, 1))

    average: Tensor

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.average += x.mean((0, 2, 3))[:, None, None]
        return super().forward(x) - 0.1 * self.average


class ContiguousOnly(Sound):
    def pooled(self, x: Tensor) -> Tensor:
        rows = x.view(x.shape[0], x.shape[1] * x.shape[2], -1).mean(2)
        return rows.view(*x.shape[:3], 1).mean(2, keepdim=True)


class UncountableOperation(Sound):
    def pooled(self, x: Tensor) -> Tensor:
        return super().pooled(x) * torch.linalg.svdvals(x.flatten(2).float()).mean().to(x.dtype)


class PicksByMask(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) * x[x > 0].mean()


class BranchesOnValues(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) if x.mean() > -1 else super().gate(-x)


# The block, the property that it breaks, and words of the reason.
BROKEN = [
    (ConvsInAList, "registered", "branches keeps a Conv2d in a plain container; use nn.ModuleList"),
    (TensorOutsideTheModel, "registered", "scale keeps a tensor out of parameters"),
    (WritesIntoInput, "input untouched", "writes into the input in place"),
    (NormOnOnePlace, "batch of one", "batch 1 of 8x8 in train mode: ValueError: Expected more than 1 value"),
    (WidthOfZero, "widths", r"at 4 channels reduce.weight is empty, \(0, 4, 1, 1\)"),
    (
        RefusesWithoutASentence,
        "widths",
        "at 4 channels: ValueError: .* refuse such a width with a BlockError",
    ),
    (RacingPool, "deterministic", "adaptive_max_pool2d_backward has no deterministic form on CUDA"),
    (ConstantGate, "depends on its input", "the gate is a constant"),
    (EvenSizesOnly, "shape", "batch 2 of 7x5 in train mode: RuntimeError: The size of tensor"),
    (ShrinksTheMap, "shape", r"batch 2 of 8x8 .*: expected \(2, 64, 8, 8\), got \(2, 64, 6, 6\)"),
    (NotFiniteOnOnePlace, "shape", "batch 2 of 1x1 in train mode: the output is not finite"),
    (SumOfSquares, "float16", "nan of the output's norm is lost in float16 on 56x56 maps of deviation 8"),
    (Float32Constant, "bfloat16", "RuntimeError: .*(type|dtype)"),
    (UnusedParameter, "gradient", "no gradient reaches spare"),
    (CutOffFromInput, "gradient", "no gradient reaches the input"),
    (RandomInEval, "deterministic", "the same input gives another output in eval mode"),
    (CountsItsCalls, "deterministic", "the same input gives another output in eval mode"),
    (LearnsInEval, "train and eval", "a forward pass in eval mode changes average"),
    (ContiguousOnly, "channels last", "RuntimeError: view size is not compatible"),
    (UncountableOperation, "cost countable", "No rule says what this work costs: aten::_linalg_svd"),
    (BranchesOnValues, "torch.export", "GuardOnDataDependent|data-dependent"),
    (BranchesOnValues, "no wait for a GPU", "_local_scalar_dense makes the host wait"),
    (PicksByMask, "no wait for a GPU", "index_by_mask makes the host wait for a GPU"),
]
