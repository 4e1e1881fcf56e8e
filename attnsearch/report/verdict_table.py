"""Differences from the baseline, and the verdicts of a design, in the words and columns of a report.

Differences are points of accuracy, or of the study's metric; positive is better than the baseline.
What is computed is computed in `attnsearch.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.estimate import Estimate
from attnsearch.core.metrics import Metric
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.text import many
from attnsearch.core.trial import TrialResult
from attnsearch.report.arch_notation import Notation
from attnsearch.report.archs import cost_name
from attnsearch.report.differences import with_interval
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.report.withheld import LONGER, Withheld
from attnsearch.statistics import (
    Analysis,
    Effect,
    Verdict,
    alpha_spending,
    compare,
    contrasts,
    factor_effects,
)
from attnsearch.statistics import Table as Blocks
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.front import ArchResult
from attnsearch.statistics.verdict_types import DECIDED, FEW_DEGREES, NEAR_CHANCE, no_verdict

NO_VERDICT = "no verdict"
WORDS = {
    "gain": "the simultaneous 95 % confidence interval of the difference lies above zero",
    "harm": "it lies below zero",
    "equivalent": "two one-sided tests at 5 % place it within the margin, and the study had the power for it",
    "identical": "the same result as the baseline on every seed: both are one network",
    "no evidence": "neither; an effect below the minimum detectable one may exist",
    NO_VERDICT: "the runs allow none: too few for three degrees of freedom, near chance level, or far from converged",
}


PRICES = ("params", "bytes_moved", "latency_ms")  # told beside the cost axis where they are known
OVER = (
    "difference in percentage points of {score} on shared seeds, positive is better, ± half the simultaneous 95 % CI "
    "(Dunnett)"
)
ALONE = "± half the unadjusted 95 % CI"
VISIBLE = "found with 80 % power; smaller ones may be missed"
GUESS = "the errors of another network, but other losses: both may guess"
NEXT = (
    "seeds in all that detect, with 80 % power, an effect of the margin's size; without a margin one of the observed "
    "size, assuming that it is true"
)
FOUND = "decided at this training length"  # a longer one may say otherwise
MAIN = (
    "mean {score} at a site's second option less that at its first, over all settings of the other sites; "
    "an interaction is half of what one site changes in the effect of the other; ± half the 95 % CI"
)


@dataclass(frozen=True)
class Judged:
    """What a design said: the analysis, the factorial's effects, the arch behind each variant.

    `matched` and `frozen` name a variant's width-matched host and its frozen gate; `over` is the difference of
    such a pair, with a 95 % interval for that pair alone.
    """

    analysis: Analysis
    effects: tuple[Effect, ...]
    rows: Mapping[str, ArchResult]
    matched: Mapping[str, str]
    frozen: Mapping[str, str]
    over: Mapping[tuple[str, str], Estimate]

    def restated(self, rows: Sequence[ArchResult]) -> tuple[ArchResult, ...]:
        """The rows with the verdicts and their differences: one word and one number for one thing."""
        by_name = {v.variant: v for v in self.analysis.verdicts}
        names = {row.key: name for name, row in self.rows.items()}
        return tuple(
            self._restated(replace(row, name=names[row.key]), by_name.get(names[row.key])) for row in rows
        )

    def _restated(self, row: ArchResult, verdict: Verdict | None) -> ArchResult:
        if verdict is None:
            return replace(row, difference=None, verdict="baseline" if row.baseline else "not judged")
        paired = with_interval(verdict.estimate, verdict.simultaneous, verdict.n)
        return replace(
            row, difference=paired, verdict="control" if row.control else word(self.analysis, verdict)
        )

    @property
    def variants(self) -> tuple[Verdict, ...]:
        """The verdicts on what was asked, the best first."""
        return self._ordered(control=False)

    @property
    def controls(self) -> tuple[Verdict, ...]:
        """The verdicts on the controls, the best first."""
        return self._ordered(control=True)

    def _ordered(self, *, control: bool) -> tuple[Verdict, ...]:
        chosen = [v for v in self.analysis.verdicts if bool(self.rows[v.variant].control) == control]
        return tuple(sorted(chosen, key=lambda verdict: -verdict.estimate))

    def over_matched(self, verdict: Verdict) -> Estimate | None:
        return self.over.get((verdict.variant, self.matched.get(verdict.variant, "")))

    def over_frozen(self, verdict: Verdict) -> Estimate | None:
        return self.over.get((verdict.variant, self.frozen.get(verdict.variant, "")))

    def prices(self, verdict: Verdict) -> Mapping[str, float]:
        """Costs over the baseline's, by name."""
        mine, plain = self.rows[verdict.variant].all_costs, self.rows[self.analysis.baseline].all_costs
        return {name: mine[name] / plain[name] for name in mine if plain.get(name)}


def judge(
    record: StudyRecord, rows: Sequence[ArchResult], epochs: int, withheld: Withheld
) -> Judged | str | None:
    """The verdicts of a design; None for a search; a sentence where a design has none yet."""
    trials = [trial for trial in record.trials if trial.role == "design" and trial.epochs == epochs]
    if not trials:
        return None
    names = _names(rows, record.info.variants)
    plain = next((row for row in rows if row.baseline), None)
    if plain is None:
        return "The baseline has no finished trial, so there is no verdict yet."
    blocks = Blocks.of_trials(trials, names)
    margin, matched, frozen = record.info.run.margin, _matched(rows, names), _frozen(rows, names)
    try:
        analysis = _by_losses(_analysis(record, blocks, names[plain.key], margin, matched), trials, names)
    except (NoResultError, UsageError) as error:
        return f"There is no verdict yet: {error}."
    by_name = {names[row.key]: row for row in rows}
    analysis = withheld.of(analysis)
    if withheld:
        matched, frozen = {}, {}
    over = _over_controls(blocks, analysis, [*matched.items(), *frozen.items()])
    over |= {
        (v.variant, matched[v.variant]): with_interval(*v.over_matched, v.n)  # by which capacity was judged
        for v in analysis.verdicts
        if v.over_matched is not None and v.variant in matched
    }
    effects = () if withheld else _effects(record, blocks, trials, names)
    return Judged(analysis, effects, by_name, matched, frozen, over)


def _by_losses(analysis: Analysis, trials: Sequence[TrialResult], names: Mapping[str, str]) -> Analysis:
    """Take back that two variants are one network where only their errors are equal.

    Networks that guess one class each have the same errors in every seed, and other losses: nothing follows from them.
    """
    losses = {(names[t.key], t.seed): t.curve[-1].val_loss for t in trials if t.finished and t.curve}

    def differs(name: str, of: str) -> bool:
        return any(
            loss != losses[of, seed]
            for (who, seed), loss in losses.items()
            if who == name and (of, seed) in losses
        )

    apart = {v.variant: v.same_as for v in analysis.verdicts if v.same_as and differs(v.variant, v.same_as)}
    if not apart:
        return analysis
    verdicts = tuple(
        no_verdict(v.variant, v.estimate, v.n, GUESS, v.margin) if v.variant in apart else v
        for v in analysis.verdicts
    )
    kept = [
        note for note in analysis.notes if not any(note.startswith(f"{name} gave the same") for name in apart)
    ]
    alike = [
        f"{name} had the errors of {of} in every seed, but other losses: both may guess."
        for name, of in apart.items()
    ]
    return replace(analysis, verdicts=verdicts, notes=(*kept, *alike))


def _analysis(
    record: StudyRecord, blocks: Blocks, baseline: str, margin: float | None, matched: Mapping[str, str]
) -> Analysis:
    """At the end of a design, or at the looks of one that goes on until every variant is decided."""
    design, guessing = record.info.design, record.info.guessing
    if design is None or design.effect is None:
        return compare(blocks, baseline, margin=margin, matched=matched, guessing=guessing)
    planned = alpha_spending.planned_blocks(blocks, design.effect, design.seeds)
    margin = margin or design.effect
    return alpha_spending.judge(blocks, baseline, planned, margin=margin, matched=matched, guessing=guessing)[
        0
    ]


def _names(rows: Sequence[ArchResult], variants: Mapping[str, str]) -> dict[str, str]:
    """Arch key -> a name that no other arch of the table has: the design's own where it gives one."""
    titles = {row.key: row.label if row.baseline else row.title for row in rows}
    titles |= {key: name for key, name in variants.items() if key in titles}
    names = list(titles.values())
    return {key: name if names.count(name) == 1 else f"{name} [{key[:6]}]" for key, name in titles.items()}


def _matched(rows: Sequence[ArchResult], names: Mapping[str, str]) -> dict[str, str]:
    """For each variant the width-matched host nearest in MACs, if within 5 %: equal MACs are its purpose."""
    hosts = [row for row in rows if row.control == "width-matched"]
    pairs = {}
    for variant in (row for row in rows if not row.baseline and not row.control and hosts):
        macs = variant.all_costs.get("macs", 0.0)
        nearest = min(hosts, key=lambda host: abs(host.all_costs.get("macs", 0.0) - macs))
        if abs(nearest.all_costs.get("macs", 0.0) - macs) <= 0.05 * macs:
            pairs[names[variant.key]] = names[nearest.key]
    return pairs


def _frozen(rows: Sequence[ArchResult], names: Mapping[str, str]) -> dict[str, str]:
    """For each variant whose gates also ran with their parameters as drawn, the name of that control."""
    controls = [names[row.key] for row in rows if row.control == "frozen gate"]
    pairs = {name.removeprefix("frozen "): name for name in controls}
    return {variant: control for variant, control in pairs.items() if variant in names.values()}


def _over_controls(
    blocks: Blocks, analysis: Analysis, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Estimate]:
    """Each variant over its control; a copy of another variant stands in no noise twice."""
    twins = {v.variant: v.same_as for v in analysis.verdicts if v.same_as}
    twins |= {v.variant: "" for v in analysis.verdicts if v.reason == NEAR_CHANCE}
    unique = blocks.take([i for i, name in enumerate(blocks.variants) if name not in twins])
    known = {*unique.variants, *twins}
    asked = {(a, b): (twins.get(a, a), twins.get(b, b)) for a, b in pairs if {a, b} <= known}
    asked = {pair: of for pair, of in asked.items() if of[0] != of[1]}
    try:
        effects = contrasts(unique, list(asked.values()))
    except NoResultError:  # some share no chain of seed blocks
        return {}
    shared = {name: np.isfinite(unique.errors[unique.row(name)]) for name in unique.variants}
    return {
        pair: with_interval(effect.estimate, effect.interval, int((shared[a] & shared[b]).sum()))
        for (pair, (a, b)), effect in zip(asked.items(), effects, strict=True)
    }


def _effects(
    record: StudyRecord, blocks: Blocks, trials: Sequence[TrialResult], names: Mapping[str, str]
) -> tuple[Effect, ...]:
    kind = record.info.design_kind
    settings = {names[t.key]: dict(t.sites) for t in trials if t.sites and t.key in names}
    if kind != "factorial" or not settings:
        return ()
    try:
        return tuple(factor_effects(blocks, settings))
    except (NoResultError, UsageError):  # cells are missing, or a site has more than two options
        return ()


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
