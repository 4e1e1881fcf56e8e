"""Error against cost in letters: the plot of the front for a terminal, while a study grows."""

from __future__ import annotations

from collections.abc import Sequence

from attnsearch.report.formatting import quantities

LEFT = 6  # columns of the errors beside the plot


def text_plot(points: Sequence[tuple[float, float, str]], width: int, height: int, title: str) -> list[str]:
    """Lines of at most `width` columns, `height` of them with points.

    Args:
        points: cost, error in percent, and the letter that stands for it; of two in one place the later one is seen.
        title: written below, where it fits.
    """
    costs, errors = [point[0] for point in points], [point[1] for point in points]
    low, high = min(errors), max(errors)
    columns = width - LEFT - 2
    grid = [[" "] * columns for _ in range(height)]
    for at, error, letter in points:
        column = round(_share(at, min(costs), max(costs)) * (columns - 1))
        line = round((1 - _share(error, low, high)) * (height - 1))
        grid[line][column] = letter
    heads = [f"{high:.1f}", *[""] * (height - 2), f"{low:.1f}"]
    lines = [f"{head:>{LEFT}}│{''.join(row)}".rstrip() for head, row in zip(heads, grid, strict=True)]
    first, last = quantities([min(costs), max(costs)])
    space = columns - len(first) - len(last)
    axis = f"{first}{title if len(title) < space else '':^{max(1, space)}}{last}"
    return [*lines, " " * LEFT + "└" + "─" * columns, " " * (LEFT + 1) + axis]


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.0
