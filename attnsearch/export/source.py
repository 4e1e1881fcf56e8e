"""An arch as one Python file that needs torch and nothing else.

    source(arch, classes=10, in_channels=3) -> text

Blocks and residual units are copied from their own files with what they use; the host (backbone) is written
out, unit by unit, under the names that its parameters have here, so that weights fit both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from attnsearch.blocks import registry
from attnsearch.build.resnet import NECK_LEVELS, ResNet, build
from attnsearch.build.shortcuts import PadChannels, SubsampledConv1x1
from attnsearch.build.units import IdentityStart, ResidualUnit
from attnsearch.export.definitions import Collector
from attnsearch.space.arch import Arch

WIDTH = 100
_CONV = (
    ("in_channels", "out_channels", "kernel_size"),
    {"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
)
_ARGUMENTS = {  # layer -> (positional attributes, {keyword: its default})
    nn.Conv2d: _CONV,
    SubsampledConv1x1: _CONV,
    nn.BatchNorm2d: (("num_features",), {}),
    nn.MaxPool2d: (("kernel_size", "stride", "padding"), {}),
    nn.AvgPool2d: (
        ("kernel_size", "stride"),
        {"padding": 0, "ceil_mode": False, "count_include_pad": True},
    ),
    nn.Linear: (("in_features", "out_features"), {}),
    PadChannels: (("in_channels", "out_channels", "stride"), {}),
    nn.ReLU: ((), {}),
    nn.Identity: ((), {}),
}


def source(arch: Arch, *, classes: int = 10, in_channels: int = 3, head: str = "") -> str:
    """The file's text; its class `Network` maps (B, in_channels, H, W) to (B, classes).

    Args:
        arch: what to write down.
        head: further lines of the file's docstring.

    Raises:
        UsageError: a plug-in block uses a part of attnsearch that is no block.
    """
    with torch.device("meta"):
        network = build(arch, classes=classes, in_channels=in_channels)
        writer = _Writer(arch, network)
    body = writer.network()
    parts = [*writer.collector.text(), body]
    imports = writer.collector.imports({"import torch", "from torch import nn", "from torch import Tensor"})
    first = f"{arch.host.name}, {arch}: (B, {in_channels}, H, W) -> (B, {classes})."
    return file_text([first, head], imports, parts)


def file_text(docstring: Sequence[str], imports: str, parts: Sequence[str]) -> str:
    """A file of these paragraphs as its docstring, these imports and these definitions."""
    lines = [line for line in docstring if line]
    end = '\n"""' if len(lines) > 1 else '"""'
    title = '"""' + "\n\n".join(lines).replace("\\", "/").replace('"""', "'") + end
    return "\n\n\n".join([f"{title}\n\nfrom __future__ import annotations\n\n{imports}", *parts]) + "\n"


class Expressions:
    """Layers as expressions, and the classes that these need."""

    def __init__(self) -> None:
        self.collector = Collector()
        self.blocks: list[str] = []

    def expression(self, module: nn.Module, indent: int) -> str:
        """A constructor call that makes this module."""
        if isinstance(module, ResidualUnit):
            return self._unit(module, indent)
        if isinstance(module, IdentityStart):
            return _call(
                self.collector.add(IdentityStart), [self.expression(module.gate, indent + 4)], indent
            )
        if hasattr(module, "constructed_with"):
            name = self.collector.add(type(module))
            self.blocks += [name] if name not in self.blocks else []
            constructed_with: Any = module.constructed_with
            args, options = constructed_with
            return _call(name, [*map(repr, args), *(f"{k}={v!r}" for k, v in options.items())], indent)
        if isinstance(module, nn.Sequential):
            inner = [self.expression(child, indent + 4) for child in module.children()]
            return _call("nn.Sequential", _folded(inner, indent + 4), indent)
        ours = isinstance(module, SubsampledConv1x1 | PadChannels)
        name = self.collector.add(type(module)) if ours else f"nn.{type(module).__name__}"
        return _call(name, _layer(module), indent)

    def _unit(self, unit: ResidualUnit, indent: int) -> str:
        layers = unit.named_children()
        args = [f"{name}={self.expression(layer, indent + 4)}" for name, layer in layers]
        args += [f"position={unit.position!r}"] if unit.position else []
        return _call(self.collector.add(type(unit)), args, indent)


class _Writer(Expressions):
    """The network as source."""

    def __init__(self, arch: Arch, network: ResNet) -> None:
        super().__init__()
        self.arch, self.built = arch, network

    def network(self) -> str:
        """The class `Network`."""
        built = self.built
        lines = [
            f"self.conv1 = {self.expression(built.conv1, 8)}",
            f"self.bn1 = {self.expression(built.bn1, 8)}",
        ]
        pooled = not isinstance(built.maxpool, nn.Identity)
        lines += [f"self.maxpool = {self.expression(built.maxpool, 8)}"] if pooled else []
        for i, stage in enumerate(built.layers()):
            gate = stage._modules.pop("attention", None)  # `built` is here to be written, not to run
            lines.append(f"self.layer{i + 1} = {self.expression(stage, 8)}")
            if gate is not None:
                lines.append(f'self.layer{i + 1}.add_module("attention", {self.expression(gate, 8)})')
        if built.neck is not None:
            lines.append(f"self.neck = {self._neck()}")
        lines.append(f"self.fc = {self.expression(built.fc, 8)}")
        return _class(
            "Network",
            f"{self.arch}.",
            "",
            [*lines, "self._initialise()"],
            self._forward(pooled),
            self._initialisation(),
        )

    def _neck(self) -> str:
        name, preset = registry.expand(self.arch.neck.name)
        channels = [self.arch.host.channels(i) for i in range(len(self.arch.stages))][-NECK_LEVELS:]
        options = {**preset, **dict(self.arch.neck.options)}
        written = self.collector.add(registry.load(name))
        self.blocks.append(written)
        return _call(written, [repr(channels), *(f"{k}={v!r}" for k, v in options.items())], 8)

    def _forward(self, pooled: bool) -> list[str]:
        count = len(self.arch.stages)
        stem = "torch.relu(self.bn1(self.conv1(x)))"
        lines = [f"x = {f'self.maxpool({stem})' if pooled else stem}"]
        if self.built.neck is None:
            lines += [f"x = self.layer{i + 1}(x)" for i in range(count)]
            return [*lines, "return self.fc(x.mean((2, 3)))"]
        lines.append("maps = []")
        for i in range(count):
            lines += [f"x = self.layer{i + 1}(x)", "maps.append(x)"]
        return [*lines, f"x = x + self.neck(maps[-{NECK_LEVELS}:])", "return self.fc(x.mean((2, 3)))"]

    def _initialisation(self) -> list[str]:
        lines = [
            "def _initialise(self) -> None:",
            '    """He initialisation of the host; blocks keep their own."""',
        ]
        loop = "    for layer in self.modules():"
        if self.blocks:
            kinds = self.blocks[0] if len(self.blocks) == 1 else f"({', '.join(self.blocks)})"
            lines += [
                f"    blocks = [module for module in self.modules() if isinstance(module, {kinds})]",
                "    inside = {id(layer) for block in blocks for layer in block.modules()}",
                loop,
                "        if isinstance(layer, nn.Conv2d) and id(layer) not in inside:",
            ]
        else:
            lines += [loop, "        if isinstance(layer, nn.Conv2d):"]
        return [
            *lines,
            '            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")',
        ]


def _layer(module: nn.Module) -> list[str]:
    """Arguments of one of torch's layers, those at their defaults left out."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return [repr(module.output_size)]
    positional, keywords = _ARGUMENTS[type(module)]
    args = [repr(_single(getattr(module, name))) for name in positional]
    for name, default in keywords.items():
        value = _single(getattr(module, name))
        args += [f"{name}={value!r}"] if value != default else []
    return [*args, "bias=False"] if getattr(module, "bias", True) is None else args


def _single(value: Any) -> Any:
    """One number for a pair of equal ones."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _call(name: str, args: Sequence[str], indent: int) -> str:
    """A call on one line, or an argument to a line where that would be long."""
    short = f"{name}({', '.join(args)})"
    if "\n" not in short and len(short) + indent <= WIDTH - 20:
        return short
    pad = " " * (indent + 4)
    return f"{name}(\n" + "".join(f"{pad}{arg},\n" for arg in args) + " " * indent + ")"


def _folded(items: Sequence[str], indent: int) -> list[str]:
    """Equal neighbours as one generator."""
    out: list[str] = []
    start = 0
    while start < len(items):
        count = 1
        while start + count < len(items) and items[start + count] == items[start]:
            count += 1
        if count > 2:
            inner = textwrap.indent(items[start], "    ").lstrip()
            pad = " " * indent
            out.append(f"*(\n{pad}    {inner}\n{pad}    for _ in range({count})\n{pad})")
        else:
            out.extend(items[start : start + count])
        start += count
    return out


def _class(
    name: str, doc: str, arguments: str, made: Sequence[str], forward: Sequence[str], more: Sequence[str]
) -> str:
    parameters = f"self, {arguments}" if arguments else "self"
    init = f"    def __init__({parameters}) -> None:"
    if len(init) > WIDTH:
        split = "".join(f"        {part},\n" for part in ["self", *arguments.split(", ")])
        init = f"    def __init__(\n{split}    ) -> None:"
    lines = [
        f"class {name}(nn.Module):",
        textwrap.fill(f'"""{doc}"""', WIDTH, initial_indent="    ", subsequent_indent="    "),
        "",
        init,
        "        super().__init__()",
        *(f"        {line}" for line in made),
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *(f"        {line}" for line in forward),
        *(["", *(f"    {line}" for line in more)] if more else []),
    ]
    return "\n".join(lines)


__all__ = ["Expressions", "file_text", "source"]
