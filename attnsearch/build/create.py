"""A block, a neck or a network by name, as a plain `nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from attnsearch.blocks import registry
from attnsearch.core.checks import whole
from attnsearch.core.errors import AttnsearchError, BlockError, UsageError
from attnsearch.space.arch import Arch
from attnsearch.space.presets import read_start


def create_block(name: str, channels: int, **options: Any) -> nn.Module:
    """Build a gate (B, C, H, W) -> the same shape, or a conv block -> (B, out_channels, H/stride, W/stride).

    Args:
        name: a block of the attention or conv slot, or one of its presets: `"se"`, `"cbam.article"`.
        channels: C.
        options: the block's keyword-only arguments (over the preset's); a conv block also takes
            `out_channels` and `stride`.

    Raises `UsageError` for an unknown name, `BlockError` for options the block cannot be built with.
    """
    base, preset = registry.expand(name)
    facts = registry.info(base)
    if facts.slot == "neck":
        raise UsageError(f"'{base}' is a neck: create_neck('{base}', in_channels=[...])")
    _check_count("channels", channels)
    shape: dict[str, Any] = {}
    if facts.slot == "conv":
        shape = {key: options.pop(key) for key in ("out_channels", "stride") if key in options}
        for key, value in shape.items():
            if not (key == "out_channels" and value is None):
                _check_count(key, value)
    return _build(base, channels, {**preset, **options}, shape)


def create_neck(name: str, in_channels: Sequence[int], **options: Any) -> nn.Module:
    """Build a neck: a list of maps, shallow to deep, -> one map shaped like the deepest.

    Args:
        name: a block of the neck slot or one of its presets: `"pmfs"`.
        in_channels: channels of each map, shallow to deep.
        options: the neck's keyword-only arguments.

    Raises `UsageError` for an unknown name, `BlockError` for options the neck cannot be built with.
    """
    base, preset = registry.expand(name)
    registry.info(base, slot="neck")
    for channels in in_channels:
        _check_count("in_channels", channels)
    return _build(base, tuple(in_channels), {**preset, **options}, {})


def create_model(
    arch: Arch | Mapping[str, Any] | str | Path, *, num_classes: int = 10, in_channels: int = 3
) -> nn.Module:
    """Build a network: (B, in_channels, H, W) -> (B, num_classes), on the CPU, in train mode.

    It has trained weights where the arch names some (`host: {weights: FILE}`).

    Args:
        arch: an Arch, its dictionary, a JSON or YAML file of one, or a network's name (see `attnsearch.space.presets`):
            `"resnet50"`, `"cbam_resnet18_cifar"`, `"epsanet50_small"`.
        num_classes: outputs of the head.
        in_channels: channels of the images.

    Raises `UsageError` for an unknown name or word, `BlockError` for a block that does not fit the host's widths.
    """
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        _check_count(name, value, UsageError)
    from attnsearch.build import host_weights  # which inserts blocks that are made here

    read, weights = read_start(arch)
    known = host_weights.identify(weights) if weights else None
    return host_weights.start(read, known, classes=num_classes, in_channels=in_channels, seed=None)


def _build(base: str, channels: Any, options: dict[str, Any], shape: dict[str, Any]) -> nn.Module:
    registry.check_options(registry.info(base), options)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return registry.load(base)(channels, **shape, **plain)


def _check_count(name: str, value: Any, error: type[AttnsearchError] = BlockError) -> None:
    try:
        whole(repr(value) if isinstance(value, str) else value)
    except ValueError as problem:
        raise error(f"{name} {problem}") from None
