"""The stages and residual units of somebody else's ResNet, by their names.

A stage is a child `layer1`, `layer2`, ... at any depth, in a wrapper, in several backbones of one model; its units are
the modules in it with conv1, bn1, conv2 and bn2, wrapped or not, in the order in which they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from attnsearch.build.probe import UNIT, children, is_unit
from attnsearch.core.errors import UsageError, did_you_mean
from attnsearch.space.arch import UNITS, Stage


@dataclass(frozen=True)
class Unit:
    """A residual unit and its path in the model."""

    path: str
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.path} ({type(self.module).__name__})"


@dataclass(frozen=True)
class Layer:
    """A stage: its number (of `layer3`: 3), path, and units in order; a unit used twice stands twice."""

    number: int
    path: str
    module: nn.Module
    units: tuple[Unit, ...]
    others: tuple[Unit, ...]  # what seems to be a residual unit of another layout


@dataclass
class Found:
    """What a model has: stages with units, and units outside of stages."""

    layers: list[Layer] = field(default_factory=list)
    strays: list[Unit] = field(default_factory=list)
    empty: dict[int, Unit] = field(default_factory=dict)  # stages without units


def find_layers(model: nn.Module) -> Found:
    """Every stage of a model. Raises `UsageError` where there is none, with what each candidate lacks."""
    found = Found()
    _search(model, "", found)
    if not found.layers:
        names = ", ".join(children(model)) or "no children"
        why = "".join(f"; {unit.path} {_lacks(unit.module)}" for unit in found.empty.values())
        raise UsageError(
            f"No ResNet found in {type(model).__name__}: looked for children layer1, layer2, ... made of residual "
            f"units with {', '.join(UNIT)} (and conv3, bn3), as torchvision and timm name them; it has {names}{why}"
        )
    return found


def choose_layers(found: Found, stages: int | Sequence[int] | None) -> list[Layer]:
    """The stages of these numbers, in every backbone; all when None."""
    known = sorted({layer.number for layer in found.layers})
    if stages is None:
        return found.layers
    wanted = (
        [stages]
        if isinstance(stages, int | float)
        else list(stages)
        if isinstance(stages, Iterable)
        else [stages]
    )
    span = f"from {known[0]} to {known[-1]} (layer{known[0]} to layer{known[-1]})"
    if known != list(range(known[0], known[-1] + 1)):
        span = f"among {', '.join(map(str, known))}"
    if not wanted:
        raise UsageError(f"stages is empty, so no block would be inserted; stages are numbers {span}")
    for number in wanted:
        if type(number) is int and number in found.empty and number not in known:
            empty = found.empty[number]
            raise UsageError(f"{empty.path} has no residual unit: it {_lacks(empty.module)}")
        if type(number) is not int or number not in known:
            raise UsageError(f"stages are numbers {span}, got {number!r}")
    return [layer for layer in found.layers if layer.number in wanted]


def choose_units(layer: Layer, units: str | Sequence[int]) -> tuple[Unit, ...]:
    """The units of a stage that `units` names."""
    count = len(layer.units)
    if isinstance(units, str):
        if units not in UNITS:
            near = did_you_mean(units, UNITS)
            raise UsageError(f"unknown units '{units}'.{near} Known: {', '.join(UNITS)}, or indices from 0")
        return tuple(layer.units[i] for i in Stage(units=units).indices(count))
    indices = list(units) if isinstance(units, Iterable) else None
    if indices is None or not all(type(i) is int and i >= 0 for i in indices):
        raise UsageError(f"units are indices from 0 or one of {', '.join(UNITS)}, got {units!r}")
    if not indices:
        raise UsageError("units is empty, so no block would be inserted; name indices from 0")
    if beyond := [i for i in indices if i >= count]:
        raise UsageError(f"{layer.path} has {count} units, 0 to {count - 1}; there is no unit {beyond[0]}")
    return tuple(layer.units[i] for i in sorted(set(indices)))


def check_nothing_left_out(found: Found, layers: Sequence[Layer], everywhere: bool) -> None:
    """Raise `UsageError` for what seems to be a residual unit and would get no block without a word."""
    left = [unit for layer in layers for unit in layer.others]
    if everywhere:
        left += found.strays + [
            unit for empty in found.empty.values() for unit in _others(empty.path, empty.module)
        ]
    if left:
        names = ", ".join(f"{unit}, which {_lacks(unit.module)}" for unit in left[:5])
        more = f", and {len(left) - 5} more" if len(left) > 5 else ""
        raise UsageError(
            f"this would be left out: {names}{more}; name the stages to be changed (stages=...) or make the rest "
            "residual units with these names inside layer1, layer2, ..."
        )


def check_shared(layers: Sequence[Layer], chosen: Sequence[Unit]) -> None:
    """Raise `UsageError` where one module stands in two places of which only one was chosen."""
    paths = {unit.path for unit in chosen}
    modules = {id(unit.module): unit for unit in chosen}
    for layer in layers:
        for unit in layer.units:
            if unit.path not in paths and id(unit.module) in modules:
                raise UsageError(
                    f"{modules[id(unit.module)].path} and {unit.path} are one module, so a block in one stands in "
                    "both; choose both or neither"
                )


def _search(module: nn.Module, path: str, found: Found) -> None:
    for name, child in children(module).items():
        below = f"{path}.{name}" if path else name
        match = re.fullmatch(r"layer(\d+)", name)
        units = tuple(_units(below, child)) if match else ()
        if match and units:
            found.layers.append(Layer(int(match[1]), below, child, units, tuple(_others(below, child))))
        elif is_unit(child):
            found.strays.append(Unit(below, child))
        else:
            if match:
                found.empty.setdefault(int(match[1]), Unit(below, child))
            _search(child, below, found)


def _units(path: str, module: nn.Module) -> Iterator[Unit]:
    """The units in a module, in order."""
    if is_unit(module):
        yield Unit(path, module)
        return
    for name, child in children(module).items():
        yield from _units(f"{path}.{name}", child)


def _others(path: str, module: nn.Module) -> Iterator[Unit]:
    """Modules beside the units with two convolutions or more: residual units of another layout, it seems."""
    for name, child in children(module).items():
        below = f"{path}.{name}"
        if is_unit(child):
            continue
        if next(_units(below, child), None) is not None:
            yield from _others(below, child)
        elif sum(isinstance(part, nn.Conv2d) for part in child.modules()) > 1:
            yield Unit(below, child)


def _lacks(module: nn.Module) -> str:
    own = children(module)
    if isinstance(module, nn.Sequential | nn.ModuleList) and own:
        inside = [child for child in own.values() if len(children(child))]
        if inside:
            return f"is a {type(module).__name__} of {len(own)}: its {type(inside[0]).__name__} {_lacks(inside[0])}"
    missing = [name for name in UNIT if name not in own]
    return f"lacks {', '.join(missing)}" if own and missing else f"is a {type(module).__name__}"


__all__ = [
    "Found",
    "Layer",
    "Unit",
    "check_nothing_left_out",
    "check_shared",
    "choose_layers",
    "choose_units",
]
