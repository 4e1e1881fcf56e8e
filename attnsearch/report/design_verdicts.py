"""The verdicts of a design, from its trials: which controls belong to which variant, and what each is judged by.

What is computed is computed in `attnsearch.statistics`; here a study's trials become its tables of errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.report.differences import with_interval
from attnsearch.report.verdict_words import word
from attnsearch.report.withheld import Withheld
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
from attnsearch.statistics.front import ArchResult
from attnsearch.statistics.verdict_types import NEAR_CHANCE, no_verdict

GUESS = "the errors of another network, but other losses: both may guess"


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
