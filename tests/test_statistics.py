"""Verdicts against textbooks, statsmodels and scipy, and against the rules that they state."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics import Table, compare, contrasts, factor_effects, fit, holm
from attnsearch.statistics.dunnett import Family, dunnett_critical
from attnsearch.statistics.noise import equal_noise, residuals, seed_correlation, variant_variances

# Montgomery, Design and Analysis of Experiments, 8th ed., table 4.3: vascular grafts, pressure by batch.
GRAFTS = np.array(
    [
        [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
        [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
        [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
        [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
    ]
)
# R's MASS::immer, mean of both years: barley yields, variety (M, P, S, T, V) by location (C, D, GR, M, UF, W). Venables
# and Ripley, Modern Applied Statistics with S, section 6.10; Immer, Hayes and Powers 1934.
BARLEY = np.array(
    [
        [109.35, 77.30, 82.65, 92.70, 80.85, 123.50],
        [100.25, 95.05, 92.20, 109.60, 91.25, 126.90],
        [91.65, 71.90, 69.45, 91.20, 93.85, 128.75],
        [133.15, 96.80, 75.60, 135.60, 98.45, 169.60],
        [110.10, 73.15, 82.90, 97.45, 100.05, 131.45],
    ]
)
# Box, Hunter and Hunter, Statistics for Experimenters, 2nd ed., table 4.4: penicillin, process by blend.
PENICILLIN = np.array(
    [[89, 84, 81, 87, 79], [88, 77, 87, 92, 81], [97, 92, 87, 89, 80], [94, 79, 85, 84, 88]]
)
# Dunnett 1955, table 1: blood counts of a control and two drugs; one-way, unequal sizes; from SciPy's manual of
# stats.dunnett.
BLOOD = (
    [7.40, 8.50, 7.20, 8.24, 9.84, 8.32],
    [9.76, 8.80, 7.68, 9.36],
    [12.80, 9.68, 12.16, 9.20, 10.55],
)
# Thomson and Short 1969, table 1, as SciPy's tests give it: mucociliary efficiency of the healthy and of two illnesses.
MUCOCILIARY = ([2.9, 3.0, 2.5, 2.6, 3.2], [3.8, 2.7, 4.0, 2.4], [2.8, 3.4, 3.7, 2.2, 2.0])
# Montgomery, table 6.10: filtration rate of the unreplicated 2^4, in standard order.
FILTRATION = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]


def table(errors, names: str = "abcdefghijk") -> Table:
    errors = np.asarray(errors, dtype=float)
    return Table(tuple(names[: len(errors)]), tuple(range(errors.shape[1])), errors)


@pytest.mark.parametrize(
    ("data", "published"),  # SS of treatments, of blocks, of error, and F, as the books print them
    [
        (GRAFTS, (178.17, 192.25, 109.89, 8.11)),
        (PENICILLIN, (70, 264, 226, 1.24)),
    ],
)
def test_a_whole_table_has_the_sums_of_squares_of_the_textbooks(data, published):
    variants, blocks, error, f = published
    found = fit(data)
    between = data.shape[1] * (found.effects - found.effects.mean()) @ (found.effects - found.effects.mean())
    assert between == pytest.approx(variants, abs=0.006)
    assert found.sd**2 * found.degrees == pytest.approx(error, abs=0.006)
    assert between / (len(data) - 1) / found.sd**2 == pytest.approx(f, abs=0.006)
    assert ((data - data.mean()) ** 2).sum() == pytest.approx(variants + blocks + error, abs=0.02)


def tidy(data) -> pd.DataFrame:
    frame = (
        pd.DataFrame(np.asarray(data, dtype=float)).stack().rename_axis(["variant", "block"]).rename("error")  # type: ignore[call-overload]
    )
    return frame.reset_index().astype({"variant": str})


def test_missing_cell_of_the_textbook():
    # Montgomery, table 4.8: the graft of 8,700 psi and batch 4 lost; error SS 101.70 on 14 degrees of freedom
    lost = GRAFTS.copy()
    lost[1, 3] = np.nan
    found = fit(lost)
    assert found.degrees == 14
    assert found.sd**2 * 14 == pytest.approx(101.70, abs=0.006)


@pytest.mark.parametrize("seed", range(4))
def test_incomplete_tables_equal_statsmodels(seed):
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(seed)
    data = rng.normal(size=(5, 6)) + rng.normal(size=6)
    data[rng.random((5, 6)) < 0.25] = np.nan
    expected = smf.ols("error ~ C(variant) + C(block)", tidy(data).dropna()).fit()
    found = fit(data)
    assert found.degrees == expected.df_resid
    for i in range(1, 5):
        estimate, se = found.contrast(np.eye(5)[i] - np.eye(5)[0])
        assert -estimate == pytest.approx(expected.params[f"C(variant)[T.{i}]"])
        assert se == pytest.approx(expected.bse[f"C(variant)[T.{i}]"])


@pytest.mark.parametrize(
    ("degrees", "published"),  # two-sided 5 % points for 1 to 9 comparisons; Dunnett, Biometrics 20:482, 1964
    [
        (5, [2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97]),
        (10, [2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24]),
        (20, [2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95]),
        (10**6, [1.96, 2.21, 2.35, 2.44, 2.51, 2.57, 2.61, 2.65, 2.69]),
    ],
)
def test_critical_values_of_dunnetts_table(degrees, published):
    assert [dunnett_critical(m, degrees) for m in range(1, 10)] == pytest.approx(published, abs=0.0051)


def one_way(groups) -> tuple[np.ndarray, Family]:
    """t values against the first group and their family, by the formulas of the one-way design."""
    sizes = np.array([len(group) for group in groups])
    degrees = int(sizes.sum() - len(groups))
    variance = sum((np.asarray(g) - np.mean(g)) @ (np.asarray(g) - np.mean(g)) for g in groups) / degrees
    covariance = np.diag(1 / sizes[1:]) + 1 / sizes[0]
    gaps = np.array([np.mean(group) - np.mean(groups[0]) for group in groups[1:]])
    return gaps / np.sqrt(variance * np.diag(covariance)), Family.of(covariance, degrees)


@pytest.mark.parametrize(
    ("groups", "published", "half"),  # p of R's multcomp::glht, half of its first interval: scipy/stats/tests
    [
        (BLOOD, [0.6201020, 0.0058254], (2.5564116462124 + 1.2564116462124) / 2),
        (MUCOCILIARY, [0.58317, 0.99819], (1.4598153448579 + 0.6898153448579) / 2),
    ],
)
def test_dunnetts_test_of_the_textbooks_equals_rs(groups, published, half):
    t, family = one_way(groups)
    gap = np.mean(groups[1]) - np.mean(groups[0])
    assert [family.p_value(value) for value in t] == pytest.approx(published, abs=6e-6)
    assert family.critical(0.05) * gap / t[0] == pytest.approx(half, rel=2e-4)


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (8, 3, 4, 6, 5)])
def test_family_equals_scipys_dunnett(sizes):
    rng = np.random.default_rng(1)
    control, *others = groups = [rng.normal(0.3 * i, size=n) for i, n in enumerate(sizes)]
    t, family = one_way(groups)
    expected = scipy.stats.dunnett(*others, control=control, rng=np.random.default_rng(0))
    assert [family.p_value(value) for value in t] == pytest.approx(expected.pvalue, abs=1e-4)
    low = expected.confidence_interval(0.95).low
    gaps = np.array([g.mean() - control.mean() for g in others])
    critical = (gaps - low) / (gaps / t)
    assert family.critical(0.05) == pytest.approx(critical, abs=2e-3)


def test_drawn_family_agrees_with_the_exact_one():
    exact = Family.whole(4, 8)
    correlation = np.full((4, 4), 0.5) + np.eye(4) * 0.5
    correlation[0, 1] = correlation[1, 0] = 0.5001  # no loadings make this: it is drawn
    drawn = Family.of(correlation, 8)
    assert drawn.draws is not None
    assert drawn.critical(0.05) == pytest.approx(exact.critical(0.05), abs=0.02)
    assert drawn.p_value(2.5) == pytest.approx(exact.p_value(2.5), abs=0.002)


def test_verdicts_of_the_grafts():
    # MS error 109.89 / 15 = 7.326; standard error of a difference sqrt(2 * 7.326 / 6) = 1.5627; Dunnett's
    # value for 3 comparisons on 15 degrees, 2.61 (Dunnett 1964): 4.08. Means 92.817, 91.683, 88.917, 85.767.
    analysis = compare(table(100 - GRAFTS), "a")
    assert analysis.critical == pytest.approx(2.61, abs=0.005)
    assert analysis.sd**2 == pytest.approx(7.326, abs=0.0005)
    assert [v.estimate for v in analysis.verdicts] == pytest.approx([-1.1333, -3.9, -7.05], abs=0.0001)
    assert [v.outcome for v in analysis.verdicts] == ["no evidence", "no evidence", "harm"]
    for verdict in analysis.verdicts:
        assert verdict.simultaneous[1] - verdict.estimate == pytest.approx(4.08, abs=0.01)
        assert verdict.interval[1] - verdict.estimate == pytest.approx(2.1314 * 1.5627, abs=0.001)


def test_less_error_is_a_gain_and_more_is_harm():
    rng = np.random.default_rng(5)
    errors = 20 + rng.normal(0, 0.2, (3, 6)) - np.array([[0], [2], [-2]])
    outcomes = {v.variant: v.outcome for v in compare(table(errors), "a").verdicts}
    assert outcomes == {"b": "gain", "c": "harm"}


def test_equivalent_needs_a_margin_that_the_design_can_see():
    rng = np.random.default_rng(6)
    errors = 20 + rng.normal(0, 0.2, (3, 12))
    plain = compare(table(errors), "a").verdicts[0]
    assert plain.outcome == "no evidence"
    assert compare(table(errors), "a", margin=plain.mde * 1.1).verdicts[0].outcome == "equivalent"
    blind = compare(table(errors), "a", margin=plain.mde * 0.9).verdicts[0]
    assert blind.outcome == "no evidence"
    two = compare(table(errors[:, :3]), "a", margin=0.5)  # 4 degrees of freedom
    assert two.verdicts[0].outcome == "no evidence"


def test_equivalence_tests_are_one_sided_and_simultaneous():
    # within_margin holds just above |estimate| + critical(2 alpha) * se, and not just below
    rng = np.random.default_rng(7)
    errors = 20 + rng.normal(0, 0.2, (4, 8))
    judged = compare(table(errors), "a")
    verdict = judged.verdicts[0]
    se = (verdict.simultaneous[1] - verdict.estimate) / judged.critical
    edge = abs(verdict.estimate) + dunnett_critical(3, 21, 0.10) * se
    assert compare(table(errors), "a", margin=edge * 1.001).verdicts[0].within_margin
    assert not compare(table(errors), "a", margin=edge * 0.999).verdicts[0].within_margin


def test_a_much_noisier_variant_is_judged_by_its_own_pairs():
    rng = np.random.default_rng(8)
    errors = rng.normal(0, 1, (6, 10))
    errors[2] *= 6
    analysis = compare(table(errors), "a")
    noisy = analysis.verdicts[1]
    paired = scipy.stats.ttest_rel(errors[0], errors[2]).confidence_interval(0.95)
    assert noisy.own_noise
    assert noisy.interval == pytest.approx((paired.low, paired.high))
    assert [v.own_noise for v in analysis.verdicts] == [False, True, False, False, False]
    assert any("c is over 1.5 times as noisy" in note for note in analysis.notes)


def test_grubbs_estimates_average_to_the_pooled_variance():
    found = variant_variances(GRAFTS)
    assert found.mean() == pytest.approx(109.89 / 15, abs=0.001)


def test_grubbs_finds_known_variances():
    rng = np.random.default_rng(0)
    sds = np.array([1.0, 2.0, 3.0, 0.5])
    errors = rng.normal(size=(4, 50_000)) * sds[:, None] + rng.normal(size=50_000)
    assert np.sqrt(variant_variances(errors)) == pytest.approx(sds, rel=0.06)


def test_equal_noise_equals_scipys_brown_forsythe():
    rest = residuals(GRAFTS)
    ratio, p = equal_noise(GRAFTS)
    assert p == pytest.approx(scipy.stats.levene(*rest, center="median").pvalue)
    sds = rest.std(axis=1)
    assert ratio == pytest.approx(sds.max() / sds.min())


def test_seed_correlation_of_the_textbook_and_its_interval():
    # Shrout and Fleiss 1979, table 2: 6 targets by 4 judges, ICC(3,1) = .71
    judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T
    rho, (low, high) = seed_correlation(judges)
    assert rho == pytest.approx(0.71, abs=0.005)
    # R, psych::ICC(sf): single fixed raters, 95 % 0.34 to 0.95
    assert (low, high) == pytest.approx((0.34, 0.95), abs=0.005)


def test_the_same_network_under_another_name_is_no_evidence_of_low_noise():
    rng = np.random.default_rng(9)
    errors = rng.normal(20, 0.5, (3, 5))
    doubled = np.vstack([errors, errors[0], errors[1]])
    alone, twice = compare(table(errors), "a"), compare(table(doubled), "a")
    assert twice.sd == alone.sd
    null, copy = twice.verdicts[2:]
    assert (null.outcome, null.estimate, null.same_as) == ("equivalent", 0.0, "a")
    assert (copy.same_as, copy.simultaneous) == ("b", alone.verdicts[0].simultaneous)


def test_a_gain_that_the_width_matched_host_shares_is_capacity():
    rng = np.random.default_rng(10)
    errors = 20 + rng.normal(0, 0.1, (5, 6)) - np.array([[0], [2], [2], [4], [0]])
    found = compare(
        table(errors, names=["plain", "wide", "se", "cbam", "eca"]),
        "plain",
        matched=dict.fromkeys(("se", "cbam", "eca"), "wide"),
    )
    by_name = {v.variant: v for v in found.verdicts}
    assert {name: v.capacity for name, v in by_name.items()} == {
        "wide": None,
        "se": True,
        "cbam": False,
        "eca": None,
    }
    assert by_name["cbam"].over_matched[0] == pytest.approx(2, abs=0.2)


def test_too_little_to_say_anything_is_said():
    one = compare(table([[10.0], [9.0]]), "a")
    assert one.verdicts[0].outcome == "none"
    assert one.verdicts[0].mde == math.inf
    assert one.notes == ("One seed block: nothing is known of the noise.",)
    still = compare(table([[10, 11, 12, 9], [9, 10, 11, 8]]), "a", margin=5)
    assert (still.verdicts[0].outcome, still.verdicts[0].reason) == ("none", "the runs do not vary")
    assert "do not vary beyond their blocks" in still.notes[0]


@pytest.mark.parametrize(
    ("variants", "seeds", "degrees"),  # (variants - 1) (seeds - 1)
    [(2, 3, 2), (3, 2, 2), (2, 2, 1), (2, 4, 3), (3, 3, 4)],
)
def test_below_three_degrees_of_freedom_there_is_no_interval_and_no_verdict(variants, seeds, degrees):
    rng = np.random.default_rng(variants)
    errors = 20 + rng.normal(0, 0.1, (variants, seeds))
    errors[1:] -= 5
    analysis = compare(table(errors), "a", margin=1)
    assert analysis.degrees == degrees
    for verdict in analysis.verdicts:
        if degrees < 3:
            assert (verdict.outcome, verdict.p, verdict.mde) == ("none", 1.0, math.inf)
            assert verdict.simultaneous == verdict.interval == (-math.inf, math.inf)
            assert verdict.reason == "under 3 degrees of freedom"
        else:
            assert verdict.outcome == "gain"
    if variants == 2:  # of three, one may be set apart as noisy, and then has three pairs
        pair = contrasts(table(errors), [("a", "b")])[0]
        assert math.isfinite(pair.interval[0]) == (degrees >= 3)


def test_a_noisy_variant_has_no_interval_from_three_pairs():
    """Its own pairs are three, which is two degrees of freedom; the others share their noise."""
    errors = 20 + np.random.default_rng(4).normal(0, 0.1, (6, 3))
    errors[2] += [8, -7, 9]
    found = {v.variant: v for v in compare(table(errors), "a").verdicts}
    assert found["c"].outcome == "none"
    assert found["c"].simultaneous == (-math.inf, math.inf)
    assert math.isfinite(found["b"].simultaneous[0])


def test_intervals_of_differences_stay_between_minus_100_and_100_points():
    # gaps of 90, 95, 99, 60: mean 86, sd 17.6, t(3) 3.18: 86 +- 28
    gaps = np.array([90.0, 95.0, 99.0, 60.0])
    verdict = compare(table([gaps, np.zeros(4)]), "a").verdicts[0]
    half = scipy.stats.t.ppf(0.975, 3) * gaps.std(ddof=1) / 2
    assert verdict.interval == pytest.approx((86 - half, 100.0))
    assert verdict.simultaneous[1] == 100.0
    assert contrasts(table([gaps, np.zeros(4)]), [("a", "b")])[0].interval[0] == -100.0


def test_variants_near_chance_level_have_no_verdict_and_say_nothing_of_the_noise():
    """Of two classes 50 % is guessed; from 45 % on nothing has been learned. c guesses, and far from evenly."""
    learned = np.array([[20.1, 19.7, 20.4, 20.0], [15.2, 14.8, 15.1, 15.3]])
    guessed = np.array([[50.0, 40.0, 58.0, 47.0]])
    alone = compare(table(learned), "a", guessing=50.0)
    judged = compare(table(np.vstack([learned, guessed])), "a", guessing=50.0)
    assert judged.sd == alone.sd
    assert judged.verdicts[0] == alone.verdicts[0]
    assert judged.verdicts[0].outcome == "gain"
    assert (judged.verdicts[1].outcome, judged.verdicts[1].reason) == ("none", "near chance level")
    assert judged.verdicts[1].simultaneous == (-math.inf, math.inf)
    assert judged.verdicts[1].estimate == pytest.approx(20.05 - 48.75)
    ten = compare(table(np.vstack([learned, guessed])), "a", guessing=90.0)  # 48.75 is far from 90
    assert ten.verdicts[1].outcome != "none"


def test_beside_a_baseline_near_chance_level_nothing_has_a_verdict():
    errors = np.array([[46.1, 45.9, 46.3, 45.7], [33.7, 33.0, 34.1, 33.5], [20.0, 20.4, 19.9, 20.1]])
    judged = compare(table(errors), "a", margin=1.0, guessing=50.0)
    assert [v.outcome for v in judged.verdicts] == ["none", "none"]
    assert all(v.interval == v.simultaneous == (-math.inf, math.inf) for v in judged.verdicts)
    assert [v.estimate for v in judged.verdicts] == pytest.approx([46.0 - 33.575, 46.0 - 20.1])
    assert math.isnan(judged.sd)


def test_variants_that_share_no_block_are_left_out_by_name():
    nan = np.nan
    errors = [[10, 11, nan, nan], [9, 10.5, nan, nan], [nan, nan, 8, 9], [nan, 10, nan, nan]]
    found = compare(table(errors), "a")
    assert [v.variant for v in found.verdicts] == ["b", "d"]
    assert "Left out, since no chain of shared seed blocks joins them to the baseline: c." in found.notes
    with pytest.raises(NoResultError, match="share no seed block"):
        fit(errors)
    with pytest.raises(NoResultError, match="together with the baseline 'c'"):
        compare(table(errors), "c")
    with pytest.raises(NoResultError, match="'c' and 'a' share no chain"):
        contrasts(table(errors), [("a", "b"), ("b", "c")])


def test_unknown_names_and_margins():
    with pytest.raises(UsageError, match=r"No variant 'plian' in the table\. Did you mean 'plain'"):
        compare(table(GRAFTS, names=["plain", "se", "eca", "cbam"]), "plian")
    with pytest.raises(UsageError, match="margin must be above 0"):
        compare(table(GRAFTS), "a", margin=0)
    with pytest.raises(UsageError, match="no column 'block'"):
        Table.of(pd.DataFrame({"variant": ["a"], "error": [1.0]}))


def test_table_of_rows_keeps_the_last_and_marks_failures():
    rows = [("a", 1, 5.0), ("a", 0, 4.0), ("b", 0, math.inf), ("a", 1, 6.0), ("b", 1, 7.0)]
    found = Table.of(pd.DataFrame(rows, columns=["variant", "block", "error"]))
    assert (found.variants, found.blocks) == (("a", "b"), (0, 1))
    np.testing.assert_array_equal(found.errors, [[4, 6], [np.nan, 7]])


def test_table_of_trials_takes_complete_runs_of_named_archs():
    def trial(key, seed, error, state="complete"):
        return TrialResult(key, key, seed, 8, state, error=error, role="design")

    rows = [trial("k1", 0, 5.0), trial("k2", 1, 4.0), trial("k2", 0, None, "failed"), trial("k3", 0, 1.0)]
    found = Table.of_trials(rows, {"k1": "plain", "k2": "se"})
    assert (found.variants, found.blocks) == (("plain", "se"), (0, 1))
    np.testing.assert_array_equal(found.errors, [[5, np.nan], [np.nan, 4]])


def test_holm_by_pencil():
    # sorted .005 .01 .03 .04 times 4 3 2 1, made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_contrasts_over_any_pairs():
    (one, other) = contrasts(table(100 - GRAFTS), [("b", "c"), ("d", "a")])
    assert (one.name, one.estimate, other.estimate) == (
        "b over c",
        pytest.approx(16.6 / 6),
        pytest.approx(-7.05),
    )
    t = 7.05 / math.sqrt(2 * 109.89 / 15 / 6)
    assert other.p == pytest.approx(2 * scipy.stats.t.sf(t, 15), rel=1e-3)
    assert other.p_holm == pytest.approx(2 * other.p)


def settings(count: int, sites: str) -> dict[str, dict[str, str]]:
    """Runs of the full two-level design in standard order: the first site changes fastest."""
    return {str(i): {site: "+" if i >> j & 1 else "-" for j, site in enumerate(sites)} for i in range(count)}


def test_effects_of_the_textbook_factorial():
    # Montgomery, table 6.12: A 21.625, B 3.125, C 9.875, D 14.625, AC -18.125, AD 16.625, ...
    accuracy = np.array(FILTRATION, dtype=float)[:, None]
    runs = settings(16, "ABCD")
    found = {e.name: e.estimate for e in factor_effects(Table(tuple(runs), (0,), -accuracy), runs)}
    published = {
        "A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625, "A x B": 0.125, "A x C": -18.125,
        "A x D": 16.625, "B x C": 2.375, "B x D": -0.375, "C x D": -1.125,
    }  # fmt: skip
    assert found == pytest.approx(published)


def test_effects_and_aliases_of_the_textbook_half_fraction():
    # Montgomery 8.2, the half I = ABCD; [A] 19.00, [B] 1.50, [C] 14.00, [D] 16.50, [AB] -1.00 with CD,
    # [AC] -18.50 with BD, [AD] 19.00 with BC
    runs = {name: run for name, run in settings(16, "ABCD").items() if list(run.values()).count("+") % 2 == 0}
    accuracy = np.array([FILTRATION[int(name)] for name in runs], dtype=float)[:, None]
    effects = factor_effects(Table(tuple(runs), (0,), -accuracy), runs)
    assert {e.name: (round(e.estimate, 9), e.aliases) for e in effects} == {
        "A": (19.0, ()), "B": (1.5, ()), "C": (14.0, ()), "D": (16.5, ()),
        "A x B": (-1.0, ("C x D",)), "A x C": (-18.5, ("B x D",)), "A x D": (19.0, ("B x C",)),
    }  # fmt: skip


def test_effects_equal_statsmodels_with_replicates():
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(2)
    runs = settings(8, "XYZ")
    errors = rng.normal(size=(8, 4)) + rng.normal(size=4)
    frame = tidy(errors)
    for site in "XYZ":
        frame[site] = [1 if runs[v][site] == "+" else -1 for v in frame["variant"]]
    expected = smf.ols("error ~ X * Y * Z + C(block)", frame).fit()
    for effect in factor_effects(Table(tuple(runs), tuple(range(4)), errors), runs):
        name = effect.name.replace(" x ", ":")
        assert effect.estimate == pytest.approx(-2 * expected.params[name])
        assert effect.p == pytest.approx(expected.pvalues[name])


def test_three_options_have_no_main_effect():
    runs = {"a": {"s": "x"}, "b": {"s": "y"}, "c": {"s": "z"}}
    with pytest.raises(UsageError, match="Site 's' has 3 options"):
        factor_effects(table(GRAFTS[:3]), runs)
