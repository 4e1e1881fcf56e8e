"""Widths that blocks choose or refuse."""

from __future__ import annotations

from math import gcd

from attnsearch.errors import BlockError


def rounded_width(width: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `width`, one at least, never less than 0.9 width (MobileNet)."""
    near = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * width else near


def fitting(option: str, value: int | None, number: int, of: str, preferred: int = 1) -> int:
    """`value` if it divides `number`, or `BlockError` with those that do; None: gcd with `preferred`."""
    if value is None:
        return gcd(number, preferred)
    if value < 1 or number % value:
        known = ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
        raise BlockError(f"{option}={value} does not divide {number} {of}; it may be {known}")
    return value
