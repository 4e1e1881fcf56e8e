"""What a comparison with the baseline ends in: `Verdict` of one variant, `Analysis` of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.effects import UNKNOWN, Interval

Outcome = Literal["gain", "harm", "equivalent", "no evidence", "none"]

DECIDED = ("gain", "harm", "equivalent")
NEAR_CHANCE = "near chance level"
NO_VARIATION = "the runs do not vary"
FEW_DEGREES = f"under {LEAST_DEGREES} degrees of freedom"


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one variant against the baseline.

    Args:
        outcome: gain or harm when the simultaneous 95 % interval leaves out 0; else equivalent when two
            one-sided simultaneous tests at 5 % place the variant within +-margin and the design could have
            seen an effect of that size; else no evidence; none where the runs allow no verdict, for the `reason`.
        reason: why there is no verdict, in a few words; empty where there is one.
        estimate: difference in points of accuracy; positive is better than the baseline.
        se: standard error of the estimate.
        interval: 95 % for this comparison alone; simultaneous: 95 % for all comparisons of the table
            together.
        p: adjusted for all comparisons.
        n: seed blocks in which both the variant and the baseline ran.
        mde: smallest effect that the verdict finds with 80 % power, at the noise seen.
        margin, within_margin: points below which nothing matters, if stated; whether the tests place it
            there.
        capacity: whether a gain was not shown over the width-matched host too; None where that was not asked.
        over_matched: difference from the width-matched host, with its own 95 % interval.
        own_noise: judged by its own paired differences, since it or the baseline is much noisier than the
            rest.
        same_as: the variant with the same result in every block: both are one network.
    """

    variant: str
    outcome: Outcome
    estimate: float
    n: int
    reason: str = ""
    se: float = math.inf
    interval: Interval = UNKNOWN
    simultaneous: Interval = UNKNOWN
    p: float = 1.0
    mde: float = math.inf
    margin: float | None = None
    within_margin: bool = False
    capacity: bool | None = None
    over_matched: tuple[float, Interval] | None = None
    own_noise: bool = False
    same_as: str | None = None


@dataclass(frozen=True)
class Analysis:
    """Verdicts on all variants but the baseline, and what they rest on.

    Args:
        blocks: seed blocks that tell of a difference.
        sd, degrees: sd of a run within blocks, in points, and its degrees of freedom.
        rho: share of the run variance that the seed block explains, with its 95 % interval: what pairing
            achieved.
        critical: the simultaneous critical value of t.
        sd_ratio: largest over smallest residual sd of a variant; p_equal_noise: Brown and Forsythe's test
            that there is no such difference. None where the table is too small.
        notes: what a reader must know beside the numbers, one sentence each.
    """

    baseline: str
    verdicts: tuple[Verdict, ...]
    blocks: int
    sd: float
    degrees: int
    rho: float
    rho_interval: Interval
    critical: float
    sd_ratio: float | None
    p_equal_noise: float | None
    notes: tuple[str, ...]

    def without_verdicts(self, reason: str) -> Analysis:
        """The same with `none` for every verdict; estimates and intervals stay."""
        verdicts = (replace(v, outcome="none", reason=reason, capacity=None) for v in self.verdicts)
        return replace(self, verdicts=tuple(verdicts))


def no_verdict(variant: str, estimate: float, n: int, reason: str, margin: float | None = None) -> Verdict:
    """An estimate without interval, p value and detectable effect."""
    return Verdict(variant, "none", estimate, n, reason=reason, margin=margin)
