"""The canonical form of each network: archs that build the same one share it, and so one key."""

from __future__ import annotations

from typing import Literal

from attnsearch.blocks import registry
from attnsearch.space.arch import Arch, Block, Host, Stage


def canonical(arch: Arch) -> Arch:
    """The canonical form of an arch: unused settings dropped, options filled in and resolved to what is built.

    The same on every machine. Raises `BlockError` for a block that cannot be built at the host's widths.
    """
    host = arch.host.filled()
    stages = arch.stages or (Stage(),) * len(host.units or ())
    return Arch(
        host=host,
        stages=tuple(canonical_stage(host, i, stage) for i, stage in enumerate(stages)),
        neck=canonical_block(arch.neck, host.channels(len(stages) - 1)),
        images=arch.images,
    )


def canonical_stage(host: Host, index: int, stage: Stage) -> Stage:
    """`canonical` for one stage of a host."""
    host = host.filled()
    count = (host.units or ())[index]
    conv = canonical_block(stage.conv, host.conv_channels(index))
    convs = stage.convs if conv and host.unit == "basic" else "second"
    channels = host.conv_channels(index) if stage.position == "after_conv" else host.channels(index)
    attention = canonical_block(stage.attention, channels)
    if not attention or (stage.position != "after_stage" and not stage.indices(count)):
        return Stage(conv=conv, convs=convs)
    indices = stage.indices(count)
    units: str | tuple[int, ...] = (
        "all" if stage.position == "after_stage" or len(indices) == count else indices
    )
    if units == (count - 1,):
        units = "last"  # readable, and still canonical
    position = stage.position
    if position == "after_add" and indices == (count - 1,):
        position, units = "after_stage", "all"  # the last unit's output is the stage's
    init: Literal["default", "identity"] = stage.init
    if init == "identity" and registry.starts_as_identity(attention.name, channels, dict(attention.options)):
        init = "default"
    return Stage(attention, position, units, init, stage.control, conv, convs)


def canonical_block(block: Block, channels: int) -> Block:
    """`canonical` for one block in a map of that many channels: every option named, the preset resolved."""
    if not block:
        return block
    name, preset = registry.expand(block.name)
    return Block.of(name, **registry.complete(name, channels, {**preset, **dict(block.options)}))
