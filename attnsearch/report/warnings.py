"""What takes the ground from under an answer, and so stands before it: sentences with their numbers."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from attnsearch.core.metrics import binomial_variance
from attnsearch.report import design
from attnsearch.report.archs import is_listed, median_curve
from attnsearch.report.design_verdicts import Judged

if TYPE_CHECKING:
    from attnsearch.report.tables import Report


def warnings(report: Report) -> tuple[str, ...]:
    """The worst first."""
    untrusted = report.info.verdict_on_proxy == "do not trust"
    found = [
        unfinished(report),
        "Validation: the short training does not rank architectures like the full training."
        if untrusted
        else "",
        images(report) if wide_by_images(report) else "",
        *(design.warnings(report.judged) if isinstance(report.judged, Judged) else ()),
    ]
    return tuple(line for line in found if line)


def unfinished(report: Report) -> str:
    """Where the baseline's error falls by more in its last epoch than any arch leads it by."""
    plain = report.baseline
    curve = median_curve(report.record, plain.key, report.epochs) if plain else []
    shown = [row.difference.mean for row in report.rows if row.difference and is_listed(row)]
    if len(curve) < 2 or not shown:
        return ""
    fall, lead = curve[-2] - curve[-1], max(shown)
    than = "lead over it here" if lead > 0 else "difference from it here"
    most = lead if lead > 0 else max(map(abs, shown))
    if fall <= most:
        return ""
    return (
        f"Not converged: the baseline's {report.info.metric.error} fell by {fall:.1f} percentage points in the last "
        f"epoch (from {curve[-2]:.1f} to "
        f"{curve[-1]:.1f} %, median over seeds), more than any {than} ({most:.2f} at most). Differences "
        "may only reflect convergence speed. Train longer, or run `attnsearch validate`."
    )


def wide_by_images(report: Report) -> bool:
    """Whether what the few validation images leave open is at least half of what the seeds leave open."""
    limit = _image_limit(report)
    if limit is None or not isinstance(report.judged, Judged):
        return False
    ends = [verdict.simultaneous for verdict in report.judged.variants]
    halves = [(high - low) / 2 for low, high in ends if math.isfinite(high - low)]
    return bool(halves) and limit * math.sqrt(2) >= min(halves) / 2


def images(report: Report) -> str:
    """What so few validation images allow to say of others: a limit that no number of seeds moves."""
    count, half = report.info.images.val, _image_limit(report)
    if half is not None:
        return (
            f"Validation set of {count:,} images: sampling error ±{half:.1f} percentage points (95 %), "
            "of a difference at "
            f"most ±{half * math.sqrt(2):.1f}; more seeds do not reduce it."
        )
    if isinstance(count, int) and count > 0 and report.baseline and _resplit(report):
        return (
            f"Each seed has its own {count:,} validation images, drawn from the same pool, so that the intervals "
            "include most of the sampling error of the images; the seeds share one pool, so not all of it."
        )
    return ""


def _image_limit(report: Report) -> float | None:
    """Half the 95 % interval of the baseline's error over images, in points.

    None where seeds have their own images, and of a metric without a formula for it.
    """
    count, plain = report.info.images.val, report.baseline
    if not isinstance(count, int) or count < 1 or plain is None or _resplit(report):
        return None
    metric = report.info.metric.name
    if metric in ("error", "top5"):
        return 1.96 * math.sqrt(binomial_variance(plain.mean, count))
    shown = [t for t in report.record.trials if t.key == plain.key and t.seed in plain.shown_errors]
    variances = [t.counts.sampling_variance(metric) for t in shown if t.finished and t.counts]
    known = [variance for variance in variances if variance is not None]
    return 1.96 * math.sqrt(fmean(known)) if known else None


def _resplit(report: Report) -> bool:
    return bool(report.info.recipe.resplit)
