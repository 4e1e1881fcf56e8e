"""The simulated fleet drives the real coordinator: every trial ends, and idle time is what pencil and paper say."""

from __future__ import annotations

import pytest

from attnsearch.core.messages import Job, Outcome
from attnsearch.core.trial import Recipe
from benchmarks.speed.fleet import Fleet, simulate


def test_a_simulated_study_finishes_all_its_trials():
    row = simulate(2, 8, sampler="random", confirm=0.0, pruner="none")
    assert row["trials"] == 8
    assert all(0 <= row[name] < 15 for name in ("idle_pct", "idle_with_the_end_pct"))
    assert row["virtual_s"] == pytest.approx(8 * 20 / 2, rel=0.2)  # eight trainings of 20 s on two workers


def test_idle_time_counts_every_worker_without_a_job():
    fleet = Fleet(2, seconds=10.0)
    fleet._advance = lambda: None  # a coordinator that takes no time
    for number in range(2):
        fleet.submit(Job(number, {}, 0, Recipe(epochs=1)))
        while not any(isinstance(message, Outcome) for message in fleet.wait(0.5)):
            pass
    # One job after the other: until the second starts, one worker worked and the other, who then takes it, did not.
    assert fleet.idle(ramp=True) == pytest.approx(0.5)
    assert fleet.idle(ramp=False) == 0, "what it waited for was its first job"


def test_a_search_fills_thirty_two_workers():
    """35 % idle before: one seed at a time for each of a few undecided archs, and a wait before the last block."""
    row = simulate(32, 64)
    assert row["trials"] == 64
    assert row["idle_pct"] < 15
