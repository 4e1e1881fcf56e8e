"""Insert: any gate or conv block into a ResNet that attnsearch did not build, with none of its parameters renamed.

    model = torchvision.models.resnet50()
    load_weights(model, "resnet50.pth")
    insert(model, "cbam", stages=(3, 4), init="identity")       # starts as the network it was

A ResNet is known by its layout, torchvision's and timm's alike: children layer1, layer2, ... made of residual units
with conv1, bn1, conv2, bn2 and, in bottlenecks, conv3, bn3. A gate is a new child `attention` of its unit (or of the
stage), reached by a forward hook where the unit's own code cannot be changed; a conv block takes the place of `conv2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from attnsearch.blocks import registry
from attnsearch.build.create import create_block
from attnsearch.build.resnet import IdentityStart
from attnsearch.core.errors import BlockError, UsageError, did_you_mean
from attnsearch.space.arch import INITS, POSITIONS, UNITS, Stage

Model = TypeVar("Model", bound=nn.Module)
_UNIT = ("conv1", "bn1", "conv2", "bn2")


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
        model: has the layout named at the head of this file, itself or in a child.
        block: of the attention or conv slot, or one of its presets: `"cbam"`, `"se.timm"`, `"psa"`.
        stages: numbers from 1 (layer1); all when None.
        units: `all`, `first`, `last`, `alternate` or indices from 0, in each of these stages.
        position: of a gate: `before_add`, `after_conv` (after conv2, before its norm), `after_add`, `after_stage`.
        init: of a gate: `identity` leaves the network's output as it was until training moves the gate.
        options: the block's.

    A conv block stands for conv2 with its widths and stride; one that ends in a norm and an activation of its own
    (splat, sk) takes bn2 of a bottleneck with it. New parameters are on conv2's device, in its dtype.

    Raises:
        UsageError: an unknown word, or no such layout in the model.
        BlockError: the block does not fit a stage's width.
    """
    name, _ = registry.expand(block)
    slot = registry.info(name).slot
    _check(name, slot, position, init)
    layers = _find_layers(model)
    chosen = _chosen_stages(stages, len(layers))
    make = _Gates(block, position, init, options) if slot == "attention" else _Convs(block, options)
    attach: list[Callable[[], None]] = []
    for number in chosen:
        layer = layers[number - 1]
        try:
            if position == "after_stage":
                attach.append(make.stage(layer))
            else:
                found = _units(layer)
                attach.extend(make.unit(found[i]) for i in _chosen_units(units, len(found)))
        except BlockError as error:
            raise BlockError(f"layer{number}: {error}") from None
    for act in attach:
        act()
    return model


class _Gates:
    """Makes gates for units and stages, each with what attaches it."""

    def __init__(self, block: str, position: str, init: str | None, options: Mapping[str, Any]) -> None:
        self.block, self.position, self.init, self.options = block, position, init, options

    def unit(self, unit: nn.Module) -> Callable[[], None]:
        conv2, last_norm = unit.get_submodule("conv2"), _last(unit)[1]
        place = {"before_add": last_norm, "after_conv": conv2, "after_add": unit}[self.position]
        inner = self.position == "after_conv" and hasattr(unit, "conv3")
        channels = _in_channels(unit, "conv3") if inner else _channels(unit)
        gate = self.gate(unit, channels, unit)

        def attach() -> None:
            unit.attention = gate
            place.register_forward_hook(_ThroughAttention(unit))

        return attach

    def stage(self, layer: nn.Sequential) -> Callable[[], None]:
        unit = _units(layer)[-1]
        gate = self.gate(layer, _channels(unit), unit)
        return lambda: layer.add_module("attention", gate)

    def gate(self, owner: nn.Module, channels: int, unit: nn.Module) -> nn.Module:
        if getattr(owner, "attention", None) is not None:
            raise UsageError("There is an attention block in this place already; insert into a fresh model")
        gate = create_block(self.block, channels, **self.options)
        if self.init == "identity" and not getattr(gate, "starts_as_identity", False):
            gate = IdentityStart(gate)
        return _like(gate, unit)


class _Convs:
    """Makes conv blocks for units, each with what attaches it."""

    def __init__(self, block: str, options: Mapping[str, Any]) -> None:
        self.block, self.options = block, options

    def unit(self, unit: nn.Module) -> Callable[[], None]:
        conv = unit.conv2
        if not isinstance(conv, nn.Conv2d):
            raise UsageError(
                f"conv2 is a {type(conv).__name__}, not a convolution that a block could replace"
            )
        if conv._forward_hooks:
            raise UsageError("conv2 carries a hook that would go with it; insert conv blocks before gates")
        if conv.dilation != (1, 1) or conv.stride[0] != conv.stride[1]:
            raise UsageError(
                f"conv2 has dilation {conv.dilation} and stride {conv.stride}; blocks have neither"
            )
        shape = {"out_channels": conv.out_channels, "stride": conv.stride[0]}
        block = _like(create_block(self.block, conv.in_channels, **shape, **self.options), unit)
        inner = hasattr(unit, "conv3") and getattr(block, "normalized", False)

        def attach() -> None:
            unit.conv2 = block
            if inner:  # it has normed and activated; torchvision's ReLU, shared by the unit, changes nothing
                unit.bn2 = nn.Identity()
                if hasattr(unit, "act2"):
                    unit.act2 = nn.Identity()

        return attach

    def stage(self, layer: nn.Sequential) -> Callable[[], None]:
        raise UsageError("a conv block stands in units, not after a stage")


class _ThroughAttention:
    """A forward hook: the output goes through the unit's `attention`. An object, so that deepcopy copies its unit."""

    def __init__(self, unit: nn.Module) -> None:
        self.unit = unit

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return self.unit.get_submodule("attention")(output)  # type: ignore[no-any-return]


def _check(name: str, slot: str, position: str, init: str | None) -> None:
    if slot == "neck":
        raise UsageError(
            f"'{name}' is a neck, which reads several stages; insert takes gates and conv blocks"
        )
    for what, value, known in (("position", position, POSITIONS), ("init", init or "default", INITS)):
        if value not in known:
            near = did_you_mean(value, known)
            raise UsageError(f"unknown {what} '{value}'.{near} Known: {', '.join(known)}")
    if slot == "conv" and (position != "before_add" or init is not None):
        raise UsageError(f"'{name}' is a conv block: it stands for conv2 and has neither position nor init")


def _find_layers(model: nn.Module) -> list[nn.Sequential]:
    for module in model.modules():
        layers: list[nn.Sequential] = []
        while isinstance(layer := getattr(module, f"layer{len(layers) + 1}", None), nn.Sequential):
            if not _units(layer):
                break
            layers.append(layer)
        if layers:
            return layers
    children = ", ".join(name for name, _ in model.named_children()) or "no children"
    raise UsageError(
        f"No ResNet found in {type(model).__name__}: looked for children layer1, layer2, ... made of residual units "
        f"with {', '.join(_UNIT)} (and conv3, bn3), as torchvision and timm name them; it has {children}"
    )


def _units(layer: nn.Sequential) -> list[nn.Module]:
    """The residual units of a stage; an inserted gate may stand beside them."""
    return [unit for unit in layer if all(isinstance(getattr(unit, name, None), nn.Module) for name in _UNIT)]


def _last(unit: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The last convolution of the residual branch, and its norm."""
    number = 3 if hasattr(unit, "conv3") and hasattr(unit, "bn3") else 2
    return unit.get_submodule(f"conv{number}"), unit.get_submodule(f"bn{number}")


def _channels(unit: nn.Module) -> int:
    """Channels that a unit puts out."""
    conv, norm = _last(unit)
    weight = getattr(norm, "weight", None)
    return weight.numel() if isinstance(weight, Tensor) else cast(nn.Conv2d, conv).out_channels


def _in_channels(unit: nn.Module, name: str) -> int:
    return cast(nn.Conv2d, unit.get_submodule(name)).in_channels


def _like(block: nn.Module, unit: nn.Module) -> nn.Module:
    reference = next(unit.parameters())
    return block.to(device=reference.device, dtype=reference.dtype).train(unit.training)


def _chosen_stages(stages: int | Sequence[int] | None, count: int) -> list[int]:
    wanted = range(1, count + 1) if stages is None else [stages] if isinstance(stages, int) else stages
    for number in wanted:
        if type(number) is not int or not 1 <= number <= count:
            raise UsageError(f"stages are numbers from 1 to {count} (layer1 to layer{count}), got {number!r}")
    return sorted(set(wanted))


def _chosen_units(units: str | Sequence[int], count: int) -> tuple[int, ...]:
    if isinstance(units, str) and units not in UNITS:
        near = did_you_mean(units, UNITS)
        raise UsageError(f"unknown units '{units}'.{near} Known: {', '.join(UNITS)}, or indices from 0")
    if not isinstance(units, str) and not all(type(i) is int and i >= 0 for i in units):
        raise UsageError(f"units are indices from 0 or one of {', '.join(UNITS)}, got {units!r}")
    return Stage(units=units if isinstance(units, str) else tuple(units)).indices(count)


__all__ = ["insert"]
