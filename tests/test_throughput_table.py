"""The table of `make bench`: each figure with its range, its target, and what limits one that is missed."""

from __future__ import annotations

import pytest

from benchmarks.speed.throughput import line


@pytest.mark.parametrize(
    ("values", "expected"), [([1.7, 1.9, 2.0], "met"), ([1.2, 1.3, 2.0], "missed"), ([1.85], "met")]
)
def test_a_median_meets_its_target_or_says_what_limits_it(values: list[float], expected: str) -> None:
    text = line("workers", "two workers / one", values)
    assert f"target >= 1.85: {expected}" in text
    assert ("limited by" in text) == (expected == "missed")


def test_a_figure_without_a_target_shows_median_and_range() -> None:
    text = line("shares", "none: data (%)", [3.0, 1.0, 2.0])
    assert text.split() == ["none:", "data", "(%)", "2", "[1,", "3]", "n=3"]
