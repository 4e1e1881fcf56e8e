"""A model of the user's own as a network: made by their function, with blocks put in by `insert` and a head that fits.

    host: {module: my_model.py, make: build}

The function takes no argument and gives an `nn.Module` with the layout that `insert` knows; it may draw its weights
from torch's generator, which is seeded here, or load them. The file is found by the fingerprint in the arch and run
only where the command line named it (`space.module_file`).
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.blocks.plugin import blame, import_plugin
from attnsearch.build import position, probe
from attnsearch.build.insert import Convs, Gates, place
from attnsearch.build.layers import Layer
from attnsearch.build.parts import parts_of, stages_of
from attnsearch.build.resnet import StageBuilder, seeded
from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.text import many
from attnsearch.space import module_file
from attnsearch.space.arch import Arch, Block, Host, plain
from attnsearch.space.module_file import Layout


def allow(path: str | Path) -> None:
    """Let a file be a host; `UsageError` where it is none."""
    module_file.allow(Path(path), describe)


def describe(path: Path, make: str) -> Layout:
    """What sites need to know of the model that a function of a file makes.

    Raises:
        UsageError: it raises, gives something else, or has no stages of residual units.
    """
    with seeded(0, "host"):
        model = made(path, make)
    try:
        stages = stages_of(model)
        parts_of(model)
        units = [[unit.module for unit in stage.units] for stage in stages]
        widths = [_one(stage.path, map(_out_channels, own)) for stage, own in zip(stages, units, strict=True)]
        inner = [_one(stage.path, map(_inner, own)) for stage, own in zip(stages, units, strict=True)]
    except UsageError as error:
        raise UsageError(f"{path}: {make}(): {error}") from None
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return Layout(
        stem="imagenet" if first is not None and first.stride[0] > 1 else "cifar",
        unit="bottleneck" if "conv3" in probe.children(units[0][0]) else "basic",
        units=tuple(map(len, units)),
        widths=tuple(widths),
        inner=tuple(inner),
    )


def made(path: Path, make: str) -> nn.Module:
    """What a function of a file makes, in train mode on the CPU.

    Raises:
        UsageError: no such function, one that takes arguments, raises, or gives no module.
    """
    module = _imported(path)
    function = getattr(module, make, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise UsageError(f"{path}: {unknown('function', make, known)}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UsageError(f"{path}: {make}() is called without arguments, and it is {error}") from None
    try:
        with torch.device("cpu"):
            model = function()
    except (Exception, SystemExit) as error:
        raise UsageError(_raised(error, path, make)) from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{path}: {make}() gives a {type(model).__name__}, expected a torch.nn.Module")
    return model.train()


def _imported(path: Path) -> Any:
    """A file as a module, run once for each fingerprint; what it imports beside it is then what stands there now."""
    name = f"attnsearch_host_{path.stem}_{module_file.fingerprint(path)[:16]}"
    if name not in sys.modules:
        files = {str(file) for file in module_file.sources(path).values()}
        for other, module in list(sys.modules.items()):
            if other != "__main__" and getattr(module, "__file__", None) in files:
                del sys.modules[other]
        return import_plugin(name, path)
    return sys.modules[name]


def build_module_host(arch: Arch, *, classes: int, in_channels: int, seed: int | None) -> nn.Module:
    """An arch whose host is a model of the user's own; see `network.build_network`.

    A head of another number of outputs is replaced by a new linear layer.
    """
    host = arch.host
    with seeded(seed, "host"):
        model = _fresh(host)
    _check_channels(model, host, in_channels)
    with seeded(seed, "head"):
        fit_head(model, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units with a gate of their own, which comes first
        for i, layer in enumerate(stages_of(model)):
            _fill(model, StageBuilder(host, arch.stages[i], i, seed), layer)
    return model


def _fill(model: nn.Module, builder: StageBuilder, layer: Layer) -> None:
    """Put into one stage what its arch says, unit by unit, since each block has a seed of its own."""
    spec, number = builder.stage_spec, layer.number
    if spec.conv:
        for i, unit in enumerate(layer.units):
            convs = Convs(
                spec.conv.name, dict(spec.conv.options), partial(_conv, builder, f"{unit.path}.conv2")
            )
            place(model, convs, stages=number, units=[i])
    if not spec.attention:
        return
    name, where = spec.attention.name, spec.position
    if where == "after_stage":
        gates = Gates(name, where, _gate(builder, f"{layer.path}.attention"))
        place(model, gates, stages=number, position=where)
        return
    for i in spec.indices(len(layer.units)):
        gates = Gates(name, where, _gate(builder, f"{layer.units[i].path}.attention"))
        place(model, gates, stages=number, units=[i], position=where)


def _gate(builder: StageBuilder, path: str) -> Callable[[int], nn.Module]:
    return lambda channels: builder.gate(channels, path)


def _conv(builder: StageBuilder, path: str, *shape: int, **options: Any) -> nn.Module:
    return builder.build_block(Block.of(builder.stage_spec.conv.name, **options), "conv", path, *shape)


def fit_head(model: nn.Module, classes: int) -> int:
    """Replace a head that does not have `classes` outputs, in place; the number that it had."""
    path = parts_of(model).head.rstrip(".")
    head = model.get_submodule(path)
    assert isinstance(head, nn.Linear)
    if head.out_features != classes:
        owner, _, name = path.rpartition(".")
        new = nn.Linear(head.in_features, classes, bias=head.bias is not None, dtype=head.weight.dtype)
        setattr(model.get_submodule(owner), name, new)
    return head.out_features


def notes(host: Host, classes: int) -> list[str]:
    """What a model brings along that its user may not expect to matter, and what was changed in it, in sentences."""
    with seeded(0, "host"):
        gates = _own_gates(_fresh(host))
    own = f"units of {host.name} have a gate of their own ({', '.join(gates)}), which comes before what is put in"
    return [sentence for sentence in (own if gates else "", replaced_head(host, classes)) if sentence]


def replaced_head(host: Host, classes: int) -> str:
    """The sentence on a head for another number of classes; empty where the model's own stays."""
    with seeded(0, "host"):
        model = _fresh(host)
    head, had = parts_of(model).head.rstrip("."), fit_head(model, classes)
    if had == classes:
        return ""
    return (
        f"the head of {host.name} ({head}) is for {had:,} classes; a new one for {classes:,} is in its place"
    )


def _fresh(host: Host) -> nn.Module:
    return made(module_file.find(host.name, host.module, host.sha256), host.make)


def _own_gates(model: nn.Module) -> list[str]:
    """Children of units that weigh the branch already."""
    found: list[str] = []
    for stage in stages_of(model):
        unit = stage.units[0].module
        with suppress(UsageError):  # of a unit that takes no gate there; an arch that asks for one says so
            found += position.find(unit, "before_add", probe.in_channels(unit)).gates_before
    return list(dict.fromkeys(found))


@cache
def check_runs(host: Host, image: tuple[int, int, int], classes: int) -> None:
    """`check_output` of the plain host."""
    check_output(
        build_module_host(plain(host), classes=classes, in_channels=image[0], seed=0), host, image, classes
    )


def check_output(model: nn.Module, host: Host, image: tuple[int, int, int], classes: int) -> None:
    """Run a model once on zeros, in eval mode.

    Raises:
        UsageError: it raises, or gives something else than one row of class scores an image.
    """
    training = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            out = model.eval()(torch.zeros(2, *image))
    except Exception as error:
        path = module_file.find(host.name, host.module, host.sha256)
        where = f"{host.name} on an image of {'×'.join(map(str, image))}"
        raise UsageError(f"{where}: {blame(error, [path]) or _words(error)}") from error
    finally:
        model.train(training)
    if not isinstance(out, Tensor):
        raise UsageError(
            f"{host.name}: its forward gives a {type(out).__name__}, expected a tensor of class scores (N, {classes})"
        )
    if out.shape != (2, classes):
        shape = ", ".join(map(str, ("N", *out.shape[1:])))
        raise UsageError(f"{host.name}: its forward gives ({shape}), expected class scores (N, {classes})")


def _check_channels(model: nn.Module, host: Host, in_channels: int) -> None:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != in_channels:
        raise UsageError(
            f"{host.name} takes images of {many(first.in_channels, 'channel')}, the data set's have {in_channels}"
        )


def _one(path: str, channels: Any) -> int:
    """The number that all units of a stage share."""
    found = sorted(set(channels))
    if len(found) > 1:
        raise UsageError(
            f"units of {path} have {' and '.join(map(str, found))} channels, and a stage has one width"
        )
    return int(found[0])


def _out_channels(unit: nn.Module) -> int:
    return position.out_channels(unit, probe.in_channels(unit))


def _inner(unit: nn.Module) -> int:
    conv = unit.get_submodule("conv2")
    return int(conv.out_channels) if isinstance(conv, nn.Conv2d) else _out_channels(unit)


def _raised(error: BaseException, path: Path, make: str) -> str:
    return blame(error, [path]) or f"{path}: {make}(): {_words(error)}"


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


__all__ = [
    "allow",
    "build_module_host",
    "check_output",
    "check_runs",
    "describe",
    "fit_head",
    "made",
    "notes",
    "replaced_head",
]
