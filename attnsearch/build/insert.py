"""Insert: any gate or conv block into a ResNet that attnsearch did not build, with none of its parameters renamed.

    model = torchvision.models.resnet50()
    load_weights(model, "resnet50.pth")
    insert(model, "cbam", stages=(3, 4), init="identity")       # starts as the network it was

A ResNet is known by its layout, torchvision's and timm's alike: children layer1, layer2, ... made of residual units
with conv1, bn1, conv2, bn2 and, in bottlenecks, conv3, bn3 (`attnsearch.build.layers`). A gate is a new child
`attention` of its unit (or of the stage), called by the unit's own `forward`, whose class becomes a generated subclass
(`attnsearch.build.position`, `attnsearch.build.rewrite`); a conv block takes the place of `conv2`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import nn

from attnsearch.blocks import registry
from attnsearch.build import position as positions
from attnsearch.build import probe
from attnsearch.build.create import create_block
from attnsearch.build.layers import (
    Layer,
    Unit,
    check_nothing_left_out,
    check_shared,
    choose_layers,
    choose_units,
    find_layers,
)
from attnsearch.build.units import IdentityStart, ResidualUnit
from attnsearch.core.errors import BlockError, UsageError, did_you_mean
from attnsearch.space.arch import INITS, POSITIONS

Model = TypeVar("Model", bound=nn.Module)


def insert(
    model: Model,
    block: str,
    *,
    stages: int | Sequence[int] | None = None,
    units: str | Sequence[int] = "all",
    position: str = "before_add",
    init: str | None = None,
    **options: Any,
) -> Model:
    """Put a block into a ResNet, in place, and return it; nothing is changed where an error is raised.

    Args:
        model: has the layout named at the head of this file, itself or in a child, in one backbone or several.
        block: of the attention or conv slot, or one of its presets: `"cbam"`, `"se.timm"`, `"psa"`.
        stages: numbers from 1 (layer1); all when None.
        units: `all`, `first`, `last`, `alternate` or indices from 0, in each of these stages.
        position: of a gate: `before_add`, `after_conv` (after conv2, before its norm), `after_add`, `after_stage`.
        init: of a gate: `identity` leaves the network's output as it was until training moves the gate.
        options: the block's.

    `before_add` is the end of the residual branch, before the addition, whatever the order of norm and convolution.
    Where a unit has a gate of its own there (timm's `se`), that comes first and the inserted one reads what it gives;
    a warning names it. A conv block stands for conv2 with its widths, stride and groups; one that ends in a norm and
    an activation of its own (splat, sk) takes bn2 of a bottleneck with it. New parameters are on the unit's device, in
    its dtype. A gate `after_conv` stands between conv2 and bn2: tools that read the graph (torch.fx) leave the two
    apart, a script that folds bn2 into conv2 by name must not be run on such a unit.

    Raises:
        UsageError: an unknown word; no such layout in the model; a unit in which the position cannot be told or no
            call can be written; a residual unit that would be left out.
        BlockError: the block does not fit a stage's width.
    """
    name, _ = registry.expand(block)
    slot = registry.info(name).slot
    _check(name, slot, position, init, units)
    make: Gates | Convs
    if slot == "attention":
        make = Gates(block, position, partial(_gate, block, init, options))
    else:
        make = Convs(block, options, partial(_conv, block))
    place(model, make, stages=stages, units=units, position=position)
    make.tell()
    return model


def place(
    model: nn.Module,
    make: Gates | Convs,
    *,
    stages: int | Sequence[int] | None = None,
    units: str | Sequence[int] = "all",
    position: str = "before_add",
) -> None:
    """`insert` for what `make` builds; nothing is changed where an error is raised."""
    found = find_layers(model)
    layers = choose_layers(found, stages)
    attach: dict[int, Callable[[], None]] = {}
    if position == "after_stage":
        for layer in layers:
            if id(layer.module) not in attach:
                attach[id(layer.module)] = _named(layer.path, partial(make.stage, layer))
    else:
        check_nothing_left_out(found, layers, everywhere=stages is None)
        chosen = [unit for layer in layers for unit in choose_units(layer, units)]
        check_shared(found.layers, chosen)
        for unit in chosen:
            if id(unit.module) not in attach:
                attach[id(unit.module)] = _named(unit, partial(make.unit, unit.module))
    for act in attach.values():
        act()


class Gates:
    """Makes gates for units and stages, each with what attaches it.

    Args:
        block: its name. build: a gate for a map of so many channels.
    """

    def __init__(self, block: str, position: str, build: Callable[[int], nn.Module]) -> None:
        self.block, self.position, self.build = block, position, build
        self.gates_before: list[tuple[str, ...]] = []

    def unit(self, unit: nn.Module) -> Callable[[], None]:
        return self.module(unit, self.position, unit)

    def stage(self, layer: Layer) -> Callable[[], None]:
        last = layer.units[-1].module
        if isinstance(
            layer.module, nn.ModuleList
        ):  # has no output of its own; its last unit's is the stage's
            return self.module(last, "after_add", last)
        if type(layer.module).forward is not nn.Sequential.forward:
            return self.module(layer.module, "after_add", layer.units[0].module)
        positions.refuse_without_forward(last)
        gate = self.gate(layer.module, positions.out_channels(last, probe.in_channels(last)), last)
        return lambda: layer.module.add_module("attention", gate)

    def module(self, owner: nn.Module, position: str, first: nn.Module) -> Callable[[], None]:
        positions.refuse_without_forward(owner)
        self.free(owner)
        if isinstance(owner, ResidualUnit):
            return self.own(owner, position)
        place = positions.find(owner, position, probe.in_channels(first))
        gate = self.gate(owner, place.channels, first)
        self.gates_before.append(place.gates_before)

        def attach() -> None:
            owner.__class__ = place.cls
            owner.attention = gate

        return attach

    def own(self, unit: ResidualUnit, position: str) -> Callable[[], None]:
        """For a unit of `create_model`, whose forward asks for a gate at each position."""
        behind = "after_conv" if position == "after_conv" else "after_add"  # the branch is as wide as the sum
        gate = self.gate(unit, positions.out_channels(unit, probe.in_channels(unit), behind), unit)

        def attach() -> None:
            unit.attention, unit.position = gate, position

        return attach

    def gate(self, owner: nn.Module, channels: int, unit: nn.Module) -> nn.Module:
        self.free(owner)
        return _like(self.build(channels), unit)

    @staticmethod
    def free(owner: nn.Module) -> None:
        if getattr(owner, "attention", None) is not None:
            raise UsageError("There is an attention block in this place already; insert into a fresh model")

    def tell(self) -> None:
        """Warn of units that weigh their branch already."""
        own = [names for names in self.gates_before if names]
        if own:
            names = ", ".join(dict.fromkeys(name for names in own for name in names))
            warnings.warn(
                f"{len(own)} units have a gate of their own ({names}): it comes first, the inserted {self.block} reads "
                "what it gives",
                stacklevel=3,
            )


class Convs:
    """Makes conv blocks for units, each with what attaches it.

    Args:
        block: its name, with options.
        build: a block of (channels, out_channels, stride) with options.
    """

    def __init__(self, block: str, options: Mapping[str, Any], build: Callable[..., nn.Module]) -> None:
        self.block, self.options, self.build = block, options, build

    def unit(self, unit: nn.Module) -> Callable[[], None]:
        positions.refuse_without_forward(unit)
        conv = unit.get_submodule("conv2")
        if not isinstance(conv, nn.Conv2d):
            raise UsageError(
                f"conv2 is a {type(conv).__name__}, not a convolution that a block could replace"
            )
        if conv._forward_hooks or conv._forward_pre_hooks:
            raise UsageError("conv2 carries a hook that would go with it; insert conv blocks before hooks")
        if conv.dilation != (1, 1) or conv.stride[0] != conv.stride[1]:
            raise UsageError(
                f"conv2 has dilation {conv.dilation} and stride {conv.stride}; blocks have neither"
            )
        shape = conv.in_channels, conv.out_channels, conv.stride[0]
        block = _like(self.build(*shape, **{**self.groups(conv), **self.options}), unit)
        inner = "conv3" in probe.children(unit) and getattr(block, "normalized", False)
        if inner and not positions.norm_follows(unit, probe.in_channels(unit)):
            raise UsageError(
                f"'{self.block}' ends in a norm and an activation of its own, which stand for bn2 after conv2; here "
                "bn2 does not follow conv2"
            )

        def attach() -> None:
            unit.conv2 = block
            if inner:  # it has normed and activated; torchvision's ReLU, shared by the unit, changes nothing
                unit.bn2 = nn.Identity()
                if hasattr(unit, "act2"):
                    unit.act2 = nn.Identity()

        return attach

    def groups(self, conv: nn.Conv2d) -> dict[str, int]:
        """The option that keeps the groups of a grouped convolution; `UsageError` where the block has none."""
        if conv.groups == 1 or "groups" in self.options:
            return {}
        name, preset = registry.expand(self.block)
        has = {option.name: option for option in registry.info(name).options}
        for option in ("groups", "cardinality"):
            if option in has and "tuple" not in has[option].type and option not in preset:
                return {} if option in self.options else {option: conv.groups}
        choice = ", or say groups=... yourself" if "groups" in has else ""
        raise UsageError(
            f"conv2 has {conv.groups} groups, which '{self.block}' cannot keep: it would read every channel in every "
            f"group; choose a block with one number of groups (splat, sk){choice}"
        )

    def stage(self, layer: Layer) -> Callable[[], None]:
        raise UsageError("a conv block stands in units, not after a stage")

    def tell(self) -> None:
        """Nothing to warn of."""


def _named(where: Unit | str, make: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """What `make` gives; its errors say where they arose."""
    try:
        return make()
    except (BlockError, UsageError) as error:
        raise type(error)(f"{where}: {error}") from None


def _check(name: str, slot: str, position: str, init: str | None, units: str | Sequence[int]) -> None:
    if slot == "neck":
        raise UsageError(
            f"'{name}' is a neck, which reads several stages; insert takes gates and conv blocks"
        )
    for what, value, known in (("position", position, POSITIONS), ("init", init or "default", INITS)):
        if value not in known:
            near = did_you_mean(str(value), known)
            raise UsageError(f"unknown {what} '{value}'.{near} Known: {', '.join(known)}")
    if slot == "conv" and (position != "before_add" or init is not None):
        raise UsageError(f"'{name}' is a conv block: it stands for conv2 and has neither position nor init")
    if position == "after_stage" and units not in ("all", "last"):
        raise UsageError(
            f"a gate after_stage stands once, behind the stage's last unit; leave units={units!r} out"
        )


def _gate(block: str, init: str | None, options: Mapping[str, Any], channels: int) -> nn.Module:
    gate = create_block(block, channels, **options)
    if init == "identity" and not getattr(gate, "starts_as_identity", False):
        gate = IdentityStart(gate)
    return gate


def _conv(block: str, channels: int, out_channels: int, stride: int, **options: Any) -> nn.Module:
    return create_block(block, channels, out_channels=out_channels, stride=stride, **options)


def _like(block: nn.Module, unit: nn.Module) -> nn.Module:
    reference = next(unit.parameters())
    return block.to(device=reference.device, dtype=reference.dtype).train(unit.training)
