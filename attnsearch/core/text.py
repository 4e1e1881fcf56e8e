"""Words of what users read."""

from __future__ import annotations


def many(count: int, word: str) -> str:
    """`1 arch`, `1,200 archs`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
