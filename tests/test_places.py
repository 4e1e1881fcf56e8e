"""P(front) of simulated studies, in small; `python -m benchmarks.statistics.places` is the full form."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import places


@pytest.mark.parametrize("ratio", [0.6, 2.0])
def test_p_front_is_what_it_says(ratio):
    found = places.row("small", ratio, [places.by_next_runs(ratio, seed) for seed in range(8)])
    assert found["archs"] == 8 * 79
    # 632 archs with a share of some 5 % on the front: known to 0.009
    assert found["calibration_error"] <= 0.03 + 3 * 0.009
    if found["confirmed"]:
        assert found["confirmed_true"] >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / found["confirmed"])


def test_the_cheapest_arch_is_left_out_and_the_truth_is_the_front_of_the_true_errors():
    stated, truth, confirmed = places.by_next_runs(2.0, 1)
    rng = np.random.default_rng([80, 1])
    true = 20 + 2.0 * rng.standard_normal(80)
    assert truth.sum() == (true[1:] <= np.minimum.accumulate(true)[1:]).sum()
    assert ((stated >= 0) & (stated <= 1)).all()
    assert (stated[confirmed > 0] >= 0.95).all()
