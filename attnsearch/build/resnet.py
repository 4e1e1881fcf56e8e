"""Host: an Arch becomes a ResNet, with its parameters named as torchvision names them.

He et al., "Deep Residual Learning", CVPR 2016, arXiv:1512.03385; strides in the 3x3 as in torchvision ("v1.5"). What is
put into a slot adds names (`layer1.0.attention.*`) and never changes one of the host's, so pretrained weights load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from attnsearch.blocks import registry
from attnsearch.build.shortcuts import PadChannels
from attnsearch.core.errors import BlockError, UsageError
from attnsearch.core.seeds import derive
from attnsearch.space.arch import Arch, Block, Host, Stage

NECK_LEVELS = 3  # a neck reads the three deepest stages, as PMFSNet's does


class ResNet(nn.Module):
    """Stem, stages of residual units, an optional neck, and a linear head; (B, C, H, W) -> (B, classes).

    Args:
        arch: what to build.
        classes: outputs of the head.
        in_channels: of the images.
        seed: of the initialisation, keyed by name: layers that two archs share start bit-identical. None draws from
            torch's global generator.

    Raises:
        BlockError: a block refuses its options at the stage's width.
    """

    def __init__(
        self, arch: Arch, *, classes: int = 10, in_channels: int = 3, seed: int | None = None
    ) -> None:
        super().__init__()
        host = arch.host.filled()
        assert host.units is not None
        self.arch = arch
        self._add_stem(host, in_channels)
        channels = stem_channels(host)
        for i, (count, stage) in enumerate(zip(host.units, arch.stages, strict=True)):
            make = StageMaker(host, stage, i, seed)
            self.add_module(f"layer{i + 1}", make.stage(channels, count))
            channels = host.channels(i)
        self.neck = self._neck(arch, seed)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        self._initialise(seed)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(norm_relu(self.bn1, self.conv1(x)))
        maps = []
        for layer in self.layers():
            x = layer(x)
            maps.append(x)
        if self.neck is not None:
            # A residual: without it the neck would replace the last stage.
            x = x + self.neck(maps[-NECK_LEVELS:])
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]

    def layers(self) -> list[nn.Module]:
        """The stages, shallow to deep."""
        return [getattr(self, f"layer{i + 1}") for i in range(len(self.arch.stages))]

    def _add_stem(self, host: Host, in_channels: int) -> None:
        width = stem_channels(host)
        self.conv1: nn.Module
        self.maxpool: nn.Module = nn.Identity() if host.stem == "cifar" else nn.MaxPool2d(3, 2, 1)
        if host.stem == "cifar":
            self.conv1 = _conv(in_channels, width, 3)
        elif host.stem == "imagenet":
            self.conv1 = _conv(in_channels, width, 7, stride=2)
        else:
            half = width // 2
            self.conv1 = nn.Sequential(
                *(_conv(in_channels, half, 3, stride=2), nn.BatchNorm2d(half), nn.ReLU()),
                *(_conv(half, half, 3), nn.BatchNorm2d(half), nn.ReLU()),
                _conv(half, width, 3),
            )
        self.bn1 = nn.BatchNorm2d(width)

    @staticmethod
    def _neck(arch: Arch, seed: int | None) -> nn.Module | None:
        if not arch.neck:
            return None
        count = len(arch.stages)
        channels = [arch.host.channels(i) for i in range(count)][-NECK_LEVELS:]
        name, preset = registry.expand(arch.neck.name)
        options = {**preset, **dict(arch.neck.options)}
        registry.check_options(registry.info(name, slot="neck"), options)
        with _seeded(seed, "neck"):
            return registry.load(name)(channels, **options)

    def _initialise(self, seed: int | None) -> None:
        """He initialisation of the host's own layers (fan out, as torchvision); blocks keep the one they define."""
        inside = {name for name, module in self.named_modules() if hasattr(module, "block_name")}
        for name, module in self.named_modules():
            if any(name == block or name.startswith(f"{block}.") for block in inside):
                continue
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                continue  # no values to give, and torch would import its compiler for it: seconds
            with _seeded(seed, name):
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, nn.Linear):
                    module.reset_parameters()


class Unit(nn.Module):
    """A residual unit: branch, shortcut, addition, activation, with a gate at the stage's position.

    The branch is a list of (convolution, norm) names with a ReLU between; a block that ends in a norm and an activation
    of its own (`normalized = True`) takes the place of all three, save that a branch's last norm always stays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.branch: list[tuple[str, str]] = []  # (name of the convolution, name of its norm or "")
        self.slot = ""  # the convolution that a gate at after_conv follows
        self.pool_first: nn.Module | None = None
        self.pool: nn.Module | None = None
        self.downsample: nn.Module | None = None
        self.attention: nn.Module | None = None
        self.position = ""
        self.activate_last = False

    def forward(self, x: Tensor) -> Tensor:
        out, last_norm = self._branch(x)
        shortcut = x if self.downsample is None else self.downsample(x)
        if last_norm is not None and not (self.attention is not None and self.position == "before_add"):
            out = norm_add_relu(last_norm, out, shortcut)
        else:
            out = out if last_norm is None else last_norm(out)
            out = add_relu(self._gated("before_add", out), shortcut)
        return self._gated("after_add", out)

    def _branch(self, x: Tensor) -> tuple[Tensor, nn.Module | None]:
        """The branch up to its last norm, and that norm, unless an activation follows it here."""
        for step, (conv, norm) in enumerate(self.branch):
            if conv == self.slot and self.pool_first is not None:
                x = self.pool_first(x)
            x = getattr(self, conv)(x)
            if conv == self.slot:
                x = self._gated("after_conv", x)
            last = step == len(self.branch) - 1
            if last and not self.activate_last:
                return x, getattr(self, norm)
            if norm:
                x = norm_relu(getattr(self, norm), x)
            if conv == self.slot and self.pool is not None:
                x = self.pool(x)
        return x, None

    def _gated(self, position: str, x: Tensor) -> Tensor:
        return gated(self.attention, x) if self.attention is not None and self.position == position else x


def gated(gate: nn.Module, x: Tensor) -> Tensor:
    """gate(x), where `attnsearch.train.fused` may take hold."""
    if has_torch_function_unary(x):
        return handle_torch_function(gated, (x,), gate, x)
    return gate(x)  # type: ignore[no-any-return]


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """relu(norm(x)), where `attnsearch.train.fused` may take hold."""
    if has_torch_function_unary(x):
        return handle_torch_function(norm_relu, (x,), norm, x)
    return torch.relu(norm(x))


def norm_add_relu(norm: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """relu(norm(x) + other), where `attnsearch.train.fused` may take hold."""
    if has_torch_function((x, other)):
        return handle_torch_function(norm_add_relu, (x, other), norm, x, other)
    return torch.relu(norm(x) + other)


def add_relu(x: Tensor, other: Tensor) -> Tensor:
    """relu(x + other), where `attnsearch.train.fused` may take hold."""
    if has_torch_function((x, other)):
        return handle_torch_function(add_relu, (x, other), x, other)
    return torch.relu(x + other)


class IdentityStart(nn.Module):
    """x + s * (gate(x) - x), s a trained scalar that starts at 0: the network begins as it was without the gate."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * (self.gate(x) - x)  # type: ignore[no-any-return]


class Thinned(nn.Conv2d):
    """A 1x1 convolution with a stride that takes its places first: the same numbers, and the same MACs.

    On a CPU with AVX2 and no more, oneDNN 3 overwrites foreign memory in the gradient of such a convolution's weight,
    on channels-last maps of fewer than 8 channels: a crash, or wrong numbers in silence (uxlfoundation/oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.stride
        return nn.functional.conv2d(x[..., ::down, ::right], self.weight)


class StageMaker:
    """Builds the units of one stage."""

    def __init__(self, host: Host, stage: Stage, index: int, seed: int | None) -> None:
        self.host, self.stage_spec, self.index, self.seed = host, stage, index, seed

    def stage(self, in_channels: int, count: int) -> nn.Sequential:
        spec, channels = self.stage_spec, self.host.channels(self.index)
        carrying = spec.indices(count) if spec.attention and spec.position != "after_stage" else ()
        layer = nn.Sequential()
        for i in range(count):
            stride = 2 if i == 0 and self.index > 0 else 1
            path = f"layer{self.index + 1}.{i}"
            unit = self.unit(in_channels, stride, path)
            if i in carrying:
                inner = self.host.conv_channels(self.index) if spec.position == "after_conv" else channels
                unit.attention = self.gate(inner, f"{path}.attention")
                unit.position = spec.position
            layer.add_module(str(i), unit)
            in_channels = channels
        if spec.attention and spec.position == "after_stage":
            layer.add_module("attention", self.gate(channels, f"layer{self.index + 1}.attention"))
        return layer

    def unit(self, in_channels: int, stride: int, path: str) -> Unit:
        host, unit = self.host, Unit()
        planes, channels, inner = (
            host.planes(self.index),
            host.channels(self.index),
            host.conv_channels(self.index),
        )
        pooled = host.downsample != "conv" and stride > 1
        if pooled:
            pool = nn.AvgPool2d(3, stride, padding=1)
            unit.pool, unit.pool_first = (pool, None) if host.downsample == "pool" else (None, pool)
        slot_stride = 1 if pooled else stride
        if host.unit == "bottleneck":
            self.add(unit, "conv1", _conv(in_channels, inner, 1), inner)
            self.add(unit, "conv2", self.conv(inner, inner, slot_stride, f"{path}.conv2"), inner)
            self.add(unit, "conv3", _conv(inner, channels, 1), channels, last=True)
            unit.slot = "conv2"
        elif host.unit == "single":
            self.add(
                unit, "conv1", self.conv(in_channels, planes, slot_stride, f"{path}.conv1"), planes, last=True
            )
            unit.slot, unit.activate_last = "conv1", True
        else:
            both = self.stage_spec.convs == "both"
            first = self.conv if both else self.own_conv
            self.add(unit, "conv1", first(in_channels, planes, stride, f"{path}.conv1"), planes)
            self.add(unit, "conv2", self.conv(planes, planes, 1, f"{path}.conv2"), planes, last=True)
            unit.slot, unit.pool, unit.pool_first = "conv2", None, None
        if stride > 1 or in_channels != channels:
            unit.downsample = self.shortcut(in_channels, channels, stride)
        return unit

    @staticmethod
    def add(unit: Unit, name: str, conv: nn.Module, channels: int, last: bool = False) -> None:
        norm = name.replace("conv", "bn") if last or not getattr(conv, "normalized", False) else ""
        unit.add_module(name, conv)
        if norm:
            unit.add_module(norm, nn.BatchNorm2d(channels))
        unit.branch.append((name, norm))

    def own_conv(self, in_channels: int, out_channels: int, stride: int, path: str) -> nn.Module:
        return _conv(in_channels, out_channels, 3, stride=stride)

    def conv(self, in_channels: int, out_channels: int, stride: int, path: str) -> nn.Module:
        block = self.stage_spec.conv
        if not block:
            groups = self.host.cardinality if self.host.unit == "bottleneck" else 1
            return _conv(in_channels, out_channels, 3, stride=stride, groups=groups)
        return self.place(block, "conv", path, lambda cls, o: cls(in_channels, out_channels, stride, **o))

    def gate(self, channels: int, path: str) -> nn.Module:
        gate = self.place(self.stage_spec.attention, "attention", path, lambda cls, o: cls(channels, **o))
        if self.stage_spec.control == "null":
            return nn.Identity()
        gate.requires_grad_(self.stage_spec.control != "frozen")
        if self.stage_spec.init == "default" or getattr(gate, "starts_as_identity", False):
            return gate  # wrapping a gate that is the identity already would leave every gradient at zero
        return IdentityStart(gate)

    def place(self, block: Block, slot: str, path: str, make: Callable[..., nn.Module]) -> nn.Module:
        name, preset = registry.expand(block.name)
        facts = registry.info(name)
        if facts.slot != slot:
            raise UsageError(f"Block '{name}' stands in the {facts.slot} slot, not in the {slot} slot")
        options = {**preset, **dict(block.options)}
        registry.check_options(facts, options)
        try:
            with _seeded(self.seed, path):
                return make(registry.load(name), options)
        except BlockError as error:
            raise BlockError(f"stage {self.index + 1}: {error}") from None

    def shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        if self.host.shortcut == "pad":
            return PadChannels(in_channels, channels, stride)
        if self.host.shortcut == "conv":
            narrow = stride > 1 and in_channels < 8
            conv = (Thinned if narrow else nn.Conv2d)(in_channels, channels, 1, stride, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(channels))
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, _conv(in_channels, channels, 1), nn.BatchNorm2d(channels))


def build(arch: Arch, *, classes: int = 10, in_channels: int = 3, seed: int | None = None) -> ResNet:
    """An arch as a network, on the CPU, in train mode; see `ResNet`."""
    return ResNet(arch, classes=classes, in_channels=in_channels, seed=seed)


def stem_channels(host: Host) -> int:
    """Channels that the stem puts out."""
    return int(host.stem_width or host.planes(0))


def _conv(i: int, o: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


@contextmanager
def _seeded(seed: int | None, name: str) -> Iterator[None]:
    """Draw from a generator of this seed and name, and leave the global one as it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        yield
