"""The answer of a study for programs: one architecture against the baseline, with its interval and its price."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["gain", "harm", "equivalent", "no evidence", "none"]


@dataclass(frozen=True)
class Finding:
    """What a study found of one architecture.

    Args:
        verdict: `none` where the study cannot give one.
        reason: why there is no verdict, or no positive control; empty where there are both.
        arch, name: its key, and what people call it; None where no architecture was trained to the end.
        difference: baseline's error minus its own in percentage points: positive is better; low, high: the ends of
            the interval at `confidence`, None where the noise is not known.
        n: seeds that both had.
        cost_ratio: its first cost over the baseline's.
        metric: whose error the difference is of, a name of `core.metrics.METRICS`; unit: of the difference.
        positive_control: the same of a variant known to be worse, which the study should see.
    """

    verdict: Outcome
    reason: str = ""
    arch: str | None = None
    name: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    n: int = 0
    cost_ratio: float | None = None
    positive_control: Finding | None = None
    metric: str = "error"
    unit: str = "percentage points"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the positive control's own control, which there is none of, is left out."""
        values = asdict(self)
        if self.positive_control is not None:
            values["positive_control"] = self.positive_control.to_dict()
            del values["positive_control"]["positive_control"]
        return values
