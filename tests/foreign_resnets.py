"""Small ResNets in the layouts of torchvision and of timm, for tests of what is inserted into them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TorchvisionUnit(nn.Module):
    """Names and in-place operations as torchvision's BasicBlock and Bottleneck have them."""

    def __init__(self, inplanes: int, planes: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        deep = expansion > 1
        kernels = (1, 3, 1) if deep else (3, 3)
        widths = (inplanes, planes, planes, planes * expansion)
        strides = (1, stride, 1) if deep else (stride, 1)
        for i, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            conv = nn.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.count = len(kernels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inplanes != planes * expansion:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes * expansion, 1, stride, bias=False),
                nn.BatchNorm2d(planes * expansion),
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            if i < self.count:
                out = self.relu(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class TimmUnit(nn.Module):
    """As timm's BasicBlock and Bottleneck: an activation each, drop_block, aa, se and drop_path among them."""

    def __init__(self, inplanes: int, planes: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        first_stride, first_kernel = (1, 1) if expansion > 1 else (stride, 3)
        self.conv1 = nn.Conv2d(inplanes, planes, first_kernel, first_stride, first_kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride if expansion > 1 else 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.drop_block = nn.Identity()
        self.act2 = nn.ReLU(inplace=True)
        self.aa = nn.Identity()
        if expansion > 1:
            self.conv3 = nn.Conv2d(planes, planes * expansion, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(planes * expansion)
            self.act3 = nn.ReLU(inplace=True)
        self.se = None
        self.drop_path = None
        self.downsample = None
        if stride > 1 or inplanes != planes * expansion:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes * expansion, 1, stride, bias=False),
                nn.BatchNorm2d(planes * expansion),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.drop_block(self.bn2(self.conv2(out)))
        if hasattr(self, "conv3"):
            out = self.bn3(self.conv3(self.aa(self.act2(out))))
        if self.se is not None:
            out = self.se(out)
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        out += shortcut
        return (self.act3 if hasattr(self, "act3") else self.act2)(out)


class ForeignResNet(nn.Module):
    """Four stages of two units; the parts that both libraries name alike."""

    def __init__(
        self, unit: type[nn.Module], *, expansion: int = 1, width: int = 8, classes: int = 5
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for i in range(4):
            units = []
            for j in range(2):
                units.append(unit(channels, width * 2**i, 2 if i and not j else 1, expansion=expansion))
                channels = width * 2**i * expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*units))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class StraightUnit(nn.Module):
    """A basic unit without loops or getattr, which TorchScript compiles."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride > 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class StraightResNet(nn.Module):
    """Two stages of two units and a linear head."""

    def __init__(self, width: int = 16, unit: type[nn.Module] = StraightUnit) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1)
        self.layer1 = nn.Sequential(unit(width, width), unit(width, width))
        self.layer2 = nn.Sequential(unit(width, 2 * width, 2), unit(2 * width, 2 * width))
        self.fc = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.conv1(x)))
        return self.fc(x.mean((2, 3)))
