"""`attnsearch cost ARCH`: what a network costs, counted and not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Plugins,
    add_plugins,
    allow_host_module,
    check_host_module,
    image_shape,
    note,
    option,
    show_json,
    show_table,
    show_text,
    whole,
)
from attnsearch.core.errors import UsageError
from attnsearch.core.normalisation import CIFAR_SIDE, IMAGENET_SIDE

if TYPE_CHECKING:
    from attnsearch.cost.measure import Cost
    from attnsearch.report.formatting import Table
    from attnsearch.space.arch import Arch

ArchArgument = Annotated[
    str,
    typer.Argument(
        metavar="ARCH",
        help="A network's name (resnet50, cbam_resnet18_cifar) or a JSON or YAML file of an arch.",
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="CxHxW",
        callback=lambda text: None if text is None else "x".join(map(str, image_shape(text))),
        help="Shape of an image; 3x224x224, or 3x32x32 with a CIFAR stem.",
    ),
]
ImageSize = Annotated[int | None, option("Side of a square image, in place of --image.", "PIXELS", whole)]
Classes = Annotated[
    int | None,
    typer.Option("--classes", parser=whole, metavar="N", help="Outputs; 1000, or 10 with a CIFAR stem."),
]


def cost(
    arch: ArchArgument,
    image: Image = None,
    image_size: ImageSize = None,
    classes: Classes = None,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    json: Json = False,
) -> None:
    """Count what a network costs: params, MACs, FLOPs, bytes.

    With the convention of each count, the share of the blocks, and what is left uncounted.
    """
    from attnsearch.space.presets import read_arch

    add_plugins(plugin)
    allow_host_module(host_module)
    network = read_arch(arch)  # a mistyped name is answered before torch is imported
    check_host_module(host_module, network.host.module, network.host.name)

    from attnsearch.build.network import build_network
    from attnsearch.cost.cost_table import small_map
    from attnsearch.cost.measure import measure

    shape, outputs = setting(network, image, classes, image_size)
    counted = measure(build_network(network, classes=outputs, in_channels=shape[0]), shape, computed=True)
    if json:
        show_json(facts(network, counted, shape, outputs))
        return
    show_text(f"{arch}: {network.host.name}, {network}", "bold")
    show_text(f"Image {'×'.join(map(str, shape))}, {outputs} classes, batch 1, eval mode.")
    if warning := small_map(network.host, shape):
        note(warning)
    show_text()
    show_table(_totals(counted))
    for table in [_shares(counted)] if counted.by_block else []:
        show_text()
        show_table(table)
    show_text()
    without = {name: calls for name, calls in counted.uncounted.items() if name not in counted.unknown}
    show_text(f"Counted as no arithmetic: {_calls(without)}.")
    if counted.unknown:
        show_text(f"Not counted, for want of a rule: {_calls(counted.unknown)}; the counts lack their work.")
    show_text(f"fvcore leaves out: {_calls(counted.fvcore_uncounted)}.")


def setting(
    arch: Arch, image: str | None, classes: int | None, side: int | None
) -> tuple[tuple[int, int, int], int]:
    """Shape and classes as asked for, or those that the stem was made for.

    Raises:
        UsageError: both a shape and a side.
    """
    if image and side:
        raise UsageError("--image and --image-size both say how large an image is; give one of them")
    small = arch.host.filled().stem == "cifar"
    side = side or (CIFAR_SIDE if small else IMAGENET_SIDE)
    shape = image_shape(image) if image else (3, side, side)
    return shape, classes or (10 if small else 1000)


def facts(arch: Arch, counted: Cost, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Plain JSON values."""
    from dataclasses import asdict

    from attnsearch.core.costs import COSTS
    from attnsearch.space.canonical import canonical

    totals = counted.as_dict(fvcore=True)
    return {
        "arch": str(arch),
        "key": canonical(arch).key,
        "image": list(shape),
        "classes": classes,
        **totals,
        "uncounted": dict(counted.uncounted),
        "unknown": dict(counted.unknown),
        "fvcore_uncounted": dict(counted.fvcore_uncounted),
        "by_block": {path: asdict(share) for path, share in counted.by_block.items()},
        "conventions": {name: COSTS[name].description for name in totals},
    }


def _totals(counted: Cost) -> Table:
    from attnsearch.core.costs import COSTS
    from attnsearch.report.formatting import Column, Table

    totals = counted.as_dict(fvcore=True)
    rows = tuple((name, value, f"{value:>16,}") for name, value in totals.items())
    columns = (
        Column("cost", "cost"),
        Column("value", "value", "quantity"),
        Column("exact", f"{'exact':>16}"),
    )
    conventions = tuple(f"{name}: {COSTS[name].description}" for name in totals)
    return Table("costs", "Costs", columns, rows, conventions)


def _shares(counted: Cost) -> Table:
    """Blocks of one name and stage together."""
    from attnsearch.report.formatting import Column, Table, Value

    together: dict[tuple[str, str], list[Any]] = {}
    for path, share in counted.by_block.items():
        together.setdefault((path.split(".")[0], share.block), []).append(share)
    rows: list[tuple[Value, ...]] = []
    for (place, block), shares in together.items():
        params, macs, moved = (sum(getattr(s, n) for s in shares) for n in ("params", "macs", "bytes_moved"))
        of = (100 * params / counted.params, 100 * macs / counted.macs, 100 * moved / counted.bytes_moved)
        rows.append((f"{place}: {len(shares)} × {block}", params, of[0], macs, of[1], of[2]))
    columns = (
        Column("place", "blocks"),
        Column("params", "params", "quantity"),
        Column("params_pct", "% of params", "number", 1, short="%"),
        Column("macs", "MACs", "quantity"),
        Column("macs_pct", "% of MACs", "number", 1, short="%"),
        Column("bytes_pct", "% of bytes moved", "number", 1, short="% bytes"),
    )
    return Table("by_block", "Share of the blocks", columns, tuple(rows))


def _calls(uncounted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ×{calls}" for name, calls in uncounted.items()) or "nothing"
