"""A number with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` runs with its 95 % interval; `low` and `high` are None where the noise is not known."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int = 1

    @property
    def half(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2
