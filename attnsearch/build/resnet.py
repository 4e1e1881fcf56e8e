"""Host: an Arch becomes a ResNet, with its parameters named as torchvision names them.

He et al., "Deep Residual Learning", CVPR 2016, arXiv:1512.03385; strides in the 3x3 as in torchvision ("v1.5"). What is
put into a slot adds names (`layer1.0.attention.*`) and never changes one of the host's, so pretrained weights load.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.fx
from torch import Tensor, nn

from attnsearch.blocks import registry
from attnsearch.build.ops import norm_relu
from attnsearch.build.shortcuts import PadChannels, SubsampledConv1x1
from attnsearch.build.units import BasicUnit, Bottleneck, IdentityStart, ResidualUnit, SingleUnit
from attnsearch.core.errors import BlockError, UsageError
from attnsearch.core.seeds import derive
from attnsearch.space.arch import Arch, Block, Host, Stage

Layers = dict[str, nn.Module | None]
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
            builder = StageBuilder(host, stage, i, seed)
            self.add_module(f"layer{i + 1}", builder.stage(channels, count))
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

    def __prepare_scriptable__(self) -> nn.Module:
        """The network as `torch.jit.script` compiles it: traced, since it takes no function of modules.

        Raises `UsageError` for a neck whose forward depends on the size of its maps.
        """
        if self.neck is not None:
            raise UsageError(
                f"a network with the neck {self.arch.neck} cannot be scripted; torch.export.export takes it"
            )
        graph = _WholeNorms().trace(self)
        for node in graph.nodes:
            node.type = None  # an annotation's text names what the script does not know
        return torch.fx.GraphModule(self, graph)

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
            second = width // 2
            first = 3 * (second // 4) if host.stem == "tiered" else second
            self.conv1 = nn.Sequential(
                *(_conv(in_channels, first, 3, stride=2), nn.BatchNorm2d(first), nn.ReLU()),
                *(_conv(first, second, 3), nn.BatchNorm2d(second), nn.ReLU()),
                _conv(second, width, 3),
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
        with seeded(seed, "neck"):
            return registry.load(name)(channels, **options)

    def _initialise(self, seed: int | None) -> None:
        """He initialisation of the host's own layers (fan out, as torchvision); blocks keep the one they define."""
        inside = {name for name, module in self.named_modules() if hasattr(module, "block_name")}
        for name, module in self.named_modules():
            if any(name == block or name.startswith(f"{block}.") for block in inside):
                continue
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                continue  # no values to give, and torch would import its compiler for it: seconds
            with seeded(seed, name):
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, nn.Linear):
                    module.reset_parameters()


class _WholeNorms(torch.fx.Tracer):
    """Keeps a norm as a module, which reads `training` at every pass; all else is traced through."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or super().is_leaf_module(module, path)


class StageBuilder:
    """Builds the units of one stage."""

    def __init__(self, host: Host, stage: Stage, index: int, seed: int | None) -> None:
        self.host, self.stage_spec, self.index, self.seed = host, stage, index, seed

    def stage(self, in_channels: int, count: int) -> nn.Sequential:
        spec, channels = self.stage_spec, self.host.channels(self.index)
        carrying = spec.indices(count) if spec.attention and spec.position != "after_stage" else ()
        layer = nn.Sequential()
        for i in range(count):
            stride = 2 if i == 0 and self.index > 0 else 1
            unit = self.unit(in_channels, stride, f"layer{self.index + 1}.{i}", gated=i in carrying)
            layer.add_module(str(i), unit)
            in_channels = channels
        if spec.attention and spec.position == "after_stage":
            layer.add_module("attention", self.gate(channels, f"layer{self.index + 1}.attention"))
        return layer

    def unit(self, in_channels: int, stride: int, path: str, *, gated: bool) -> ResidualUnit:
        host, spec = self.host, self.stage_spec
        cls, layers = {
            "basic": (BasicUnit, self._basic_layers),
            "bottleneck": (Bottleneck, self._bottleneck_layers),
            "single": (SingleUnit, self._single_layers),
        }[host.unit or "basic"]
        branch = layers(in_channels, stride, path)
        channels, downsample, attention = host.channels(self.index), None, None
        if stride > 1 or in_channels != channels:
            downsample = self.shortcut(in_channels, channels, stride)
        if gated:
            width = host.conv_channels(self.index) if spec.position == "after_conv" else channels
            attention = self.gate(width, f"{path}.attention")
        position = spec.position if gated else ""
        return cls(**branch, downsample=downsample, attention=attention, position=position)

    def _basic_layers(self, in_channels: int, stride: int, path: str) -> Layers:
        planes = self.host.planes(self.index)
        convs = self.stage_spec.convs
        first = self.default_conv if convs == "second" else self.conv
        second = self.default_conv if convs == "first" else self.conv
        conv1 = first(in_channels, planes, stride, f"{path}.conv1")
        bn1 = _norm_behind(conv1, planes)
        conv2 = second(planes, planes, 1, f"{path}.conv2")
        return {"conv1": conv1, "bn1": bn1, "conv2": conv2, "bn2": nn.BatchNorm2d(planes)}

    def _bottleneck_layers(self, in_channels: int, stride: int, path: str) -> Layers:
        inner, channels = self.host.conv_channels(self.index), self.host.channels(self.index)
        pools, stride = self._pools(stride)
        first = {"conv1": _conv(in_channels, inner, 1), "bn1": nn.BatchNorm2d(inner)}
        conv2 = self.conv(inner, inner, stride, f"{path}.conv2")
        last = {"conv3": _conv(inner, channels, 1), "bn3": nn.BatchNorm2d(channels)}
        return {**first, "conv2": conv2, "bn2": _norm_behind(conv2, inner), **last, **pools}

    def _single_layers(self, in_channels: int, stride: int, path: str) -> Layers:
        planes = self.host.planes(self.index)
        pools, stride = self._pools(stride)
        conv1 = self.conv(in_channels, planes, stride, f"{path}.conv1")
        return {"conv1": conv1, "bn1": nn.BatchNorm2d(planes), **pools}

    def _pools(self, stride: int) -> tuple[Layers, int]:
        """The pools before and behind the conv slot, and the stride that is left to its convolution."""
        pools: Layers = {"pool_first": None, "pool": None}
        if self.host.downsample == "conv" or stride == 1:
            return pools, stride
        return {**pools, self.host.downsample: nn.AvgPool2d(3, stride, padding=1)}, 1

    @staticmethod
    def default_conv(in_channels: int, out_channels: int, stride: int, path: str) -> nn.Module:
        return _conv(in_channels, out_channels, 3, stride=stride)

    def conv(self, in_channels: int, out_channels: int, stride: int, path: str) -> nn.Module:
        block = self.stage_spec.conv
        if not block:
            groups = self.host.cardinality if self.host.unit == "bottleneck" else 1
            return _conv(in_channels, out_channels, 3, stride=stride, groups=groups)
        return self.build_block(block, "conv", path, in_channels, out_channels, stride)

    def gate(self, channels: int, path: str) -> nn.Module:
        gate = self.build_block(self.stage_spec.attention, "attention", path, channels)
        if self.stage_spec.control == "null":
            return nn.Identity()
        gate.requires_grad_(self.stage_spec.control != "frozen")
        if self.stage_spec.init == "default" or getattr(gate, "starts_as_identity", False):
            return gate  # wrapping a gate that is the identity already would leave every gradient at zero
        return IdentityStart(gate)

    def build_block(self, block: Block, slot: str, path: str, *shape: int) -> nn.Module:
        """A block of the space at this shape; `constructed_with` notes on it what an export writes."""
        name, preset = registry.expand(block.name)
        info = registry.info(name)
        if info.slot != slot:
            raise UsageError(f"Block '{name}' stands in the {info.slot} slot, not in the {slot} slot")
        options = {**preset, **dict(block.options)}
        registry.check_options(info, options)
        try:
            with seeded(self.seed, path):
                module = registry.load(name)(*shape, **options)
        except BlockError as error:
            raise BlockError(f"stage {self.index + 1}: {error}") from None
        module.constructed_with = (shape, options)  # type: ignore[assignment]
        return module

    def shortcut(self, in_channels: int, channels: int, stride: int) -> nn.Module:
        if self.host.shortcut == "pad":
            return PadChannels(in_channels, channels, stride)
        bias = self.host.shortcut_bias
        if self.host.shortcut == "conv":
            narrow = stride > 1 and in_channels < 8
            conv = (SubsampledConv1x1 if narrow else nn.Conv2d)(in_channels, channels, 1, stride, bias=bias)
            return nn.Sequential(conv, nn.BatchNorm2d(channels))
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, nn.Conv2d(in_channels, channels, 1, bias=bias), nn.BatchNorm2d(channels))


def build(arch: Arch, *, classes: int = 10, in_channels: int = 3, seed: int | None = None) -> ResNet:
    """An arch as a network, on the CPU, in train mode; see `ResNet`."""
    return ResNet(arch, classes=classes, in_channels=in_channels, seed=seed)


def stem_channels(host: Host) -> int:
    """Channels that the stem puts out."""
    return int(host.stem_width or host.planes(0))


def _norm_behind(conv: nn.Module, channels: int) -> nn.Module | None:
    """A batch norm, unless the convolution is a block that ends in one and in an activation."""
    return None if getattr(conv, "normalized", False) else nn.BatchNorm2d(channels)


def _conv(i: int, o: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


@contextmanager
def seeded(seed: int | None, name: str) -> Iterator[None]:
    """Draw from a generator of this seed and name, and leave the global one as it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        yield
