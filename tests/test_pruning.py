from __future__ import annotations

import numpy as np
import pytest

from attnsearch.errors import UsageError
from attnsearch.pruning import PRUNERS, ParetoAtRung, Run, Tally, audit, make_pruner, priorities

RUNGS = (50.0, 46.0, 49.0, 45.0, 48.0, 44.0, 47.0, 43.0)


def complete(count=8):
    """Trials of cost 1, 2, ...: final = rung - 10 with residuals of half a point."""
    return [Run(f"c{i}", 1.0 + i, (RUNGS[i],), RUNGS[i] - 10 + 0.5 * (-1) ** (i // 2)) for i in range(count)]


CASES = {  # cost, error at the rung, stop?  Best at no more cost: 45 at cost 5, 50 at cost 1; slack 0.27
    "clearly dominated": (5.0, 47.0, True),
    "within the slack of half an sd": (5.0, 45.2, False),
    "just beyond the slack": (5.0, 45.4, True),
    "worse, but cheaper than all": (0.5, 60.0, False),
    "equal cost counts": (1.0, 51.0, True),
    "best of all": (9.0, 40.0, False),
}


@pytest.mark.parametrize("case", CASES)
def test_par_on_pencil_cases(case):
    cost, error, stop = CASES[case]
    pruner = ParetoAtRung(audited=0.0)
    assert pruner.decide(0, cost, error, complete(), key="x").stop is stop
    assert not pruner.decide(0, cost, error, complete(), key="x", protected=True).stop
    assert not pruner.decide(0, cost, error, complete(7), key="x").stop  # calibration
    assert not pruner.decide(1, cost, error, complete(), key="x").stop  # nobody at this rung


def test_slack_is_half_the_residual_sd_on_the_scale_of_the_rung():
    """Least squares by the normal equations; the stated slack is sd / slope / 2, the best at cost 5 is 45."""
    rung, final = np.array([(run.rungs[0], run.error) for run in complete()]).T
    design = np.column_stack([rung, np.ones(8)])
    line = np.linalg.lstsq(design, final, rcond=None)[0]
    sd = np.sqrt(((final - design @ line) ** 2).sum() / 6)
    decision = ParetoAtRung(audited=0.0).decide(0, 5.0, 47.0, complete(), key="x")
    assert f"had 45.00 % (slack {sd / line[0] / 2:.2f})" in decision.reason


@pytest.mark.parametrize(("share", "stops"), [(1.0, True), (0.02, False)])
def test_a_rung_near_chance_stops_nobody(share, stops):
    """Trials that all stand near 90 % after one epoch, hundredths of what will part them: the line is all doubt."""
    random = np.random.default_rng(4)
    final = random.uniform(30, 50, 12)
    rung = 90 + share * (final - 40) + random.normal(0, 2, 12)
    others = [
        Run(str(i), 1.0, (float(r),), float(f)) for i, (r, f) in enumerate(zip(rung, final, strict=True))
    ]
    assert ParetoAtRung(audited=0.0).decide(0, 1.0, float(np.median(rung)), others, key="x").stop is stops


def test_stopped_and_running_trials_are_rivals_too():
    others = [*complete(), Run("running", 5.0, (40.0,)), Run("stopped", 4.0, (39.0,), stopped=True)]
    assert ParetoAtRung(audited=0.0).decide(0, 5.0, 44.5, others, key="x").stop


@pytest.mark.parametrize(("epochs", "rungs"), [(9, (1, 3)), (8, (1, 3)), (30, (4, 10)), (2, (1,)), (1, ())])
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
    others = [Run(str(i), random.uniform(), (random.uniform(),), random.uniform()) for i in range(25)]
    decision = ParetoAtRung(audited=0.0).decide(0, 1.0, 9.0, others, key="x")
    assert (decision.stop, "not trusted" in decision.reason) == (False, True)


def test_the_audit_lets_one_stop_in_twenty_run_and_always_the_same():
    decisions = [ParetoAtRung(seed=1).decide(0, 5.0, 60.0, complete(), key=str(i)) for i in range(2000)]
    assert [d.audited for d in decisions[:50]] == [
        ParetoAtRung(seed=1).decide(0, 5.0, 70.0, complete(), key=str(i)).audited for i in range(50)
    ]
    assert all(d.stop is not d.audited for d in decisions)
    assert 70 <= sum(d.audited for d in decisions) <= 130  # 100 expected, sd 9.7


def test_audit_counts_false_stops_with_their_interval():
    front = [Run("a", 1.0, (), 10.0, options=("none",)), Run("b", 2.0, (), 8.0, options=("se",))]
    checked = [
        Run("c", 2.0, (), 8.5, audited=True, options=("se",)),  # within 1 of the front
        Run("d", 3.0, (), 12.0, audited=True, options=("se", "se")),
        Run("e", 1.5, (), 14.0, audited=True, options=("none",)),
    ]
    found, options = audit([*front, *checked, Run("f", 2.0, stopped=True, options=("se",))], sd=1.0)
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
    others = [Run(str(i), *random.uniform(0, 1, 1), (random.uniform(),)) for i in range(60)]
    pruner = make_pruner("moasha", eta=3.0)
    assert not pruner.decide(0, 0.5, -0.1, others, key="x").stop
    assert pruner.decide(0, 0.9, 0.95, others, key="x").stop
    stops = [pruner.decide(0, *random.uniform(0, 1, 2), others, key="x").stop for _ in range(300)]
    assert 0.55 < np.mean(stops) < 0.78


def test_unknown_pruner():
    assert not make_pruner("none").decide(0, 1.0, 99.0, complete(), key="x").stop
    assert set(PRUNERS) == {"par", "moasha", "one-epoch", "none"}
    with pytest.raises(UsageError, match="Did you mean 'moasha'"):
        make_pruner("moash")
