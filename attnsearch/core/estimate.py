"""A number with its interval."""

from __future__ import annotations

import math
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
        """Half of the interval; the longer side of one that the bounds of what is possible cut."""
        return (
            None
            if self.low is None or self.high is None
            else max(self.high - self.mean, self.mean - self.low)
        )

    @property
    def is_cut(self) -> bool:
        """Whether one side of the interval is shorter than the other."""
        if self.low is None or self.high is None:
            return False
        return not math.isclose(self.high - self.mean, self.mean - self.low, abs_tol=1e-6)
