"""The answer of a study as `Finding`: what `report --json` gives to programs."""

from __future__ import annotations

import math
from dataclasses import replace

from attnsearch.core.controls import POSITIVE
from attnsearch.core.finding import Finding
from attnsearch.report import finalists, sentences
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.tables import Report
from attnsearch.statistics import Verdict
from attnsearch.statistics.front import ArchResult

NO_CONTROL = "No positive control has been judged, so the study has not shown that it could see a harm."


def finding(report: Report) -> Finding:
    """The one answer: the verdict that the report leads with, or why there is none."""
    return _in_metric(_answer(report), report)


def _answer(report: Report) -> Finding:
    if report.withheld:
        return _none(report.withheld.sentence)
    if isinstance(report.judged, Judged):
        variants = report.judged.variants
        if not variants:
            return _none("No variant has a finished training beside the baseline.")
        return _of_variant(report.judged, finalists.leading(variants))
    if report.judged is not None:
        return _none(report.judged)
    if report.final is not None:
        verdict = finalists.headline(report.final)
        row = next((row for row in report.rows if row.key == verdict.variant), None)
        seen = finalists.positive_control(report.record, report.epochs)
        key = finalists.control_key(report.record)
        control = next((row for row in report.rows if row.key == key), None)
        return _with_control(_of(verdict, row), _of(seen, control) if seen else None)
    return _exploratory(sentences.chosen(report))


def leader(report: Report) -> ArchResult | None:
    """The architecture that the finding is of; None where it names none."""
    key = finding(report).arch
    return next((row for row in report.rows if row.key == key), None)


def findings(report: Report) -> list[Finding]:
    """One for every variant of an ablation, the best first; of a search none."""
    if not isinstance(report.judged, Judged):
        return []
    found = [_in_metric(_of_variant(report.judged, verdict), report) for verdict in report.judged.variants]
    reason = report.withheld.sentence
    return [replace(each, reason=reason) for each in found] if reason else found


def _in_metric(found: Finding, report: Report) -> Finding:
    """The finding and its control with the name of what the study minimises."""
    control = found.positive_control
    metric = report.info.metric.name
    named = None if control is None else replace(control, metric=metric)
    return replace(found, metric=metric, positive_control=named)


def _of_variant(judged: Judged, verdict: Verdict) -> Finding:
    controls = [v for v in judged.controls if judged.rows[v.variant].control in POSITIVE]
    control = _of(controls[0], judged.rows[controls[0].variant]) if controls else None
    return _with_control(_of(verdict, judged.rows[verdict.variant]), control)


def _of(verdict: Verdict, row: ArchResult | None) -> Finding:
    low, high = verdict.simultaneous
    known = math.isfinite(low) and math.isfinite(high)
    return Finding(
        verdict.outcome,
        reason=f"No verdict: {verdict.reason}." if verdict.reason else "",
        arch=row.key if row else verdict.variant,
        name=row.name or row.label if row else verdict.variant,
        difference=verdict.estimate,
        low=low if known else None,
        high=high if known else None,
        n=verdict.n,
        cost_ratio=row.ratio if row else None,
    )


def _with_control(found: Finding, control: Finding | None) -> Finding:
    reason = found.reason if control else " ".join(filter(None, (found.reason, NO_CONTROL)))
    return replace(found, positive_control=control, reason=reason)


def _none(reason: str) -> Finding:
    return _with_control(Finding("none", reason), None)


def _exploratory(row: ArchResult | None) -> Finding:
    """The architecture that a search leads with before it has a verdict; its interval is of this pair alone."""
    missing = _none(finalists.MISSING)
    if row is None:
        return missing
    paired = row.difference
    return replace(
        missing,
        arch=row.key,
        name=row.label,
        difference=paired.mean if paired else None,
        low=paired.low if paired else None,
        high=paired.high if paired else None,
        n=paired.n if paired else 0,
        cost_ratio=row.ratio,
    )
