from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from attnsearch.core.choices import PRUNERS
from attnsearch.core.errors import UsageError
from attnsearch.sample import pruners
from attnsearch.sample.mo_asha import priorities
from attnsearch.sample.pareto_at_rung import ParetoAtRung, reservation
from attnsearch.sample.pruners import make_pruner
from attnsearch.statistics.false_stops import Run, Tally, audit

PAR = ParetoAtRung(audited=0.0)
RUNGS = (50.0, 46.0, 49.0, 45.0, 48.0, 44.0, 47.0, 43.0)


def complete(count=8):
    """Trials of cost 1, 2, ...: final = rung - 10 with residuals of half a point."""
    return [
        Run(f"c{i}", (1.0 + i,), (RUNGS[i],), RUNGS[i] - 10 + 0.5 * (-1) ** (i // 2)) for i in range(count)
    ]


CASES = {  # costs, error at the rung, share of the epochs spent there, stop?  Best there: 45 at cost 4, 44 at cost 6
    "clearly dominated": ((5.0,), 48.0, 0.1, True),
    "dominated by little, where another try is cheap": ((5.0,), 45.1, 0.1, True),
    "the same, where another try costs as much as going on": ((5.0,), 45.1, 0.9, False),
    "worse than half of all, though cheapest": ((0.5,), 60.0, 0.1, True),
    "not dominated": ((2.0,), 45.5, 0.001, False),
    "best of all": ((9.0,), 40.0, 0.1, False),
}


def decide(runs, costs, error, *, share=0.1, rung=0, key="x", pruner=PAR, protected=False):
    return pruner.decide(rung, costs, error, runs, key=key, share=share, protected=protected)


@pytest.mark.parametrize("case", CASES)
def test_par_on_pencil_cases(case):
    costs, error, share, stop = CASES[case]
    assert decide(complete(), costs, error, share=share).stop is stop
    assert not decide(complete(), costs, error, share=share, protected=True).stop
    assert not decide(complete(5), costs, error, share=share).stop  # calibration
    assert not decide(complete(), costs, error, share=share, rung=1).stop  # nobody at this rung


@pytest.mark.parametrize("share", [0.05, 0.25, 0.6])
def test_the_reservation_value_is_the_best_threshold(share):
    """Of all thresholds it gains most per training: what is gained and what is spent, summed over the draws."""
    gains = np.random.default_rng(2).exponential(size=200)

    def rate(threshold):
        kept = gains[gains >= threshold]
        return kept.sum() / (len(gains) * share + len(kept) * (1 - share))

    g = reservation(gains, share)
    assert rate(g) == pytest.approx(max(map(rate, gains)))
    assert g == pytest.approx(rate(g) * (1 - share))


def test_what_is_foretold_is_said():
    """The line by the normal equations; the gain by quadrature over the doubt, cost by cost."""
    runs, error, cost, share = complete(), 48.0, 5.0, 0.1
    rung, final = np.array([(run.rungs[0], run.error) for run in runs]).T
    (slope, offset), *_ = np.linalg.lstsq(np.column_stack([rung, np.ones(8)]), final, rcond=None)
    sd = math.sqrt(((final - slope * rung - offset) ** 2).sum() / 6)
    limit = slope * np.median([*rung, error]) + offset

    def gain(at, price):
        steps = [*sorted({price, *(run.costs[0] for run in runs if run.costs[0] > price)}), 8.0 * 1.02]
        total = 0.0
        for start, end in itertools.pairwise(steps):
            level = min([limit, *(run.error for run in runs if run.costs[0] <= start)])
            mean = slope * at + offset
            below = quad(lambda y: (level - y) * norm.pdf(y, mean, sd), mean - 10 * sd, level)[0]  # noqa: B023
            total += math.log10(end / start) * below
        return total

    asked = reservation(np.array([gain(run.rungs[0], run.costs[0]) for run in runs]), share)
    said = decide(runs, (cost,), error, share=share).reason
    assert f"predicts {slope * error + offset:.2f} % (sd {sd:.2f})" in said
    assert f"{100 * gain(error, cost) / asked:.0f} % of the gain" in said


@pytest.mark.parametrize(("spread", "stops"), [(1.0, True), (0.02, False)])
def test_a_rung_near_chance_stops_nobody(spread, stops):
    """Trials that all stand near 90 % after one epoch, hundredths of what will part them: the line is all doubt."""
    random = np.random.default_rng(4)
    final = random.uniform(30, 50, 12)
    rung = 90 + spread * (final - 40) + random.normal(0, 2, 12)
    others = [
        Run(str(i), (1.0,), (float(r),), float(f)) for i, (r, f) in enumerate(zip(rung, final, strict=True))
    ]
    assert decide(others, (1.0,), float(np.median(rung)) + 2).stop is stops


def test_stopped_and_running_trials_are_rivals_too():
    """At 45 %, best of the complete ones of no more cost, an arch goes on unless a stopped one stood lower."""
    assert not decide(complete(), (5.0,), 44.9, share=0.001).stop
    lower = [Run("running", (5.0,), (40.0,)), Run("stopped", (4.0,), (39.0,), stopped=True)]
    assert decide([*complete(), *lower], (5.0,), 44.9, share=0.001).stop


def test_an_arch_goes_on_for_any_of_its_costs():
    """Two costs: dominated in the first one alone, an arch that is the cheapest by the second goes on."""
    runs = [Run(run.key, (*run.costs, 5.0), run.rungs, run.error) for run in complete()]
    assert decide(runs, (5.0, 5.0), 46.5, share=0.001).stop
    assert not decide(runs, (5.0, 4.0), 46.5, share=0.001).stop


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(9, (1, 3)), (8, (1, 3)), (30, (4, 10)), (4, (1, 2)), (3, ()), (1, ())]
)
def test_rungs(epochs, rungs):
    assert ParetoAtRung().rungs(epochs) == rungs
    assert make_pruner("one-epoch").rungs(epochs) == ((1,) if epochs > 1 else ())
    assert make_pruner("none").rungs(epochs) == ()


@pytest.mark.parametrize(("informative", "bounds"), [(True, (0.95, 1.0)), (False, (0.0, 0.1))])
def test_trust_gate(informative, bounds):
    """25 complete trials: a rung that ranks (tau given cost near 0.6) stays on, a permuted one goes off."""
    on = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        cost = random.uniform(1, 3, 25)
        final = 20 - 3 * cost + random.normal(0, 2, 25)
        rung = final + 20 + random.normal(0, 1.2, 25)
        rung = rung if informative else random.permutation(rung)
        on.append(ParetoAtRung(seed).trust(np.column_stack([rung, final, cost])) > 0)
    assert bounds[0] <= np.mean(on) <= bounds[1]


def test_an_untrusted_rung_stops_nobody():
    random = np.random.default_rng(3)
    others = [Run(str(i), (random.uniform(),), (random.uniform(),), random.uniform()) for i in range(25)]
    decision = decide(others, (1.0,), 9.0)
    assert (decision.stop, "not trusted" in decision.reason) == (False, True)


def test_the_audit_lets_one_stop_in_twenty_run_and_always_the_same():
    pruner = ParetoAtRung(seed=1)
    decisions = [decide(complete(), (5.0,), 60.0, key=str(i), pruner=pruner) for i in range(2000)]
    again = [decide(complete(), (5.0,), 70.0, key=str(i), pruner=pruner) for i in range(50)]
    assert [d.audited for d in decisions[:50]] == [d.audited for d in again]
    assert all(d.stop is not d.audited for d in decisions)
    assert 70 <= sum(d.audited for d in decisions) <= 130  # 100 expected, sd 9.7


def test_the_audit_takes_no_more_than_one_complete_training_in_twenty():
    pruner, runs = ParetoAtRung(audited=0.2), [*complete(), Run("a", (5.0,), (60.0,), 50.0, audited=True)]
    audited = [decide(runs, (5.0,), 60.0, key=str(i), pruner=pruner).audited for i in range(100)]
    assert any(audited)  # one of nine
    runs.append(Run("b", (5.0,), (60.0,), 50.0, audited=True))
    assert not any(decide(runs, (5.0,), 60.0, key=str(i), pruner=pruner).audited for i in range(100))


def test_audit_counts_false_stops_with_their_interval():
    front = [Run("a", (1.0,), (), 10.0, options=("none",)), Run("b", (2.0,), (), 8.0, options=("se",))]
    checked = [
        Run("c", (2.0,), (), 8.5, audited=True, options=("se",)),  # within 1 of the front
        Run("d", (3.0,), (), 12.0, audited=True, options=("se", "se")),
        Run("e", (1.5,), (), 14.0, audited=True, options=("none",)),
    ]
    found, options = audit([*front, *checked, Run("f", (2.0,), stopped=True, options=("se",))], sd=1.0)
    assert found == Tally(trials=6, stopped=1, audited=3, false=1)
    # Clopper-Pearson for 1 of 3: 0.0084 .. 0.9057 (tables)
    assert (found.rate, *found.interval) == pytest.approx((1 / 3, 0.0084, 0.9057), abs=1e-4)
    assert options == {"none": Tally(2, 0, 1, 0), "se": Tally(4, 1, 2, 1)}
    nothing, _ = audit(front, sd=1.0)
    assert (nothing.rate, nothing.interval) == (None, (0.0, 1.0))


def test_moasha_ranks_by_layers():
    points = np.array([[3.0, 3.0], [1.0, 2.0], [2.0, 1.0], [4.0, 4.0], [1.5, 1.5]])
    ranks = priorities(points)
    assert sorted(ranks[[1, 2, 4]]) == [0, 1, 2]  # mutually non-dominated
    assert (ranks[0], ranks[3]) == (3, 4)


def test_moasha_stops_the_dominated_and_keeps_the_front():
    """A rule that confuses order with rank stops good and bad alike."""
    random = np.random.default_rng(5)
    others = [Run(str(i), (random.uniform(),), (random.uniform(),)) for i in range(60)]
    pruner = make_pruner("moasha")
    assert not decide(others, (0.5,), -0.1, pruner=pruner).stop
    assert decide(others, (0.9,), 0.95, pruner=pruner).stop
    stops = [decide(others, (random.uniform(),), random.uniform(), pruner=pruner).stop for _ in range(300)]
    assert 0.55 < np.mean(stops) < 0.78


def test_unknown_pruner():
    assert not decide(complete(), (1.0,), 99.0, pruner=make_pruner("none")).stop
    assert list(pruners.PRUNERS) == list(
        PRUNERS
    )  # names are known before anything that makes one is imported
    with pytest.raises(UsageError, match="Did you mean 'moasha'"):
        make_pruner("moash")
