"""Two studies side by side: which architectures both trained, what each found of them, and whether the two agree.

Architectures are the same where their spelling is: two data sets, two recipes or two hosts may stand behind them. The
studies are taken as independent; where they share seeds or images, intervals between them are rather too wide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from attnsearch.core.errors import UsageError
from attnsearch.core.estimate import Estimate
from attnsearch.core.text import many
from attnsearch.report import findings, provenance
from attnsearch.report.arch_notation import Notation, notation
from attnsearch.report.archs import seeds_kind
from attnsearch.report.formatting import Column, Table, Value, number
from attnsearch.report.tables import Report
from attnsearch.statistics.front import ArchResult

BOTH_BETTER, BOTH_WORSE = "both better", "both worse"
DIFFER = "differ"
UNDECIDED = "no significant difference"
NO_INTERVAL = "no interval"
MEANINGS = {
    BOTH_BETTER: "better than its baseline in both studies, each interval above zero",
    BOTH_WORSE: "worse than its baseline in both studies, each interval below zero",
    DIFFER: "the interval of the difference between the studies leaves out zero",
    UNDECIDED: "that interval includes zero, and not both studies see a gain or a harm: no agreement is shown either",
    NO_INTERVAL: "a single shared seed in one of the studies",
}
LEAST = 5  # shared architectures from which their order is compared
DRAWS = 2000


@dataclass(frozen=True)
class Comparison:
    """What two reports have in common; `sentences` say it, `table` has a row for each shared architecture."""

    first: Report
    second: Report
    sentences: tuple[str, ...]
    table: Table
    setup: Table
    blocks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        return self.first.record.name, self.second.record.name


def compare(first: Report, second: Report) -> Comparison:
    """Hold two studies against each other.

    Raises:
        UsageError: they minimise different metrics, or have no architecture beside the baseline in common.
    """
    a, b = first.record.name, second.record.name
    if first.info.metric.name != second.info.metric.name:
        raise UsageError(
            f"'{a}' minimises the {first.info.metric.error} and '{b}' the {second.info.metric.error}: "
            "their differences cannot be compared"
        )
    pairs = _shared(first, second)
    if not pairs:
        raise UsageError(f"'{a}' and '{b}' have trained no architecture beside the baseline in common")
    between = _between(pairs)
    words = [
        _agreement(one.difference, two.difference, gap)
        for (one, two), gap in zip(pairs, between, strict=True)
    ]
    short = notation([row for row, _ in pairs], first.info.space.sites)
    table = _table(first, second, pairs, between, words, short)
    sentences = tuple(_sentences(first, second, pairs, words))
    return Comparison(first, second, sentences, table, _setup(first, second), short.blocks)


def _shared(first: Report, second: Report) -> list[tuple[ArchResult, ArchResult]]:
    """The architectures that both have, with a difference from the baseline in each, by the first study's order."""
    others = {row.label: row for row in second.rows if not row.baseline and row.difference is not None}
    rows = [row for row in first.rows if not row.baseline and row.difference is not None]
    return [(row, others[row.label]) for row in rows if row.label in others]


MOST = 200.0  # points


def _between(pairs: Sequence[tuple[ArchResult, ArchResult]]) -> list[Estimate]:
    """First difference minus second, with an interval for all pairs together.

    Each difference lies between -100 and 100 points, so theirs does between -200 and 200. Half widths add up as the
    roots of their squares do, and are made wider by the ratio of the normal quantiles of Bonferroni's level to that of
    one interval.
    """
    known = sum(_halves(pair) is not None for pair in pairs)
    normal = NormalDist()
    wider = normal.inv_cdf(1 - 0.025 / max(1, known)) / normal.inv_cdf(0.975)
    gaps = []
    for one, two in pairs:
        assert one.difference is not None
        assert two.difference is not None
        gap, halves = one.difference.mean - two.difference.mean, _halves((one, two))
        half = math.hypot(*halves) * wider if halves else None
        n = min(one.difference.n, two.difference.n)
        gaps.append(
            Estimate(gap, n=n)
            if half is None
            else Estimate(gap, max(-MOST, gap - half), min(MOST, gap + half), n)
        )
    return gaps


def _halves(pair: tuple[ArchResult, ArchResult]) -> tuple[float, float] | None:
    one, two = (row.difference.half if row.difference else None for row in pair)
    return None if one is None or two is None else (one, two)


def _agreement(one: Estimate | None, two: Estimate | None, gap: Estimate) -> str:
    ends = [end for value in (one, two) if value for end in (value.low, value.high)]
    if gap.low is None or gap.high is None or len(ends) < 4 or None in ends:
        return NO_INTERVAL
    if not gap.low <= 0 <= gap.high:
        return DIFFER
    if all(end is not None and end > 0 for end in ends):
        return BOTH_BETTER
    return BOTH_WORSE if all(end is not None and end < 0 for end in ends) else UNDECIDED


def _table(
    first: Report,
    second: Report,
    pairs: Sequence[tuple[ArchResult, ArchResult]],
    between: Sequence[Estimate],
    words: Sequence[str],
    short: Notation,
) -> Table:
    a, b = first.record.name, second.record.name
    each = "simultaneous" if first.verdicts is not None and second.verdicts is not None else "95 %"
    note = f"difference from that study's own baseline, positive is better, ± half the {each} CI"
    together = (
        f"± half a 95 % CI for all {many(len(pairs), 'architecture')} together (Bonferroni, approximate)"
    )
    columns = (
        Column("arch", "architecture"),
        Column("first_number", f"no. in {a}", "arch"),
        Column("second_number", f"no. in {b}", "arch"),
        Column("first_points", f"{a} (pp)", "estimate", signed=True, note=note),
        Column("second_points", f"{b} (pp)", "estimate", signed=True),
        Column(
            "between_points",
            f"{a} minus {b} (pp)",
            "estimate",
            signed=True,
            note=together,
            short="minus (pp)",
        ),
        Column("agreement", "agreement"),
        Column("first_seeds", f"seeds used in {a}", wide=True),
        Column("second_seeds", f"seeds used in {b}", wide=True),
    )
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            short.strip(one),
            *(one.number, two.number, one.difference, two.difference, gap, word),
            *(seeds_kind(one), seeds_kind(two)),
        )
        for (one, two), gap, word in zip(pairs, between, words, strict=True)
    )
    remarks = tuple(f"{word}: {MEANINGS[word]}" for word in MEANINGS if word in words)
    return Table("comparison", f"{a} and {b}", columns, rows, remarks, lead=short.legend)


def _sentences(
    first: Report, second: Report, pairs: Sequence[tuple[ArchResult, ArchResult]], words: Sequence[str]
) -> list[str]:
    counts = Counter(words)
    tally = ", ".join(f"{word} {counts[word]}" for word in MEANINGS if counts[word])
    return [
        f"{many(len(pairs), 'architecture')} stand in both studies, each against its own study's baseline: {tally}.",
        *(_lead(report) for report in (first, second)),
        _order(pairs),
        *_selected(first, second, pairs),
    ]


def _lead(report: Report) -> str:
    """What one study answers, in one sentence."""
    answer = findings.finding(report)
    row = next((row for row in report.rows if row.key == answer.arch), None)
    if row is None or answer.difference is None:
        return f"{report.record.name}: {answer.reason or 'no answer'}"
    interval = "no interval"
    if answer.low is not None and answer.high is not None:
        interval = f"95 % CI {number(answer.low, 2, True)} to {number(answer.high, 2, True)}"
    verdict = "no verdict" if answer.verdict == "none" else answer.verdict
    ratio = "" if answer.cost_ratio is None else f", at {answer.cost_ratio:.3f} x the cost"
    return (
        f"{report.record.name}: {verdict}; {report.called(row)} {number(answer.difference, 2, True)} pp ({interval}, "
        f"{many(answer.n, 'seed')}){ratio}."
    )


def _order(pairs: Sequence[tuple[ArchResult, ArchResult]]) -> str:
    """Kendall's rank correlation of the differences, with a percentile interval over resampled architectures."""
    from attnsearch.statistics.proxy import Ranks

    if len(pairs) < LEAST:
        return f"Their order is not compared: that takes {LEAST} shared architectures or more."
    values = np.array([[row.difference.mean for row in pair if row.difference] for pair in pairs])
    count = len(values)
    ranks = Ranks.of(values[:, 0], values[:, 1], np.zeros(count))
    draws = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=DRAWS)
    tau, taus = float(ranks.taus(np.ones((1, count)))[0][0]), ranks.taus(draws)[0]
    low, high = np.percentile(taus, (2.5, 97.5))
    shown = "no agreement of order is shown"
    if low > 0 or high < 0:
        shown = "their order agrees" if low > 0 else "their order disagrees"
    return (
        f"Rank correlation of the differences: {tau:.2f} (Kendall, 95 % CI {low:.2f} to {high:.2f}): {shown}."
    )


def _selected(first: Report, second: Report, pairs: Sequence[tuple[ArchResult, ArchResult]]) -> list[str]:
    """That a difference rests on the seed that selected the architecture."""
    sentences = []
    for report, rows in ((first, [one for one, _ in pairs]), (second, [two for _, two in pairs])):
        biased = sum(seeds_kind(row) == "selection" for row in rows)
        if biased and report.verdicts is None:
            sentences.append(
                f"In {report.record.name}, {biased} of {len(rows)} differences rest on selection seeds alone and are "
                "optimistically biased."
            )
    return sentences


def _setup(first: Report, second: Report) -> Table:
    """What was set up otherwise, of the recipe each field."""
    a, b = _settings(first), _settings(second)
    names = [name for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]
    columns = (
        Column("name", "setup"),
        Column("first", first.record.name),
        Column("second", second.record.name),
    )
    rows = tuple((name, a.get(name, "–"), b.get(name, "–")) for name in names)
    return Table("setup", "What differs in the setup", columns, rows)


def _settings(report: Report) -> dict[str, str]:
    facts = dict(provenance.facts(report))
    named: tuple[str, ...] = ("space", "host", "data", "device", "proxy validation")
    recipe = report.info.run.recipe.to_dict() if report.info.run.recipe else {}
    sd = report.assessed.sd
    return {
        **{name: facts[name] for name in named if name in facts},
        **{f"recipe: {name}": str(value) for name, value in recipe.items()},
        "standard deviation between seeds": "not known" if sd is None else f"{sd:.2f} pp",
    }
