"""The outcome of a verdict in words, and what it would take to decide one that is open."""

from __future__ import annotations

import math

from attnsearch.report.withheld import LONGER
from attnsearch.statistics import Analysis, Verdict
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.verdict_types import DECIDED, FEW_DEGREES

NO_VERDICT = "no verdict"
WORDS = {
    "gain": "the simultaneous 95 % confidence interval of the difference lies above zero",
    "harm": "it lies below zero",
    "equivalent": "two one-sided tests at 5 % place it within the margin, and the study had the power for it",
    "identical": "the same result as the baseline on every seed: both are one network",
    "no evidence": "neither; an effect below the minimum detectable one may exist",
    NO_VERDICT: "the runs allow none: too few for three degrees of freedom, near chance level, or far from converged",
}
FOUND = "decided at this training length"  # a longer one may say otherwise


def word(analysis: Analysis, verdict: Verdict) -> str:
    """One of `WORDS`. A network that is the baseline's needs no test of equivalence, and no margin."""
    if verdict.same_as == analysis.baseline:
        return "identical"
    return NO_VERDICT if verdict.outcome == "none" else str(verdict.outcome)


def outcome(analysis: Analysis, verdict: Verdict) -> str:
    """The verdict in words, with what qualifies it."""
    if verdict.same_as == analysis.baseline:
        return f"identical to {analysis.baseline}"
    if verdict.outcome == "none":
        return f"{NO_VERDICT} ({verdict.reason})"
    parts = [str(verdict.outcome)]
    if verdict.outcome == "equivalent" and verdict.margin is not None:
        parts[0] = f"equivalent within ±{verdict.margin:g}"
    if verdict.capacity:
        parts.append("not shown against the wider baseline: capacity")
    if verdict.within_margin and verdict.outcome in ("gain", "harm"):
        parts.append(f"within ±{verdict.margin:g}")
    if verdict.same_as:
        parts.append(f"same results as {verdict.same_as}")
    return "; ".join(parts)


def more(analysis: Analysis, verdict: Verdict) -> str:
    """What it would take to decide: seed blocks that would show an effect of the size wanted."""
    if verdict.outcome in DECIDED:
        return FOUND
    if verdict.outcome == "none" and verdict.reason != FEW_DEGREES:
        return LONGER
    if not math.isfinite(verdict.mde) or not analysis.sd > 0:
        return f"{1 + LEAST_DEGREES} seeds, to estimate the noise"
    if wanted(verdict) < 0.005:
        return "set --margin, to test for equivalence"
    needed = blocks_wanted(analysis, verdict)
    count = "over 10,000" if needed is None else f"{needed:,}"
    return f"{count} seeds, to detect {wanted(verdict):.2f} pp"


def wanted(verdict: Verdict) -> float:
    """The effect that a variant without a verdict is to be decided at: the margin, else its own estimate."""
    return verdict.margin or abs(verdict.estimate)


def blocks_wanted(analysis: Analysis, verdict: Verdict) -> int | None:
    """Seed blocks in all that would show that effect; None above 10,000 and where the noise is not known."""
    from attnsearch.statistics.power import seeds_needed

    if not analysis.sd > 0 or wanted(verdict) < 0.005:
        return None
    sd = analysis.sd
    if verdict.own_noise:  # the sd that its interval rests on: of its own pairs
        sd = verdict.se * math.sqrt(verdict.n / 2)
    needed = seeds_needed(wanted(verdict), len(analysis.verdicts) + 1, sd=sd)
    return needed if needed is not None and needed <= 10_000 else None
