"""Plans against statsmodels and against each other."""

from __future__ import annotations

import math

import pytest

from attnsearch.core.errors import UsageError
from attnsearch.statistics.power import mde, plan, power_of, seeds_needed


def test_two_variants_take_four_seeds():
    """Three pairs have two degrees of freedom, and an interval takes three."""
    assert power_of(100.0, 3, 2, sd=1.0) == 0.0
    assert seeds_needed(100.0, 2, sd=1.0) == 4
    planned = plan(100.0, 2, sd=1.0, at_hand=3)
    assert planned.achieved is None
    assert "3 seeds would give no interval" in str(planned)


@pytest.mark.parametrize("n", [4, 5, 10, 40])
def test_two_variants_have_the_power_of_the_paired_t_test(n):
    from statsmodels.stats.power import TTestPower

    effect = 1.3  # run sds; a difference has sd sqrt 2
    expected = TTestPower().power(effect / math.sqrt(2), n, 0.05)
    assert power_of(effect, n, 2, sd=1.0) == pytest.approx(expected, abs=0.004)  # the far tail is left out


def test_a_seed_correlation_shrinks_the_effect_by_its_root():
    assert mde(5, 6, rho=0.75) == pytest.approx(0.5 * mde(5, 6))
    assert mde(5, 6, sd=3.0) == pytest.approx(3 * mde(5, 6))


def test_seeds_are_counted_up_to_the_last_one_that_is_considered():
    # One comparison of n pairs: n = 2 (1.95996 + 0.84162)^2 / effect^2 (Cohen 1988), so 80,000 at 0.0140084 sds.
    assert seeds_needed(0.0140084, 2, sd=1.0) == pytest.approx(80_000, rel=1e-4)
    assert seeds_needed(0.0125, 2, sd=1.0) is None  # 100,465


@pytest.mark.parametrize(("effect", "k", "sd"), [(0.5, 2, 0.2), (0.5, 6, 0.6), (0.3, 11, 1.0), (2.0, 3, 0.3)])
def test_seeds_needed_are_the_fewest(effect, k, sd):
    n = seeds_needed(effect, k, sd=sd)
    assert mde(n, k, sd=sd) <= effect
    assert n == 2 or mde(n - 1, k, sd=sd) > effect


def test_power_at_the_mde_is_the_power_asked():
    for n, k in ((4, 6), (30, 6), (12, 2)):
        assert power_of(mde(n, k, sd=0.7, power=0.9), n, k, sd=0.7) == pytest.approx(0.9, abs=0.002)


def test_more_variants_and_fewer_seeds_see_less():
    assert mde(10, 11) > mde(10, 6) > mde(10, 2)
    assert mde(1, 6) == math.inf
    assert power_of(5.0, 1, 6, sd=1.0) == 0.0


def test_plan_counts_trials_hours_and_the_sds_own_doubt():
    made = plan(0.5, 6, sd=0.3, degrees=2, seconds=90, workers=4, at_hand=3)
    assert made.trials == made.seeds * 6
    assert made.hours == pytest.approx(math.ceil(made.trials / 4) * 90 / 3600)
    assert made.seeds_low < made.seeds < made.seeds_high
    assert made.achieved == mde(3, 6, sd=0.3)
    assert plan(0.001, 6, sd=1.0).seeds is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seeds_needed(0, 6, sd=1.0), "must be above 0 points, got 0"),
        (lambda: mde(5, 1), "two variants"),
        (lambda: mde(5, 6, sd=0.0), "an sd above 0"),
        (lambda: mde(5, 6, rho=1.0), "correlation between -1 and 1"),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(UsageError, match=words):
        call()
