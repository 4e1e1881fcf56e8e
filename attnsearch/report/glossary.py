"""The terms of reports, explained once: for the page, its tooltips, and `attnsearch explain TERM`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.metrics import METRICS
from attnsearch.statistics.front import Status

if TYPE_CHECKING:
    from attnsearch.report.tables import Report

GLOSSARY = {
    "ablation": "a study that compares every variant with the baseline on the same seeds; it ends in verdicts",
    "arch": "architecture: what stands in stage 1 | stage 2 | …, `none` for nothing, options in brackets",
    "backbone": "the ResNet that attention blocks are inserted into (`host` in YAML files)",
    "baseline": "the backbone without the blocks in question; every difference is taken from it",
    "bytes moved": "bytes that all operations read and write for one image, without fusion",
    "confidence interval": "95 %: of intervals computed so, 95 in 100 contain the mean over all seeds",
    "equivalent": "two one-sided tests at 5 % place it within the margin, and the study had the power for it",
    **{metric.error: metric.meaning for metric in METRICS.values()},
    "false stop": "an early-stopped trial that would have ended on the Pareto front",
    "FLOPs": "2 x MACs plus element-wise operations",
    "gain": "the simultaneous 95 % confidence interval of the difference lies above zero",
    "harm": "the simultaneous 95 % confidence interval of the difference lies below zero",
    "identical": "the same result as the baseline on every seed: both are one network",
    "independent seeds": "seeds run after the architecture was selected; their mean is unbiased",
    "MACs": "multiply-adds of one image; 1 multiply-add = 1 MAC",
    "margin": "the difference below which nothing would matter (`--margin`); without it nothing is called equivalent",
    "minimum detectable effect": "true effects of this size are found with 80 % power; smaller ones may be missed",
    "no evidence": "the confidence interval includes zero and equivalence is not shown",
    "no verdict": "the runs allow none: too few for three degrees of freedom, near chance level, or far from converged",
    "P(front)": "probability, given the noise between seeds, that no architecture of equal or lower cost has a lower "
    "error; not adjusted for multiplicity",
    "Pareto front": "the architectures that no other one of equal or lower cost beats in error",
    "percentage points": "differences of accuracy, or of the study's metric, in percent (pp); positive is better than "
    "the baseline",
    "positive control": "the plain backbone with fewer channels or, where it cannot have fewer, trained on half of the "
    "images for as many steps: a harm that the study should see",
    "proxy training": "the short training that compares architectures; `attnsearch validate` checks its ranking",
    "selection bias": "the best of many results is optimistic (winner's curse): error on independent seeds minus error "
    "on the seed that selected the architecture",
    "simultaneous interval": "of 100 studies, 95 have all of their intervals right at once (Dunnett)",
    "stage": "a group of residual units of one width; a block stands in some or all of its units",
    "standard deviation": "between seeds: how far runs of one architecture that differ only in the seed scatter",
    **{str(status): status.meaning for status in Status},
}

_ALWAYS = (
    "arch",
    "confidence interval",
    "percentage points",
    "MACs",
    "FLOPs",
    "bytes moved",
    "proxy training",
)
_SEARCH = ("independent seeds", "selection bias", "P(front)", *map(str, Status))
_ABLATION = ("gain", "harm", "equivalent", "identical", "no evidence", "no verdict")


def explain(term: str) -> str:
    """What a term means, whatever its case.

    Raises:
        UsageError: no such term.
    """
    by_lower = {known.lower(): known for known in GLOSSARY}
    if term.lower() not in by_lower:
        raise UsageError(unknown("term", term, sorted(GLOSSARY)))
    return GLOSSARY[by_lower[term.lower()]]


def words(report: Report) -> tuple[tuple[str, str], ...]:
    """The terms that a page uses, with their meanings."""
    from attnsearch.report import design
    from attnsearch.report.design_verdicts import Judged

    error = report.info.metric.error
    if isinstance(report.judged, Judged):
        own = design.words(report, report.judged)
        return (*own, *((term, GLOSSARY[term]) for term in (*_ABLATION, error, *_ALWAYS)))
    return tuple((term, GLOSSARY[term]) for term in (error, *_ALWAYS, *_SEARCH))
