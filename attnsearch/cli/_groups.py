"""The help of a command with many options: first the few that most people need, then the others by subject."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any

from typer.core import TyperCommand


def grouped(annotation: Any, group: str) -> Any:
    """An option's annotation, in that group; where it is shared by commands, the others keep theirs."""
    info = copy(annotation.__metadata__[0])
    info.rich_help_panel = group
    return Annotated[annotation.__origin__, info]


class GroupedCommand(TyperCommand):
    """A command whose help lists its options by group, groups in the order of their first options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one list for each group, all as wide as the widest."""
        by_group: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                group = getattr(param, "rich_help_panel", None) or "Help"
                by_group.setdefault(group, []).append(record)
        for group, records in by_group.items():
            with formatter.section(group):
                formatter.write_dl(records)


def by_name(groups: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Option -> group, in the order in which the help lists them."""
    return {name: group for group, names in groups.items() for name in names}
