"""What is on offer, as tables: the spaces with their sizes and costs, the blocks with their sources and costs.

Nothing is trained; blocks are imported to be counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attnsearch.blocks import registry
from attnsearch.blocks.registry import BlockInfo
from attnsearch.core.costs import COSTS, LIMITED, Limit
from attnsearch.core.data_sets import DATA_SETS
from attnsearch.core.errors import BlockError, CostError
from attnsearch.core.text import format_value
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.space.arch import Block, Stage
from attnsearch.space.space import Space

if TYPE_CHECKING:
    from attnsearch.cost.cost_table import CostTable

STAGES = ((64, 56), (128, 28), (256, 14), (512, 7))  # widths and maps of a ResNet-18 at 224 pixels
TRIED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
SAMPLED = 50_000  # archs that a share under a budget is estimated from, where there are more
_COUNTS = ("params", "macs", "flops", "bytes_moved")
_SOURCE = re.compile(r"(?:After )?([A-Z]\w+ (?:et al\.|and [A-Z]\w+))")


def shape_of(data: str, side: int | None = None) -> tuple[tuple[int, int, int], int, tuple[str, ...]]:
    """(C, H, W), the number of classes and warnings of a data set; one of the user's own is opened.

    Args:
        side: of the images in pixels; None is what a run would take.
    """
    if data in DATA_SETS:
        channels, height, width = DATA_SETS[data].image
        return (channels, side or height, side or width), DATA_SETS[data].classes, ()
    from attnsearch.data import open_data

    opened = open_data(data, image_size=side)
    return opened.image, len(opened.classes), opened.warnings


def sites(space: Space) -> Table:
    """What may stand where; sites with equal choices share a row."""
    groups: dict[tuple[str, int], list[str]] = {}
    for site, options in space.sites.items():
        groups.setdefault((_choices(list(options.values())), len(options)), []).append(site)
    rows = tuple((_names(names), count, text) for (text, count), names in groups.items())
    columns = (Column("site", "site"), Column("options", "options", "integer"), Column("choice", "choice"))
    return Table("sites", "What may stand where", columns, rows)


def cost_ranges(table: CostTable) -> Table:
    """Least and greatest cost beside the baseline's."""
    rows: list[tuple[Value, ...]] = []
    for cost in LIMITED:
        (low, high), base = table.range(cost), table.baseline[cost]
        rows.append((cost, low, base, high, high / base, COSTS[cost].unit))
    columns = (
        Column("cost", "cost"),
        *(Column(name, name, "quantity") for name in ("least", "baseline", "greatest")),
        Column("ratio", "greatest/baseline", short="ratio", kind="number"),
        Column("unit", "unit"),
    )
    size = "×".join(map(str, table.image))
    return Table("costs", f"Costs of one image of {size}, {table.classes} classes", columns, tuple(rows))


def budget_effect(table: CostTable, limits: Sequence[Limit]) -> dict[str, Any]:
    """Archs that keep the limits: `share`, `archs`, and whether it is `exact` or estimated from a random sample."""
    codes = table.codes(SAMPLED)
    share = float(table.allowed(codes, limits).mean())
    exact = len(codes) == table.space.size()
    return {
        "limits": {str(limit): table.bound(limit) for limit in limits},
        "share": share,
        "archs": round(share * table.space.size()),
        "of": table.space.size(),
        "exact": exact,
        "looked_at": len(codes),
    }


def blocks(channels: int = 64, side: int = 32) -> Table:
    """Every block with its source and its cost on a map of `side` x `side`."""
    rows: list[tuple[Value, ...]] = []
    for facts in registry.blocks().values():
        costs = block_cost(facts.name, channels, side)
        rows.append(
            (facts.name, facts.slot, source(facts), faithful(facts), costs.get("params"), costs.get("macs"))
        )
    columns = (
        Column("block", "block"),
        Column("slot", "slot"),
        Column("source", "source"),
        Column("as_published", "as published", note="`attnsearch blocks NAME` says in what a block differs"),
        Column("params", "params", "quantity"),
        Column("macs", "MACs", "quantity"),
    )
    return Table(
        "blocks", f"Blocks, with costs at {channels} channels on a {side}×{side} map", columns, tuple(rows)
    )


def options_text(facts: BlockInfo) -> str:
    """`ratio=16, mlp=shared`: options at their defaults."""
    return ", ".join(f"{option.name}={_format(option.default)}" for option in facts.options) or "none"


def options(facts: BlockInfo) -> Table:
    """A block's options."""
    rows = tuple(
        (
            option.name,
            _format(option.default),
            ", ".join(_format(choice) for choice in option.choices) or option.type,
        )
        for option in facts.options
    )
    columns = (Column("option", "option"), Column("default", "default"), Column("values", "values"))
    return Table("options", "Options", columns, rows)


def block_costs(name: str) -> Table:
    """A block or preset at the widths and maps of a ResNet-18 at 224 pixels."""
    rows: list[tuple[Value, ...]] = []
    for channels, side in STAGES:
        costs = block_cost(name, channels, side)
        rows.append((f"{channels}×{side}×{side}", *(costs.get(cost) for cost in _COUNTS)))
    columns = (
        Column("map", "map (C×H×W)"),
        *(Column(cost, cost.replace("_", " "), "quantity") for cost in _COUNTS),
    )
    return Table("costs", f"Costs of {name} in a ResNet-18 at 224×224, one image", columns, tuple(rows))


def presets(facts: BlockInfo) -> Table:
    """The named variants of a block, each with its size."""
    rows: list[tuple[Value, ...]] = []
    for name, options in facts.presets.items():
        text = ", ".join(f"{key}={_format(value)}" for key, value in options.items()) or "the defaults"
        rows.append((f"{facts.name}.{name}", block_cost(f"{facts.name}.{name}", 64, 32).get("params"), text))
    columns = (
        Column("preset", "preset"),
        Column("params", "params at 64 channels", "quantity", short="params"),
        Column("options", "options"),
    )
    return Table("presets", "Presets", columns, tuple(rows))


def block_cost(name: str, channels: int, side: int) -> dict[str, int]:
    """Counts of one block, empty where it does not fit this width; a neck reads a quarter, half and all of it."""
    from attnsearch.cost.measure import count_block

    neck = registry.info(registry.expand(name)[0]).slot == "neck"
    widths: Any = (channels // 4, channels // 2, channels) if neck else channels
    try:
        return count_block(name, widths, side * 4 if neck else side, side * 4 if neck else side).as_dict()
    except (BlockError, CostError):
        return {}


def refused_widths(name: str) -> list[tuple[list[int], str]]:
    """Widths that the block refuses among those tried, and its sentence for the last of them."""
    from attnsearch.build.create import create_block

    refusals: dict[str, tuple[list[int], str]] = {}
    for channels in () if registry.info(registry.expand(name)[0]).slot == "neck" else TRIED:
        try:
            create_block(name, channels)
        except BlockError as error:
            kind = re.sub(r"\d+", "", str(error))
            refusals[kind] = ([*refusals.get(kind, ([], ""))[0], channels], str(error))
    return list(refusals.values())


def source(facts: BlockInfo) -> str:
    """`Woo et al. 2018`, from the docstring of the block's file."""
    names, year = _SOURCE.search(facts.doc), re.search(r"\b(?:19|20)\d\d\b", facts.doc)
    return f"{names[1]} {year[0]}" if names and year else "your own"


def faithful(facts: BlockInfo) -> str:
    """`yes`, `differs`, or a dash where the file does not say."""
    remark = re.search(r"Differs from the paper:\s*(no(?![\w ]))?", facts.doc.replace("no (", "no, ("))
    return "–" if remark is None else "yes" if remark[1] else "differs"


def _format(value: Any) -> str:
    """As in a space file."""
    return "null" if value is None else format_value(value)


def _names(names: Sequence[str]) -> str:
    """`stage1 to stage3` for sites that follow each other."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _choices(values: Sequence[tuple[Stage, ...] | Block]) -> str:
    """`none; cbam with kernel 3, 7; ratio 4, 8`: blocks, and what varies within each."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for value in values:
        parts = [value] if isinstance(value, Block) else list(value)[:1]
        for part in parts:
            groups.setdefault(_name(part), []).append(_settings(part))
    return "; ".join(_group(name, rows) for name, rows in groups.items())


def _name(part: Stage | Block) -> str:
    if isinstance(part, Block):
        return part.name
    return "+".join(block.name for block in (part.conv, part.attention) if block) or "none"


def _settings(part: Stage | Block) -> dict[str, Any]:
    if isinstance(part, Block):
        return dict(part.options)
    where = {key: getattr(part, key) for key in ("position", "units", "init", "convs")}
    return {**dict(part.conv.options), **dict(part.attention.options), **where}


def _group(name: str, rows: Sequence[dict[str, Any]]) -> str:
    varying = []
    for key in dict.fromkeys(key for row in rows for key in row):
        values = dict.fromkeys(row[key] for row in rows if key in row)
        if len(values) > 1:
            varying.append(f"{key} {'|'.join(_format(value) for value in values)}")
    return f"{name}: {', '.join(varying)} ({len(rows)})" if varying else name


__all__ = [
    "block_cost",
    "block_costs",
    "blocks",
    "budget_effect",
    "cost_ranges",
    "faithful",
    "options",
    "options_text",
    "presets",
    "refused_widths",
    "shape_of",
    "sites",
    "source",
]
