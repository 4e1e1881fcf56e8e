"""`before_add` is the end of the residual branch in units of any order, or the insertion says why it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnsearch import insert
from attnsearch.core.errors import UsageError
from tests.foreign_resnets import StraightResNet, StraightUnit


class PreActivation(StraightUnit):
    """Norm, activation, convolution; the branch ends in a convolution."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__(inplanes, planes, stride)
        self.bn1, self.relu = nn.BatchNorm2d(inplanes), nn.ReLU()

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(self.relu(self.bn2(self.conv1(self.relu(self.bn1(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + (x if self.downsample is None else self.downsample(x))


class ShortcutFirst(PreActivation):
    """The shortcut is what is added to."""

    def forward(self, x: Tensor) -> Tensor:
        identity = x.clone() if self.downsample is None else self.downsample(x)
        identity += self.branch(x)
        return identity


class Scaled(PreActivation):
    """Layer scale belongs to the branch."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__(inplanes, planes, stride)
        self.alpha = nn.Parameter(torch.full((), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x if self.downsample is None else self.downsample(x), self.alpha * super().branch(x))


class ByFlag(PreActivation):
    """Another expression in training."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.training:
            return self.branch(x).add(shortcut)
        return shortcut + self.branch(x)


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("unit", [PreActivation, ShortcutFirst, Scaled, ByFlag])
def test_the_gate_stands_before_the_addition(unit: type[PreActivation], training: bool) -> None:
    """A gate that halves gives shortcut + branch / 2."""
    torch.manual_seed(0)
    model = insert(StraightResNet(unit=unit), "se").train(training)
    module: Any = model.layer2[0]
    module.attention = Half()
    x = torch.randn(2, 16, 8, 8)
    branch = module.branch(x) * (0.5 if unit is Scaled else 1)
    torch.testing.assert_close(module(x), module.downsample(x) + branch / 2)


class Joined(StraightUnit):
    """No addition at all."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.maximum(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))), shortcut)


class Twice(PreActivation):
    """Two additions of a shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.branch(x) + shortcut + shortcut


def test_what_cannot_be_told_is_refused() -> None:
    for unit, words in ((Joined, "to a shortcut never"), (Twice, "to a shortcut 2 times")):
        with pytest.raises(UsageError, match=rf"layer1\.0 \({unit.__name__}\): .*{words}"):
            insert(StraightResNet(unit=unit), "se")
        insert(StraightResNet(unit=unit), "se", position="after_add")


class WithGate(StraightUnit):
    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__(inplanes, planes, stride)
        self.se = nn.Conv2d(planes, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.se(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def test_a_gate_of_the_units_own_comes_first() -> None:
    with pytest.warns(UserWarning, match=r"4 units have a gate of their own \(se\): it comes first"):
        model = insert(StraightResNet(unit=WithGate), "eca").eval()
    seen: list[Tensor] = []
    unit: Any = model.layer1[0]
    unit.se.register_forward_hook(lambda module, args, out: seen.append(out))
    unit.attention.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    unit(torch.randn(1, 16, 4, 4))
    assert seen[0] is seen[1]


def test_a_conv_block_keeps_groups_or_is_refused() -> None:
    model = StraightResNet(width=64)
    for unit in (*model.layer1, *model.layer2):
        unit.conv2 = nn.Conv2d(unit.conv2.in_channels, unit.conv2.out_channels, 3, 1, 1, groups=8, bias=False)
    with pytest.raises(UsageError, match="conv2 has 8 groups, which 'psa' cannot keep"):
        insert(model, "psa")
    with pytest.raises(UsageError, match="conv2 has 8 groups, which 'mhsa' cannot keep"):
        insert(model, "mhsa")
    insert(model, "sk", stages=1)
    first: Any = model.layer1[0]
    assert {path[0].groups for path in first.conv2.paths} == {8}


class DropPath(nn.Module):
    """Stochastic depth as timm has it, with a draw that drops every branch."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 if self.training else x


class Dropping(PreActivation):
    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__(inplanes, planes, stride)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(self.branch(x)) + (x if self.downsample is None else self.downsample(x))


class Shift(nn.Module):
    """A gate that gives something for nothing: a branch that was dropped before it would come back."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_the_gate_stands_before_stochastic_depth() -> None:
    model = insert(StraightResNet(unit=Dropping), "se").train()
    unit: Any = model.layer2[0]
    unit.attention = Shift()
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(unit(x), unit.downsample(x))
    unit.eval()
    torch.testing.assert_close(unit(x), unit.downsample(x) + unit.branch(x) + 1)
