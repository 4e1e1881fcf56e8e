"""A small ResNet for volumes (medical images), as the host of a neck in three dimensions.

He et al., "Deep Residual Learning", CVPR 2016, arXiv:1512.03385, its basic unit with 3x3x3 convolutions, as in Hara et
al., arXiv:1711.09577; the neck is PMFSNet's (`blocks/pmfs.py`). Gates here are of images; in volumes only the neck is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from attnsearch.build.create import create_neck


class Unit3d(nn.Module):
    """A basic residual unit; (B, C, D, H, W) -> (B, out, D/stride, H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(out)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(out)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class VolumeResNet(nn.Module):
    """Stem, stages that halve the volume, an optional neck over all of them, a head; (B, C, D, H, W) -> (B, classes).

    Args:
        units: residual units of each stage.
        width: channels of the first stage; each next one has twice as many.
        classes: outputs of the head.
        in_channels: of the volumes; 1 for CT and MR.
        neck: options of a PMFS that reads all stages, its output added to the last one's; None for no neck. Its width
            is the first stage's where none is given.

    Raises `BlockError` for options that the neck cannot be built with.
    """

    def __init__(
        self,
        units: Sequence[int] = (1, 1, 1),
        *,
        width: int = 16,
        classes: int = 2,
        in_channels: int = 1,
        neck: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(len(units))]
        self.conv1 = nn.Conv3d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.stages = nn.ModuleList()
        channels = width
        for i, (count, out) in enumerate(zip(units, widths, strict=True)):
            strides = [2 if i and not j else 1 for j in range(count)]
            made = [Unit3d(channels if not j else out, out, stride) for j, stride in enumerate(strides)]
            self.stages.append(nn.Sequential(*made))
            channels = out
        self.neck: nn.Module | None = None
        if neck is not None:
            self.neck = create_neck("pmfs", widths, **{"width": width, **neck, "dim": "3d"})
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.groups == 1:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        if self.neck is not None:
            x = x + self.neck(maps)
        return self.fc(x.mean((2, 3, 4)))  # type: ignore[no-any-return]


__all__ = ["VolumeResNet"]
