"""The tables of a design: its verdicts, and the effects of a factorial one.

Differences are points of accuracy, or of the study's metric; positive is better than the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from attnsearch.core.estimate import Estimate
from attnsearch.core.metrics import Metric
from attnsearch.core.text import many
from attnsearch.report.arch_notation import Notation
from attnsearch.report.archs import cost_name
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.differences import with_interval
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.report.verdict_words import more, outcome
from attnsearch.statistics import Analysis, Verdict
from attnsearch.statistics.dunnett import LEAST_DEGREES

PRICES = ("params", "bytes_moved", "latency_ms")  # shown beside the cost axis where they are known
OVER = (
    "difference in percentage points of {score} on shared seeds, positive is better, ± half the simultaneous 95 % CI "
    "(Dunnett)"
)
ALONE = "± half the unadjusted 95 % CI"
VISIBLE = "found with 80 % power; smaller ones may be missed"
NEXT = (
    "seeds in all that detect, with 80 % power, an effect of the margin's size; without a margin one of the observed "
    "size, assuming that it is true"
)
MAIN = (
    "mean {score} at a site's second option less that at its first, over all settings of the other sites; "
    "an interaction is half of what one site changes in the effect of the other; ± half the 95 % CI"
)


def verdict_table(judged: Judged, cost: str, metric: Metric, short: Notation) -> Table:
    """One row per variant, the best first, then the controls: outcome, effect, certainty, price, what more takes."""
    analysis = judged.analysis
    ordered = (*judged.variants, *judged.controls)
    priced = [c for c in dict.fromkeys((cost, *PRICES)) if _has(judged, c)]
    named = any(row.label not in name for name, row in judged.rows.items())
    beside = (
        ("over_matched_points", "vs wider baseline (pp)", "vs wider", judged.over_matched),
        ("over_frozen_points", "vs frozen block (pp)", "vs frozen", judged.over_frozen),
    )
    asked = [entry for entry in beside if any(entry[3](verdict) for verdict in ordered)]
    own = [
        Column(name, title, "estimate", signed=True, note=ALONE, short=short)
        for name, title, short, _ in asked
    ]
    over = [entry[3] for entry in asked]
    columns = _verdict_columns(judged, named, priced, own, metric.say(OVER))
    rows = tuple(_verdict_values(judged, verdict, priced, named, over, short) for verdict in ordered)
    gains = frozenset(i for i, verdict in enumerate(ordered) if verdict.outcome == "gain")
    return Table("verdicts", "Verdicts", columns, rows, _remarks(analysis), gains, "gain", short.legend)


def _verdict_columns(
    judged: Judged, named: bool, priced: Sequence[str], own: Sequence[Column], over: str
) -> tuple[Column, ...]:
    analysis = judged.analysis
    alike = len({verdict.n for verdict in analysis.verdicts}) == 1  # then the remark on seed blocks says it
    return (
        Column("number", "arch no.", "arch", short="no."),
        Column("variant", "variant"),
        *([Column("arch", "arch", wide=True)] if named else []),
        Column("control", "control", wide=not judged.controls),
        Column("verdict", "verdict"),
        Column("over_baseline_points", f"Δ vs {analysis.baseline} (pp)", "estimate", signed=True, note=over),
        *own,
        Column("seeds", "seeds", "integer", wide=alike),
        Column("visible_points", "minimum detectable effect (pp)", "number", note=VISIBLE, short="MDE (pp)"),
        Column("p", "p, adjusted", "number", 3, wide=True, note="Dunnett"),
        *(
            Column(
                f"{name}_ratio", f"x {cost_name(name)}", "number", 3, note="" if i else "times the baseline's"
            )
            for i, name in enumerate(priced)
        ),
        Column("alone_points", "Δ vs baseline, unadjusted CI (pp)", "estimate", signed=True, wide=True),
        Column("next", "seeds needed", note=NEXT),
    )


def _has(judged: Judged, cost: str) -> bool:
    return all(cost in row.all_costs for row in judged.rows.values())


def _verdict_values(
    judged: Judged,
    verdict: Verdict,
    priced: Sequence[str],
    named: bool,
    over: Sequence[Callable[[Verdict], Estimate | None]],
    short: Notation,
) -> tuple[Value, ...]:
    prices = judged.prices(verdict)
    return (
        judged.rows[verdict.variant].number,
        short.strip(replace(judged.rows[verdict.variant], name=verdict.variant)),
        *([judged.rows[verdict.variant].label] if named else []),
        "yes" if judged.rows[verdict.variant].control else "no",
        outcome(judged.analysis, verdict),
        with_interval(verdict.estimate, verdict.simultaneous, verdict.n),
        *(difference(verdict) for difference in over),
        verdict.n,
        verdict.mde if math.isfinite(verdict.mde) else None,
        verdict.p if math.isfinite(verdict.se) else None,
        *(prices.get(name) for name in priced),
        with_interval(verdict.estimate, verdict.interval, verdict.n),
        None if judged.rows[verdict.variant].control else more(judged.analysis, verdict),
    )


def _remarks(analysis: Analysis) -> tuple[str, ...]:
    noise = ""
    if analysis.degrees and math.isfinite(analysis.sd):
        noise = (
            f"residual standard deviation {analysis.sd:.2f} percentage points "
            f"({many(analysis.degrees, 'degree')} of freedom)"
        )
    pairing = ""
    if math.isfinite(analysis.rho) and analysis.degrees >= LEAST_DEGREES:
        low, high = analysis.rho_interval
        pairing = (
            f"correlation between variants across seeds {analysis.rho:.2f} (95 % CI {low:.2f} to {high:.2f})"
        )
    spread = ""
    if analysis.sd_ratio is not None and analysis.p_equal_noise is not None:
        spread = (
            f"the largest residual sd of a variant is {analysis.sd_ratio:.1f} times the smallest (p of equal noise "
            f"{analysis.p_equal_noise:.2f}, Brown and Forsythe)"
        )
    parts = (noise, spread, pairing)
    seen = many(analysis.blocks, "seed") + "".join(f"; {part}" for part in parts if part)
    return (seen, *(note.rstrip(".") for note in analysis.notes))


def effect_table(judged: Judged, metric: Metric) -> Table | None:
    """Main effects and two-way interactions of a factorial design."""
    if not judged.effects:
        return None
    columns = (
        Column("effect", "stage, or stages"),
        Column("points", "effect (pp)", "estimate", signed=True, note=metric.say(MAIN)),
        Column("p", "p", "number", 3),
        Column("p_holm", "p, Holm", "number", 3),
        Column("aliases", "aliased with"),
    )
    rows = tuple(
        (e.name, with_interval(e.estimate, e.interval, 0), e.p, e.p_holm, ", ".join(e.aliases))
        for e in judged.effects
    )
    strong = frozenset(i for i, e in enumerate(judged.effects) if e.p_holm <= 0.05)
    return Table(
        "effects", "Main effects and interactions", columns, rows, (), strong, "p by Holm at most 0.05"
    )
