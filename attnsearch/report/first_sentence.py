"""The sentence that a design's report opens with: what is better than the baseline, what is worse, what is open.

Where gates with two starts were tried, it answers for each start: that is half of the question of whoever puts
attention into a trained network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attnsearch.core.text import many
from attnsearch.report.formatting import number

if TYPE_CHECKING:
    from attnsearch.report.design_verdicts import Judged
    from attnsearch.statistics import Verdict

NAMED = 3  # names in a clause before it only counts
STARTS = {
    "identity": "gates that start as the identity",
    "default": "gates that start as their papers have them",
}


def sentence(judged: Judged, metric: str, length: str) -> str:
    """`After 1 epoch, in points of accuracy against plain: of 3 gates that start as the identity, none is shown ...`.

    Args:
        metric: what the points are of, in words. length: of a training, as `1 epoch of 2,000 images`.
    """
    groups = {start: [v for v in judged.variants if start_of(judged, v) == start] for start in STARTS}
    parts = [
        f"of {len(verdicts)} {STARTS[start]}, {_clause(verdicts)}"
        for start, verdicts in groups.items()
        if verdicts
    ]
    if len(parts) < len(STARTS) or sum(map(len, groups.values())) < len(judged.variants):
        parts = [f"of {many(len(judged.variants), 'variant')}, {_clause(judged.variants)}"]
    seeds = many(judged.analysis.blocks, "seed")
    against = f"in points of {metric} against {judged.analysis.baseline} on {seeds}"
    return f"After {length}, {against}: {'; '.join(parts)}."


def start_of(judged: Judged, verdict: Verdict) -> str:
    """`identity` or `default` where all gates of a variant start so; empty where it has none, or both."""
    stages: Sequence[Mapping[str, object]] = judged.rows[verdict.variant].spec.get("stages") or ()
    starts = {str(stage.get("init", "default")) for stage in stages if stage.get("attention")}
    return starts.pop() if len(starts) == 1 else ""


def _clause(verdicts: Sequence[Verdict]) -> str:
    """Which are shown to be better and which worse, each with its estimate; the rest by their range."""
    better, worse = (_names([v for v in verdicts if v.outcome == outcome]) for outcome in ("gain", "harm"))
    rest = [v.estimate for v in verdicts if v.outcome not in ("gain", "harm", "none")]
    unjudged = sum(v.outcome == "none" for v in verdicts)
    ends = f"{number(min(rest), 2, True)} to {number(max(rest), 2, True)}" if len(rest) > 1 else ""
    notes = [f"{len(rest)} neither, {ends or number(rest[0], 2, True)}"] if rest else []
    notes += [f"{unjudged} without a verdict"] if unjudged else []
    left = f" ({'; '.join(notes)})" if notes else ""
    if better == worse:
        return f"none is shown to be better or worse{left}"
    return f"{better} shown to be better, {worse} shown to be worse{left}"


def _names(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "none is"
    ordered = sorted(verdicts, key=lambda v: -abs(v.estimate))
    names = [f"{v.variant.removeprefix('stages=')} ({number(v.estimate, 2, True)})" for v in ordered[:NAMED]]
    more = [f"{len(ordered) - NAMED} more"] if len(ordered) > NAMED else []
    *first, last = [*names, *more]
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


__all__ = ["sentence", "start_of"]
