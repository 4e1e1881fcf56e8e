"""The audit of a proxy against scipy, pencil and planted cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics.proxy import audit, kendall, spearman
from attnsearch.statistics.proxy_pairs import Pair, choose, pairs


def made(n: int, *, seed: int, noise: float, follow: float = 1.0, repeats: int = 1) -> list[Pair]:
    """Archs whose long error falls with cost, and whose short error follows the rest of it."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(1, 10, n)
    own = rng.normal(0, 1, n)
    long = 30 - 0.3 * cost + own
    short = 45 - 0.3 * cost + follow * own + rng.normal(0, noise, n)
    return [
        Pair(str(i), cost[i], (short[i],), tuple(long[i] + rng.normal(0, 0.05, repeats))) for i in range(n)
    ]


def test_tau_equals_scipys_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 6, 20), rng.integers(0, 6, 20)
        assert kendall(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic)


def test_partial_tau_is_kendalls_formula():
    found = made(30, seed=1, noise=1.0)
    short, long, cost = ([getattr(p, f) for p in found] for f in ("short", "long", "cost"))
    short, long = [value[0] for value in short], [value[0] for value in long]
    xy, xz, yz = (
        scipy.stats.kendalltau(a, b).statistic for a, b in ((short, long), (short, cost), (long, cost))
    )
    judged = audit(found, draws=50)
    assert judged.tau == pytest.approx(xy)
    assert judged.partial_tau == pytest.approx((xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2)))
    assert judged.cost_tau == pytest.approx(-yz)


def test_a_good_proxy_is_trusted_and_a_blind_one_is_not():
    good = audit(made(30, seed=2, noise=0.2))
    assert good.verdict == "trust"
    assert good.partial_interval[0] > 0.2
    blind = audit(made(30, seed=2, noise=1.0, follow=0.0))
    assert blind.verdict == "do not trust"
    assert not blind.beats_cost


def test_a_proxy_with_costly_misses_needs_re_evaluation():
    found = made(30, seed=3, noise=1.0)
    stretched = [
        Pair(p.key, p.cost, p.short, tuple(5 * e for e in p.long)) for p in found
    ]  # five times the points
    judged = audit(stretched)
    assert judged.beats_cost
    assert judged.regret_3_interval[1] > 0.5
    assert judged.verdict == "use with re-evaluation"


def test_a_proxy_that_hardly_beats_cost_is_not_yet_trusted():
    judged = audit(made(30, seed=3, noise=2.5))
    assert 0 < judged.partial_interval[0] < 0.2
    assert judged.regret_3_interval[1] <= 0.5
    assert judged.verdict == "use with re-evaluation"


def test_regret_by_pencil():
    # two bands of five by cost; short ranks the best arch fourth in the first band and first in the second
    short = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    long = [12, 13, 11, 10, 14, 7, 8, 9, 10, 11]
    found = [Pair(str(i), i, (s,), (e,)) for i, (s, e) in enumerate(zip(short, long, strict=True))]
    judged = audit(found, draws=50)
    assert (judged.bands, judged.regret_1, judged.regret_3) == (
        2,
        pytest.approx((2 + 0) / 2),
        pytest.approx((1 + 0) / 2),
    )


def test_the_ceiling_falls_with_the_noise_of_long_runs():
    quiet = audit(made(30, seed=4, noise=0.2, repeats=2), draws=50)
    assert quiet.run_sd == pytest.approx(0.05, rel=0.4)
    assert 0.9 < quiet.ceiling < 1.0
    assert audit(made(30, seed=4, noise=0.2), draws=50).ceiling is None


def test_front_kept_by_pencil():
    # long front: archs 0, 2, 5 (10 > 9 > 8); short has 2 far above its cheaper rival, so 2 of 3 are kept
    short, long = [5.0, 5.1, 9.0, 9.5, 9.6, 4.0, 9.9, 9.9], [10.0, 10.5, 9.0, 11.0, 11.0, 8.0, 12.0, 12.0]
    found = [Pair(str(i), i, (s,), (e,)) for i, (s, e) in enumerate(zip(short, long, strict=True))]
    assert audit(found, draws=50).front_kept == pytest.approx(2 / 3)


def test_choice_is_even_over_cost_and_short_error():
    rng = np.random.default_rng(5)
    cost, short = rng.uniform(size=360), rng.normal(size=360)
    chosen = choose(cost, short, 36)
    assert len(set(chosen)) == 36
    band = scipy.stats.rankdata(cost)[chosen] // 60.001
    assert np.bincount(band.astype(int)).tolist() == [6] * 6
    assert choose(cost, short, 30) == choose(cost, short, 30)
    assert len(choose(cost, short, 30)) == 30
    assert choose([1, 2, math.nan], [3, 4, 5], 30) == [0, 1]


def test_pairs_join_the_short_trial_and_the_audit_of_an_arch():
    def trial(number, key, epochs, error, role, state="complete"):
        return TrialResult(
            key, key, 0, epochs, state, number=number, error=error, role=role, costs={"macs": 5.0}
        )

    found = pairs(
        [
            trial(0, "a", 4, 50.0, "search"),
            trial(5, "a", 4, 51.0, "confirm"),
            trial(6, "a", 40, 30.0, "audit"),
            trial(7, "a", 40, 31.0, "audit"),
            trial(8, "b", 40, 31.0, "audit"),
            trial(9, "c", 4, 50.0, "search"),
            trial(10, "c", 40, None, "audit", "failed"),
        ],
        "macs",
    )
    assert found == [Pair("a", 5.0, (50.0,), (30.0, 31.0))]
    with pytest.raises(UsageError, match="no cost 'latency'"):
        pairs([trial(0, "a", 4, 50.0, "search"), trial(1, "a", 40, 3.0, "audit")], "latency")


def test_too_few_archs_are_refused():
    with pytest.raises(NoResultError, match="needs 8 archs trained short and long, there are 3"):
        audit(made(3, seed=0, noise=0.1))


def test_spearman_equals_scipys_with_ties():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 6, 20), rng.integers(0, 6, 20)
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0.0


def test_a_perfect_proxy_reaches_its_ceiling_in_the_mean_and_no_more():
    # true errors in one order short and long, two seeds each: the measured tau and rho are what such a proxy shows
    taus, ceilings, rhos, rho_ceilings = [], [], [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        true = rng.normal(0, 2, 24)
        found = [
            Pair(
                str(i), float(i), tuple(40 + 3 * t + rng.normal(0, 3, 2)), tuple(20 + t + rng.normal(0, 1, 2))
            )
            for i, t in enumerate(true)
        ]
        judged = audit(found, draws=20)
        taus.append(judged.tau)
        ceilings.append(judged.ceiling)
        rhos.append(judged.spearman)
        rho_ceilings.append(judged.spearman_ceiling)
        assert judged.spread == pytest.approx(2, rel=0.6)
    assert np.mean(ceilings) == pytest.approx(np.mean(taus), abs=0.03)
    assert np.mean(rho_ceilings) == pytest.approx(np.mean(rhos), abs=0.03)
    assert np.mean(ceilings) < 0.9


def test_several_short_seeds_are_averaged_free_of_what_their_seed_does_to_all():
    def trial(number, key, seed, epochs, error, role):
        return TrialResult(
            key, key, seed, epochs, "complete", number=number, error=error, role=role, costs={"macs": 5.0}
        )

    rows = [
        trial(0, "a", 0, 4, 10.0, "search"),
        trial(1, "b", 0, 4, 12.0, "search"),
        trial(2, "a", 7, 4, 20.0, "audit"),  # the second seed errs by 10 points more
        trial(3, "b", 7, 4, 22.0, "audit"),
        trial(4, "a", 9, 4, 99.0, "report"),  # judged on other images
        trial(5, "a", 8, 16, 1.0, "audit"),
        trial(6, "b", 8, 16, 2.0, "audit"),
    ]
    assert pairs(rows, "macs", seeds=2) == [
        Pair("a", 5.0, (10.0, 10.0), (1.0,)),
        Pair("b", 5.0, (12.0, 12.0), (2.0,)),
    ]
    assert pairs(rows, "macs") == [Pair("a", 5.0, (10.0,), (1.0,)), Pair("b", 5.0, (12.0,), (2.0,))]
