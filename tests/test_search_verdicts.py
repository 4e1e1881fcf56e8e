"""Verdicts of whole simulated searches, in small; `python -m benchmarks.statistics.searches` is the full form."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.statistics import searches
from benchmarks.statistics.studies import Setting, search


def test_the_last_block_has_seeds_and_images_of_its_own():
    study = search(Setting(sampler="random", spread=1.0), 3)
    last = {trial.seed for trial in study.last}
    assert len(last) >= 6
    assert len(study.seeds) >= 4
    assert {trial.seed for trial in study.last if trial.key == study.control} >= set(study.seeds)
    assert not last & {trial.seed for trial in study.trials if trial.role != "report"}
    assert study.baseline in {trial.key for trial in study.last}


def test_false_verdicts_are_rare_and_intervals_cover():
    setting = replace(searches.SEEN, sampler="random")
    results = [searches.one(setting, seed) for seed in range(60)]
    by_name = {figure.figure: figure for figure in searches.figures("equal", setting, results)}
    # 60 searches: a share of 0.05 is known to 0.028, three of which are allowed
    assert by_name["searches with a false verdict"].value <= 0.05 + 3 * 0.028
    assert by_name["coverage of all intervals at once"].value >= 0.95 - 3 * 0.028
    assert by_name["a control that is no worse is seen to be worse"].value <= 0.025 + 3 * 0.020
    assert by_name["a control worse by 3 run sds is seen"].value > 0.6


def test_a_large_gain_is_found_and_no_gain_is_called_false():
    setting = replace(searches.SEEN, sampler="random", gain=5.0)
    results = [searches.one(setting, seed) for seed in range(15)]
    assert sum(r.gain for r in results) >= 13
