"""Sentences agree with the numbers they are made from."""

from __future__ import annotations

import pytest

from attnsearch.statistics.power import plan
from attnsearch.statistics.proxy import Audit


def judged(**changed) -> Audit:
    facts = {
        "verdict": "trust", "archs": 30, "bands": 6, "tau": 0.61, "tau_interval": (0.4, 0.8), "partial_tau": 0.55,
        "partial_interval": (0.31, 0.72), "cost_tau": 0.52, "ceiling": 0.9, "regret_1": 0.4,
        "regret_1_interval": (0.1, 0.8), "regret_3": 0.05, "regret_3_interval": (0.0, 0.2), "front_kept": 1.0,
        "run_sd": 0.2,
    }  # fmt: skip
    return Audit(**{**facts, **changed})


def test_audit_sentence_says_the_numbers():
    said = str(judged())
    for part in (
        "30 archs",
        "verdict is: trust",
        "tau is 0.61",
        "cost alone reaches 0.52",
        "0.31 to 0.72",
        "loses 0.05",
    ):
        assert part in said


def test_a_proxy_that_does_not_beat_cost_is_said_not_to():
    said = str(judged(verdict="do not trust", partial_tau=0.1, partial_interval=(-0.1, 0.3), ceiling=None))
    assert "not shown to rank archs better than their cost alone" in said
    assert "perfect proxy" not in said


def test_what_trust_would_take():
    narrow = str(judged(verdict="use with re-evaluation", partial_interval=(0.1, 0.6)))
    assert "partial tau above 0.2" in narrow
    costly = str(judged(verdict="use with re-evaluation", regret_3_interval=(0.1, 0.9)))
    assert "a loss of at most 0.50 points" in costly


def test_plan_sentence_says_seeds_hours_and_what_is_at_hand():
    made = plan(0.5, 6, sd=0.6, degrees=5, seconds=60, at_hand=3)
    said = str(made)
    assert f"takes {made.seeds} seeds, {6 * made.seeds} trials" in said
    assert f"between {made.seeds_low} and {made.seeds_high}" in said
    assert (
        f"3 seeds would see {made.achieved:.2f} points, and could not tell a smaller effect from none" in said
    )
    hopeless = str(plan(0.001, 6, sd=1.0))
    assert "over 100,000 seeds: out of reach" in hopeless


@pytest.mark.parametrize(("seconds", "words"), [(10, "minutes"), (600, "hours"), (20_000, "days")])
def test_durations_have_fitting_units(seconds, words):
    assert words in str(plan(1.0, 3, sd=0.6, seconds=seconds))
