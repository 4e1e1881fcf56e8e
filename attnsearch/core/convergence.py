"""Has a recipe converged? Judged by the baseline's error when it is trained several times as long.

Never by the slope of the last epochs: a one-cycle schedule always ends flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

LONGER = 4  # times the recipe's epochs
LEAST_SEEDS = 2
ALLOWED_FALL = 0.15  # of the baseline's error


@dataclass(frozen=True)
class Convergence:
    """The baseline's validation errors in percent, one a seed, at the recipe's length and at a longer one."""

    epochs: int
    errors: tuple[float, ...]
    long_epochs: int
    long_errors: tuple[float, ...]

    @property
    def fall(self) -> float:
        """The share of its error that the baseline loses by the longer training; negative where it gets worse."""
        return 1.0 - fmean(self.long_errors) / fmean(self.errors) if fmean(self.errors) > 0 else 0.0

    @property
    def reached(self) -> bool:
        return self.fall < ALLOWED_FALL

    def to_attrs(self) -> dict[str, Any]:
        """Plain JSON values for a study's attributes."""
        return {
            "epochs": self.epochs,
            "errors": list(self.errors),
            "long_epochs": self.long_epochs,
            "long_errors": list(self.long_errors),
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Convergence:
        return cls(attrs["epochs"], tuple(attrs["errors"]), attrs["long_epochs"], tuple(attrs["long_errors"]))

    def sentence(self, error: str = "error") -> str:
        """What was measured, and what follows; `error` is what the study calls it."""
        measured = (
            f"trained {self.long_epochs / self.epochs:g} times as long, the baseline's {error} goes from "
            f"{fmean(self.errors):.1f} to {fmean(self.long_errors):.1f} % "
            f"(means of {len(self.errors)} and {len(self.long_errors)} seeds)"
        )
        if self.reached:
            return f"The recipe has converged: {measured}."
        return (
            f"The recipe of {self.epochs} epochs is far from converged: {measured}. No architecture is named; "
            f"`--epochs {self.long_epochs}` is the least that could."
        )


NOT_MEASURED = "Whether the recipe has converged was not measured; `attnsearch validate` does."
