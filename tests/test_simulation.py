"""T1 to T7 of the statistics in small; `python -m benchmarks.statistics.simulate` is the full form.

Few repetitions measure roughly: each bound is widened by three standard errors of the figure, and by no more.
"""

from __future__ import annotations

import math

import pytest

from attnsearch.statistics import compare
from attnsearch.statistics.power import detectable, mde
from benchmarks.statistics import simulate


def check(rows, repetitions: int, at_least: int = 1) -> None:
    found = list(rows)
    assert len(found) >= at_least
    for row in found:
        edge = row.high if math.isfinite(row.high) else row.low
        slack = 3 * math.sqrt(max(0.01, edge * (1 - edge)) / repetitions)
        assert row.low - slack <= row.measured <= row.high + slack, str(row)


def test_intervals_cover_and_false_verdicts_are_rare():
    check(simulate.coverage(250, seeds=(3,), variants=(6,)), 250, at_least=10)


def test_a_noisy_variant_keeps_its_coverage():
    check(simulate.one_noisy_variant(250, seeds=(5,)), 250, at_least=2)


def test_the_printed_effect_is_found_with_the_stated_power():
    check(simulate.power(250, seeds=(3, 10), variants=(6,)), 250, at_least=4)


def test_p_front_is_calibrated_and_the_reported_front_unbiased():
    rows = list(simulate.front("made space", *simulate.made_space(), 10))
    assert len(rows) == 6
    for row in rows:
        # 10 studies hold about 50 to 80 archs of high P(front), so that a share is known to 0.03; 60 studies give
        # errors of 0.002 to 0.016 where the bound is 0.05
        slack = 0.09 if "true where" in row.figure else 0.0
        assert row.low - slack <= row.measured <= row.high + slack, str(row)


def test_the_audit_covers_and_trusts_what_it_should():
    check(simulate.proxy(40, sizes=(30,)), 40, at_least=3)


@pytest.mark.parametrize(("n", "k"), [(3, 6), (5, 4), (8, 11)])
def test_power_is_that_of_the_verdicts_themselves(n, k):
    """The power's own tables, judged one by one by `compare`, give the gains that the power counts."""
    gains = [
        [v.outcome == "gain" for v in compare(table, "0").verdicts]
        for table in simulate.tables(n, k, 0.0, "normal", 300, gain=mde(n, k))
    ]
    share = sum(map(sum, gains)) / (300 * (k - 1))
    assert share == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("n", "published"), [(5, 2.4), (8, 1.6), (10, 1.4), (15, 1.1), (20, 0.93), (30, 0.75)]
)
def test_minimum_effect_of_two_variants_is_the_paired_t_tests(n, published):
    # G*Power, two-tailed paired t, alpha .05, power .80: effect sizes dz 11.5, 3.26, 1.68, 1.16, 0.996, 0.778 ... times
    # sqrt 2 for the sd of a difference
    assert mde(n, 2) == pytest.approx(published, rel=0.035)


def test_few_blocks_and_many_join():
    """At 16 blocks the closed form takes over from the simulation."""
    assert detectable(15, 6) == pytest.approx(detectable(16, 6), rel=0.03)


def test_only_what_may_be_chance_is_measured_again():
    def make(near: float, far: float, then: float):
        def rows(repetitions):
            first = repetitions == 2_000
            yield simulate.Row("T1", "a", "near", near if first else then, 0.935, 0.965, repetitions)
            yield simulate.Row("T1", "a", "far", far, 0.935, 0.965, repetitions)

        return rows

    told = list(simulate.settled(make(0.967, 0.99, 0.963), 2_000))  # 0.965: one standard error is 0.004
    assert [(row.figure, row.repetitions, row.ok) for row in told] == [
        ("near", 2_000, False),
        ("far", 2_000, False),
        ("near", 20_000, True),
    ]
    assert len(list(simulate.settled(make(0.95, 0.95, 0.95), 2_000))) == 2
