"""What the words and signs of a report mean."""

from __future__ import annotations

from attnsearch.report import design
from attnsearch.report.tables import Report
from attnsearch.report.verdicts import WORDS, Judged
from attnsearch.statistics.front import Status


def words(report: Report) -> tuple[tuple[str, str], ...]:
    """What the words and signs of the page mean."""
    found = [
        (
            "arch",
            "one architecture; what stands in stage 1 | stage 2 | …, `none` for nothing, options in brackets",
        ),
        (
            "error",
            "share of the validation images classified wrongly after the last epoch; never of the test split",
        ),
        (
            "± and interval",
            "95 %: of intervals made so, 95 in 100 hold the mean over all seeds that could have been drawn",
        ),
        ("points", "percentage points of accuracy; positive is better than the baseline"),
        ("MACs, FLOPs", "1 MAC is one multiply-add; FLOPs here are 2 x MACs plus element-wise work"),
        ("bytes moved", "bytes that all operations read and write for one image, none fused"),
        (
            "the proxy",
            "the short training by which archs are compared; its audit compares it with a long one",
        ),
    ]
    if isinstance(report.judged, Judged):
        return (*design.words(report, report.judged), *WORDS.items(), *found)
    ranks = [
        (
            "fresh, search",
            "fresh seeds were run after the arch was chosen; search seeds chose it, which flatters it",
        ),
        (
            "P(front)",
            "probability, given the noise between seeds, that no arch of no more cost has less error",
        ),
        *((str(status), status.meaning) for status in Status),
    ]
    return (*found, *ranks)
