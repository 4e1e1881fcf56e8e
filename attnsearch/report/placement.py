"""The placement map: a ResNet from stem to head as SVG, with the blocks where they stand."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attnsearch.report.arch_strip import Strip, StripCell
from attnsearch.report.picture import BLOCKS

if TYPE_CHECKING:
    from markupsafe import Markup

_TOP, _UNIT, _LINE = 22, 34, 13  # above the units, of a unit, of a line of text
_LETTER = 6.1  # width of a letter at 11 px
_ENDS, _GAP = 40, 8  # width of stem and head, space between parts
_LEAST = 84  # width of a stage
_LINES = 4


def drawing(strip: Strip, colours: Mapping[str, int], name: str) -> Markup:
    """Stem, stages with their units, head; a unit that carries a block is filled in the block's colour.

    Args:
        colours: the number of each block's colour, as the page's styles have it.
        name: what the picture is called for those who do not see it.
    """
    from markupsafe import Markup, escape

    widths = [max(map(_width, strip.cells))] * len(strip.cells)
    height = _TOP + _UNIT + 8 + _LINE * max(1, *(len(_lines(cell.text)) for cell in strip.cells), 0)
    total = 2 * _ENDS + sum(widths) + _GAP * (len(widths) + 1)
    parts = [_box(0, _TOP, _ENDS, _UNIT, "stem", "end")]
    left: float = _ENDS + _GAP
    for cell, width in zip(strip.cells, widths, strict=True):
        parts += _stage(cell, left, width, colours)
        left += width + _GAP
    parts.append(_box(left, _TOP, _ENDS, _UNIT, "head", "end"))
    line = f'<path class="flow" d="M{_ENDS} {_TOP + _UNIT / 2}H{left}"/>'
    few = " few" if len(widths) <= 3 else ""  # then it shrinks to a telephone's width and stays legible
    size = f'viewBox="0 0 {total:.0f} {height}" width="{total:.0f}" height="{height}"'
    label = f"{escape(name)}: {escape(strip)}"
    return Markup(
        f'<svg class="map{few}" role="img" aria-label="{label}" {size}>{line}{"".join(parts)}</svg>'
    )


def _width(cell: StripCell) -> float:
    longest = max((len(line) for line in _lines(cell.text)), default=0)
    return max(_LEAST, longest * _LETTER + 12)


def _lines(text: str, letters: int = 18) -> list[str]:
    """At most `_LINES`; what no longer fits is behind a mark, and in the table whole."""
    found = textwrap.wrap(text, letters)
    return found if len(found) <= _LINES else [*found[: _LINES - 1], found[_LINES - 1] + " …"]


def _stage(cell: StripCell, left: float, width: float, colours: Mapping[str, int]) -> list[str]:
    from markupsafe import escape

    middle = left + width / 2
    colour = f"f{colours.get(cell.block.split('+')[0], len(BLOCKS) - 1)}"
    found = [f'<text x="{middle:.0f}" y="14" class="head">{escape(cell.stage)}</text>']
    units = cell.units or (bool(cell.text),)
    room = width - (16 if cell.after else 0)
    each = room / len(units)
    gap = min(4.0, each / 5)
    for i, carries in enumerate(units):
        filled = carries and not cell.after
        found.append(
            f'<rect x="{left + i * each + gap / 2:.1f}" y="{_TOP}" width="{each - gap:.1f}" height="{_UNIT}" rx="3" '
            f'class="{f"unit {colour}" if filled else "unit"}"/>'
        )
    if cell.after:
        found.append(
            f'<rect x="{left + room + 2:.1f}" y="{_TOP}" width="12" height="{_UNIT}" rx="3" class="unit {colour}"/>'
        )
    for i, line in enumerate(_lines(cell.text)):
        found.append(f'<text x="{middle:.0f}" y="{_TOP + _UNIT + _LINE * (i + 1) + 2}">{escape(line)}</text>')
    return found


def _box(left: float, top: float, width: float, height: float, text: str, kind: str) -> str:
    return (
        f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="3" class="{kind}"/>'
        f'<text x="{left + width / 2:.0f}" y="{top + height / 2 + 4:.0f}">{text}</text>'
    )
