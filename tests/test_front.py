"""The front against pencil and brute force, its probabilities against the normal integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnsearch.core.errors import UsageError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics import front
from attnsearch.statistics.front import (
    ArchRuns,
    Status,
    assess,
    gather,
    membership,
    next_runs,
    tied_with_best,
)
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


def test_two_archs_give_the_normal_probability():
    # P(the dearer is better) = Phi(-d / sqrt(s^2/4 + s^2/4)), d = s = 1: Phi(-1.4142) = 0.0786
    p = membership([10.0, 11.0], [4, 4], [1.0, 2.0], sd=1.0, degrees=10**6, draws=200_000)
    assert p[0] == 1.0
    assert p[1] == pytest.approx(0.0786, abs=0.003)


def test_few_degrees_give_student_tails():
    # the same difference with 3 degrees of freedom: P(t_3 > sqrt 2) = 0.1261
    p = membership([10.0, 11.0], [4, 4], [1.0, 2.0], sd=1.0, degrees=3, draws=200_000)
    assert p[1] == pytest.approx(0.1261, abs=0.003)


def test_equal_costs_are_rivals_and_share_the_front():
    p = membership([10.0, 10.0, 10.0], [2, 2, 2], [5.0, 5.0, 5.0], sd=1.0, degrees=9)
    assert p == pytest.approx([1 / 3] * 3, abs=0.015)


def test_one_cost_or_the_same_cost_twice_is_one_answer():
    rng = np.random.default_rng(3)
    means, costs = rng.normal(size=12), rng.integers(0, 5, 12).astype(float)
    one = membership(means, np.ones(12), costs, 0.5, 8, draws=2000)
    two = membership(means, np.ones(12), np.column_stack([costs, costs]), 0.5, 8, draws=2000)
    assert (one == two).all()


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
    assert {row.status for row in front} == {Status.UNKNOWN}
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
        "cheap": Status.CONFIRMED,
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
    archs = [arch("plain", 1, [20.0, 20.4]), arch("good", 2, [10.0, 10.4])]
    front = assess(archs, baseline="plain")
    assert [row.status for row in front] == [Status.CONFIRMED, Status.UNDECIDED]
    assert all((row.p_front or 0) > 0.9 for row in front)


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
