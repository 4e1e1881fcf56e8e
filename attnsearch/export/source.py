"""An arch as one Python file that needs torch and nothing else.

    source(arch, classes=10, in_channels=3) -> text

Blocks are carried over from their own files with what they use; the host is spelled out, unit by unit, under the
names that its parameters have here, so that weights fit both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnsearch.blocks import registry
from attnsearch.build.resnet import (
    NECK_LEVELS,
    IdentityStart,
    ResNet,
    StageMaker,
    Thinned,
    Unit,
    build,
    stem_channels,
)
from attnsearch.build.shortcuts import PadChannels
from attnsearch.export.definitions import Collector
from attnsearch.space.arch import Arch, Block

WIDTH = 100
_CONV = (
    ("in_channels", "out_channels", "kernel_size"),
    {"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
)
_SAID = {  # layer -> (positional attributes, {keyword: its default})
    nn.Conv2d: _CONV,
    Thinned: _CONV,
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
    parts = [*writer.collector.text(), *writer.units.values(), body]
    said = [
        f"{arch.host.name}, {arch}: (B, {in_channels}, H, W) -> (B, {classes}).",
        *([head] if head else []),
    ]
    title = '"""' + "\n\n".join(said).replace("\\", "/").replace('"""', "'") + ('\n"""' if head else '"""')
    imports = writer.collector.imports({"import torch", "from torch import nn", "from torch import Tensor"})
    return "\n\n\n".join([f"{title}\n\nfrom __future__ import annotations\n\n{imports}", *parts]) + "\n"


class _Noted(StageMaker):
    """Makes stages as the host does, and notes on every block what it was called with."""

    def place(self, block: Block, slot: str, path: str, make: Callable[..., nn.Module]) -> nn.Module:
        return super().place(block, slot, path, lambda cls, options: make(_noting(cls), options))


def _noting(cls: type[nn.Module]) -> Callable[..., nn.Module]:
    def construct(*args: Any, **options: Any) -> nn.Module:
        module = cls(*args, **options)
        module.called = (args, options)  # type: ignore[assignment]
        return module

    return construct


class _Writer:
    """The network as source: expressions of its layers, classes of its units, the blocks that they need."""

    def __init__(self, arch: Arch, network: ResNet) -> None:
        self.arch, self.built = arch, network
        self.collector = Collector()
        self.units: dict[Any, str] = {}  # structure -> class source
        self.names: dict[Any, str] = {}
        self.blocks: list[str] = []

    def network(self) -> str:
        """The class `Network`."""
        built = self.built
        lines = [
            f"self.conv1 = {self.expression(built.conv1, 8)}",
            f"self.bn1 = {self.expression(built.bn1, 8)}",
        ]
        pooled = not isinstance(built.maxpool, nn.Identity)
        lines += [f"self.maxpool = {self.expression(built.maxpool, 8)}"] if pooled else []
        for i, stage in enumerate(self._stages()):
            gate = stage._modules.pop("attention", None)
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

    def expression(self, module: nn.Module, indent: int) -> str:
        """A constructor call that makes this module."""
        if isinstance(module, Unit):
            return self._unit(module, indent)
        if isinstance(module, IdentityStart):
            return _call(
                self.collector.add(IdentityStart), [self.expression(module.gate, indent + 4)], indent
            )
        if hasattr(module, "called"):
            name = self.collector.add(type(module))
            self.blocks += [name] if name not in self.blocks else []
            called: Any = module.called
            args, options = called
            return _call(name, [*map(repr, args), *(f"{k}={v!r}" for k, v in options.items())], indent)
        if isinstance(module, nn.Sequential):
            inner = [self.expression(child, indent + 4) for child in module.children()]
            return _call("nn.Sequential", _folded(inner, indent + 4), indent)
        ours = isinstance(module, Thinned | PadChannels)
        name = self.collector.add(type(module)) if ours else f"nn.{type(module).__name__}"
        return _call(name, _layer(module), indent)

    def _stages(self) -> list[nn.Sequential]:
        host, stages = self.arch.host.filled(), []
        with torch.device("meta"):
            for i, (spec, count) in enumerate(zip(self.arch.stages, host.units or (), strict=True)):
                entering = stem_channels(host) if i == 0 else host.channels(i - 1)
                stages.append(_Noted(host, spec, i, None).stage(entering, count))
        return stages

    def _neck(self) -> str:
        name, preset = registry.expand(self.arch.neck.name)
        channels = [self.arch.host.channels(i) for i in range(len(self.arch.stages))][-NECK_LEVELS:]
        options = {**preset, **dict(self.arch.neck.options)}
        written = self.collector.add(registry.load(name))
        self.blocks.append(written)
        return _call(written, [repr(channels), *(f"{k}={v!r}" for k, v in options.items())], 8)

    def _unit(self, unit: Unit, indent: int) -> str:
        named = {name: child for name, child in unit.named_children() if child is not None}
        shape = _Structure.of(unit)
        if shape not in self.names:
            self.names[shape] = _fresh("GatedUnit" if shape.position else "Unit", self.names.values())
            self.units[shape] = shape.text(self.names[shape])
        said = [f"{name}={self.expression(child, indent + 4)}" for name, child in named.items()]
        return _call(self.names[shape], said, indent)

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


@dataclass(frozen=True)
class _Structure:
    """What makes two units the same class: their layers and the order in which they run."""

    branch: tuple[tuple[str, str], ...]
    slot: str
    position: str
    pool: str
    activate_last: bool

    @classmethod
    def of(cls, unit: Unit) -> _Structure:
        pool = "pool" if unit.pool is not None else "pool_first" if unit.pool_first is not None else ""
        position = unit.position if unit.attention is not None else ""
        return cls(tuple(unit.branch), unit.slot, position, pool, unit.activate_last)

    def text(self, name: str) -> str:
        layers = [part for pair in self.branch for part in pair if part]
        layers += [self.pool] if self.pool else []
        layers += ["attention"] if self.position else []
        arguments = ", ".join(f"{layer}: nn.Module" for layer in layers)
        made = [f"self.{layer} = {layer}" for layer in [*layers, "downsample"]]
        said = f"A residual unit: {', '.join(layers)}; added to x, or to downsample(x)."
        return _class(
            name, said, f"{arguments}, downsample: nn.Module | None = None", made, self.forward(), []
        )

    def forward(self) -> list[str]:
        """Statements of the unit's forward pass, in the order of `host.Unit.forward`."""
        lines, value = [], "x"
        for step, (conv, norm) in enumerate(self.branch):
            here = conv == self.slot
            if here and self.pool == "pool_first":
                lines.append(f"out = self.pool_first({value})")
                value = "out"
            run = f"self.{conv}({value})"
            run = f"self.attention({run})" if here and self.position == "after_conv" else run
            run = f"self.{norm}({run})" if norm else run
            activated = norm and (step < len(self.branch) - 1 or self.activate_last)
            lines.append(f"out = torch.relu({run})" if activated else f"out = {run}")
            value = "out"
            lines += ["out = self.pool(out)"] if here and self.pool == "pool" else []
        lines += ["out = self.attention(out)"] if self.position == "before_add" else []
        added = "torch.relu(out + (x if self.downsample is None else self.downsample(x)))"
        return [
            *lines,
            f"return self.attention({added})" if self.position == "after_add" else f"return {added}",
        ]


def _layer(module: nn.Module) -> list[str]:
    """Arguments of one of torch's layers, those at their defaults left out."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return [repr(module.output_size)]
    positional, keywords = _SAID[type(module)]
    said = [repr(_single(getattr(module, name))) for name in positional]
    for name, default in keywords.items():
        value = _single(getattr(module, name))
        said += [f"{name}={value!r}"] if value != default else []
    return [*said, "bias=False"] if getattr(module, "bias", True) is None else said


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
    given = f"self, {arguments}" if arguments else "self"
    init = f"    def __init__({given}) -> None:"
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


def _fresh(name: str, taken: Any) -> str:
    number = 1
    while (candidate := name if number == 1 else f"{name}{number}") in taken:
        number += 1
    return candidate


__all__ = ["source"]
