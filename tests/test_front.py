"""The front against pencil and brute force, its probabilities against the normal integral."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnsearch.core.errors import UsageError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics import front, front_probability
from attnsearch.statistics.arch_runs import ArchRuns, gather
from attnsearch.statistics.front import Status, assess, membership, tied_with_best
from attnsearch.statistics.next_runs import next_runs
from attnsearch.statistics.pareto import hypervolume, pareto


def brute_force(points: np.ndarray) -> np.ndarray:
    return np.array([not any((q <= p).all() and (q < p).any() for q in points) for p in points])


@given(
    st.integers(1, 4).flatmap(
        lambda m: arrays(float, st.tuples(st.integers(1, 25), st.just(m)), elements=st.integers(0, 5))
    )
)
def test_pareto_equals_the_definition(points):
    assert (pareto(points) == brute_force(points)).all()


def test_pareto_leaves_out_what_is_not_finite():
    mask = pareto([[1, np.nan], [-np.inf, 0], [2, 2], [2, 2], [3, 1], [3, 3]])
    assert mask.tolist() == [False, False, True, True, True, False]


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [  # by pencil
        ([[1, 3], [2, 2], [3, 1]], [4, 4], 6.0),
        ([[3, 1], [1, 4], [2, 2], [2, 3]], [4, 5], 8.0),  # widths 1 1 1, heights 1 3 4
        ([[1, 3], [2, 2], [3, 1], [3, 3]], [4, 4], 6.0),  # a dominated point adds nothing
        ([[5, 0]], [4, 4], 0.0),
        ([[1, 1, 1], [0, 2, 2]], [3, 3, 3], 9.0),  # 8 + 3 - 2
        ([[1.0], [2.0]], [4.0], 3.0),
    ],
)
def test_hypervolume_by_pencil(points, reference, volume):
    assert hypervolume(points, reference) == pytest.approx(volume)


@given(
    st.integers(2, 4).flatmap(
        lambda m: arrays(float, st.tuples(st.integers(1, 8), st.just(m)), elements=st.integers(0, 4))
    )
)
def test_hypervolume_equals_counted_unit_cells(points):
    m = points.shape[1]
    corners = np.stack(np.meshgrid(*[np.arange(5)] * m, indexing="ij"), axis=-1).reshape(-1, m)
    covered = (points[None] <= corners[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points, [5] * m) == pytest.approx(covered)


def test_shapes_that_do_not_fit_say_so():
    with pytest.raises(UsageError, match="2 objectives, the reference 3"):
        hypervolume([[1, 2]], [1, 2, 3])
    with pytest.raises(UsageError, match=r"\(n, objectives\)"):
        pareto([1, 2, 3])


def drawn(means: list[float], runs: int, costs: list[float], draws: int = 20_000) -> np.ndarray:
    """P(front) of archs with so many runs each, of these means and sd 1 around them."""
    noise = np.random.default_rng(0).standard_normal((len(means), runs))
    noise = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, ddof=1, keepdims=True)
    errors = np.array(means)[:, None] + noise
    number = np.arange(len(means)).repeat(runs)
    given = front_probability.Runs(
        arch=number,
        seed=np.zeros_like(number),
        images=np.zeros_like(number),
        errors=errors.ravel(),
        costs=np.array(costs),
    )
    return membership(front_probability.draw(given, draws, np.random.default_rng(1)), np.array(costs))


def test_with_many_runs_the_probability_is_the_normal_one():
    # P(costlier is better) = Phi(-d / (s sqrt(2 / n))): d = 0.1 s, n = 400: Phi(-1.4142) = 0.0786. Four archs far off
    # from each other leave the spread of the archs wide open, and so the two nearly as their own means put them
    p = drawn([30.0, 10.0, 10.1, 50.0], 400, [1.0, 2.0, 3.0, 4.0])
    assert p[:2] == pytest.approx([1.0, 1.0])
    assert p[2] == pytest.approx(0.0786, abs=0.006)
    assert p[3] == 0


def test_draws_in_parts_are_as_many_and_say_the_same(monkeypatch):
    runs = [arch(f"a{i}", 10.0 + i, [20.0 + i % 3, 20.5 + i % 3]) for i in range(8)]
    whole = [row.p_front for row in assess(runs)]
    monkeypatch.setattr(front_probability, "BATCH", 80)  # ten draws of the eight archs at once
    parts = [row.p_front for row in assess(runs)]
    assert parts == pytest.approx(whole, abs=0.02)  # four Monte-Carlo sds of a difference
    monkeypatch.setattr(front, "MOST_DRAWN", 8 * 40)
    few = [row.p_front for row in assess(runs)]
    assert {p * 40 % 1 for p in few} == {0.0}, "forty draws each"


def test_equal_costs_are_rivals_and_share_the_front():
    assert drawn([10.0, 10.0, 10.0], 4, [5.0, 5.0, 5.0]) == pytest.approx([1 / 3] * 3, abs=0.015)


def test_the_best_of_many_equal_archs_is_not_on_the_front_for_sure():
    # one run each, and ten of one arch that tell the noise: by itself the lowest of 60 lies 2.3 sds below the mean
    rng = np.random.default_rng(5)
    archs = [arch(f"a{i}", 10.0 + i, [20 + rng.standard_normal()]) for i in range(60)]
    plain = arch("plain", 1.0, list(20 + rng.standard_normal(10)))
    lowest = min(archs, key=lambda a: a.errors[0])
    by_key = {row.key: row for row in assess([plain, *archs], baseline="plain", draws=4000)}
    gap = (np.mean(plain.errors) - lowest.errors[0]) / math.sqrt(1 + 1 / 10)
    assert gap > 2  # its own run alone would make it better than the baseline with 98 %
    assert (by_key[lowest.key].p_front or 0) < 0.8


def test_a_seed_that_is_hard_for_all_moves_no_arch_from_its_place():
    # seed 1 adds 5 points to all, and `good` ran with that seed alone: its mean is 3 points above the baseline's
    rng = np.random.default_rng(6)
    hard = [0.0, 5.0, 0.0, 5.0]
    plain = arch("plain", 1, [20 + h + 0.1 * rng.standard_normal() for h in hard])
    good = arch("good", 2, [18 + h + 0.1 * rng.standard_normal() for h in hard[1:2]])
    good = replace(good, search_errors={1: good.search_errors[0]})
    rest = [
        arch(f"r{i}", 3 + i, [20 + i + h + 0.1 * rng.standard_normal() for h in hard[:2]]) for i in range(6)
    ]
    by_key = {row.key: row for row in assess([plain, good, *rest], baseline="plain", draws=4000)}
    assert (by_key["good"].p_front or 0) > 0.8


def test_two_costs_judge_a_draw_as_its_front_does():
    rng = np.random.default_rng(4)
    costs, errors = rng.integers(0, 4, (30, 2)).astype(float), rng.normal(size=(50, 30))
    fronts = [pareto(np.column_stack([costs, drawn])) for drawn in errors]
    assert (front._on_front(errors, costs) == np.stack(fronts)).all()


def arch(name: str, cost: float, searched: list[float], fresh: list[float] = []) -> ArchRuns:  # noqa: B006
    return ArchRuns(
        key=name,
        label=name,
        costs=(cost,),
        search_errors=dict(enumerate(searched)),
        fresh_errors={100 + i: e for i, e in enumerate(fresh)},
    )


def test_without_a_replicate_nothing_is_claimed():
    front = assess([arch("a", 1, [12.0]), arch("b", 2, [10.0]), arch("c", 3, [11.0])])
    assert front.sd is None
    assert [row.status for row in front] == [Status.BY_COST, Status.UNKNOWN, Status.UNKNOWN]
    assert all(row.p_front is None and row.error.low is None for row in front)
    assert next_runs(front, 3) == [("a", 1), ("b", 1), ("a", 2)]


def test_standing_of_clear_and_unclear_archs():
    front = assess(
        [
            arch("cheap", 1, [20.0], [20.4]),
            arch("good", 2, [10.0], [10.4, 10.2]),
            arch("near", 3, [10.3]),
            arch("bad", 4, [30.0]),
            arch("lucky", 5, [30.0], [30.0]),
        ]
    )
    by_key = {row.key: row for row in front}
    assert {key: row.status for key, row in by_key.items()} == {
        "cheap": Status.BY_COST,
        "good": Status.CONFIRMED,
        "near": Status.UNDECIDED,
        "bad": Status.DOMINATED,
        "lucky": Status.NOT_CONFIRMED,
    }
    assert tied_with_best(front) == {"good", "near"}
    assert front.degrees == 4
    assert front.sd == pytest.approx(math.sqrt((0.08 + 0.08) / 4))
    assert next_runs(front, 2) == [("near", 1), ("near", 2)]


def test_a_search_value_alone_confirms_only_the_baseline():
    archs = [
        arch("cheap", 1, [30.0, 30.1]),
        arch("plain", 2, [20.0, 20.4]),
        arch("good", 3, [10.0, 10.4]),
        arch("bad", 4, [40.0]),
    ]
    front = assess(archs, baseline="plain")
    assert [row.status for row in front][:3] == [Status.BY_COST, Status.CONFIRMED, Status.UNDECIDED]
    assert all((row.p_front or 0) > 0.9 for row in front if row.key != "bad")


def test_one_fresh_seed_confirms_nothing():
    rest = [arch("plain", 1, [20.0, 20.4, 20.2, 20.1]), arch("bad", 3, [40.0])]
    once = assess([*rest, arch("good", 2, [10.0], [10.1])], baseline="plain")
    twice = assess([*rest, arch("good", 2, [10.0], [10.1, 10.3])], baseline="plain")
    found = [{row.key: row for row in front}["good"] for front in (once, twice)]
    assert [row.status for row in found] == [Status.UNDECIDED, Status.CONFIRMED]
    assert "good" in {key for key, _ in next_runs(once, 3)}  # and is trained again, however sure it looks


@pytest.mark.parametrize(
    ("runs", "guessing"),
    [
        ([20.0, 20.3, 20.1], math.inf),  # 2 degrees of freedom
        ([20.0, 20.0, 20.0, 20.0], math.inf),  # replicates that do not vary
        ([89.0, 90.0, 90.5, 91.0], 90.0),  # no better than guessing among ten classes
    ],
)
def test_of_no_noise_no_interval_and_no_probability(runs, guessing):
    front = assess([arch("a", 1, runs), arch("b", 2, [min(runs) - 0.5])], guessing=guessing)
    assert front.sd is None
    assert all(row.p_front is None and row.error.low is None for row in front)


def test_intervals_stay_within_possible_errors():
    front = assess([arch("a", 1, [0.1, 0.5, 3.0, 0.2]), arch("b", 2, [98.0, 99.9, 99.0])])
    assert front.results[0].error.low == 0.0
    assert front.results[1].error.high == 100.0


def test_other_images_are_no_optimism():
    # the last block's images are harder by 3 points for all; the search flattered `a` by 1 point
    plain = replace(arch("plain", 1, [20.0], [23.0, 23.0]), other_images=True)
    chosen = replace(arch("a", 2, [17.0], [21.0, 21.0]), other_images=True)
    front = assess([plain, chosen], baseline="plain")
    assert {row.key: row.optimism for row in front}["a"] == pytest.approx(1.0)


def test_every_status_has_its_meaning():
    assert all(status.meaning for status in Status)


def test_shown_mean_is_over_fresh_seeds_and_optimism_is_told():
    front = assess([arch("a", 1, [9.0], [10.0, 10.2])])
    (row,) = front
    assert (row.mean, row.error.n, row.fresh) == (pytest.approx(10.1), 2, True)
    assert row.optimism == pytest.approx(1.1)


def trial(key, seed, error, role="search", state="complete"):
    return TrialResult(key, key, seed, 8, state, error=error, role=role, costs={"macs": 5.0})


def test_runs_are_gathered_by_arch_and_keep_roles_apart():
    found = gather(
        [
            trial("a", 0, 10.0),
            trial("a", 1, 11.0, role="confirm"),
            trial("a", 9, 2.0, role="audit"),
            trial("b", 0, None, state="failed"),
            trial("c", 0, float("inf")),
        ],
        ["macs"],
    )
    assert [(c.key, c.costs, dict(c.search_errors), dict(c.fresh_errors)) for c in found] == [
        ("a", (5.0,), {0: 10.0}, {1: 11.0})
    ]
    with pytest.raises(UsageError, match=r"no cost 'latency'\. It has: macs"):
        gather([trial("a", 0, 10.0)], ["latency"])


def test_report_runs_alone_count_as_fresh():
    rows = [trial("a", 0, 10.0), trial("a", 1, 11.0, role="confirm"), trial("a", 2, 12.0, role="report")]
    (found,) = gather(rows, ["macs"])
    assert (dict(found.search_errors), dict(found.fresh_errors)) == ({0: 10.0, 1: 11.0}, {2: 12.0})
