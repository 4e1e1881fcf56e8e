"""`attnsearch spaces [NAME]`: the questions on offer, or one of them, counted and costed without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Plugins,
    add_plugins,
    allow_host_module,
    check_host_module,
    note,
    setting,
    show_json,
    show_table,
    show_text,
)
from attnsearch.core.convergence import NOT_MEASURED
from attnsearch.core.normalisation import IMAGENET_SIDE
from attnsearch.core.text import many

NOT_AUDITED = (
    "Whether so short a training ranks archs as a longer one does: not audited. After a run, `attnsearch validate "
    "STUDY --archs 24 --seeds 2` audits it."
)

if TYPE_CHECKING:
    from attnsearch.core.costs import Limit
    from attnsearch.report.formatting import Table
    from attnsearch.space.space import Space


def spaces(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A space's name or YAML file; all when left out.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="The data set it is asked of.")
    ] = "cued-digits",
    image_size: Annotated[int | None, setting("image_size")] = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="LIMITS", help="Such as 'params<=1.2x,macs<=60M'.")
    ] = "",
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    json: Json = False,
) -> None:
    """List the questions on offer, or show one.

    One by name or file: its choices, number of archs and range of costs, without training.
    """
    from attnsearch.core.costs import parse_limits
    from attnsearch.space.space import load_space

    add_plugins(plugin)
    if name is None:
        _list(data, json)
        return
    limits = parse_limits(budget)
    allow_host_module(host_module)
    space = load_space(name).on(data)
    check_host_module(host_module, space.host.module, space.host.name)
    if image_size is None and space.weights and space.host.filled().stem != "cifar":
        image_size = IMAGENET_SIDE
    facts, tables = _facts(space, data, image_size, limits)
    if json:
        show_json(facts)
        return
    show_text(f"{space.name}: {space.question or 'no question stated'}", "bold")
    for line in _lines(space, facts):
        show_text(line)
    for table in tables:
        show_text()
        show_table(table)
    show_text()
    code = f" --host-module {host_module}" if host_module else ""
    show_text(
        f"Run it: attnsearch run --space {name}{'' if data == 'cued-digits' else f' --data {data}'}{code}"
    )


def _list(data: str, json: bool) -> None:
    from attnsearch.space.space import load_space, shipped_spaces

    found = [load_space(name).on(data) for name in shipped_spaces()]
    if json:
        show_json(
            [{"space": s.name, "question": s.question, "host": s.host.name, "archs": s.size()} for s in found]
        )
        return
    for space in found:
        show_text(f"{space.name}: {space.size():,} archs on {space.host.name}", "bold")
        show_text(space.question, indent="  ")
    show_text()
    show_text(f"Hosts are those for {data}; another: --data cifar10")
    show_text("More of one: attnsearch spaces NAME")
    show_text("One of your own: attnsearch init my_space.yaml")


def _facts(
    space: Space, data: str, side: int | None, limits: Sequence[Limit]
) -> tuple[dict[str, Any], list[Table]]:
    from attnsearch.cost.cost_table import CostTable, small_map
    from attnsearch.tools import catalog

    image, classes, warnings = catalog.shape_of(data, side)
    table = CostTable(space, image, classes)
    for warning in (*warnings, small_map(space.host, image)):
        if warning:
            note(warning)
    everything = (*space.limits, *limits)
    facts = {
        "space": space.name,
        "question": space.question,
        "host": plain_host(space),
        "data": {"name": data, "image": list(image), "classes": classes},
        "archs": space.size(),
        "sites": {site: list(options) for site, options in space.sites.items()},
        "baseline": str(space.baseline()),
        "design": space.design,
        "recipe": space.recipe.to_dict(),
        "convergence": space.convergence.to_attrs() if space.convergence else None,
        "ranking": "not audited",
        "costs": {
            cost: {"least": table.range(cost)[0], "baseline": value, "greatest": table.range(cost)[1]}
            for cost, value in table.baseline.items()
        },
        "budget": catalog.budget_effect(table, everything) if everything else None,
    }
    return facts, [catalog.sites(space), catalog.cost_ranges(table)]


def plain_host(space: Space) -> dict[str, Any]:
    """Name, units and channels of each stage."""
    host = space.host.filled()
    units = list(host.units or ())
    return {"name": host.name, "units": units, "channels": [host.channels(i) for i in range(len(units))]}


def _lines(space: Space, facts: dict[str, Any]) -> list[str]:
    host, recipe, data = facts["host"], space.recipe, facts["data"]
    sizes = " × ".join(str(len(options)) for options in facts["sites"].values())
    lines = [
        f"Host: {host['name']}, stages of {_join(host['units'])} units with {_join(host['channels'])} channels.",
        f"Archs: {facts['archs']:,} = {sizes}. Baseline: {facts['baseline']}. Design: {facts['design']}.",
        f"Costs at images of {_times(data['image'])}; --image-size changes that.",
        f"Recipe on {data['name']}: {many(recipe.epochs, 'epoch')}, {recipe.optimizer}, lr {recipe.lr:g}, batch "
        f"{recipe.batch_size}.",
        space.convergence.sentence() if space.convergence else NOT_MEASURED,
        NOT_AUDITED,
    ]
    if budget := facts["budget"]:
        limits = ", ".join(f"{limit} ({value:,.0f})" for limit, value in budget["limits"].items())
        about = "" if budget["exact"] else "about "
        seen = "" if budget["exact"] else f", estimated from {budget['looked_at']:,} of them"
        lines.append(f"Within {limits}: {about}{budget['archs']:,} archs ({budget['share']:.1%}{seen}).")
    return lines


def _times(image: list[int]) -> str:
    return "×".join(map(str, image))


def _join(values: list[int]) -> str:
    return ", ".join(map(str, values))
