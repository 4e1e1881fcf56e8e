"""Group-sequential verdicts: boundaries against published ones, false verdicts by simulation, a study that stops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from attnsearch import report as reports
from attnsearch.core.errors import UsageError
from attnsearch.core.settings import Settings
from attnsearch.space.space import load_space
from attnsearch.statistics import Table, alpha_spending, compare
from attnsearch.statistics.alpha_spending import boundaries, judge, levels, obrien_fleming, planned_blocks
from attnsearch.study.observer import Observer
from attnsearch.study.run import Run
from benchmarks.statistics import stopping
from benchmarks.statistics.stopping import normal, outcomes
from tests.engine import FakeEngine, ending_in

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Lan and DeMets, 5 equal looks, two-sided 5 %: Jennison and Turnbull 2000, ldbounds
        (obrien_fleming, (4.877, 3.357, 2.680, 2.290, 2.031)),
        # their Pocock-type function, alpha log(1 + (e - 1) t)
        (lambda t: 0.05 * math.log(1 + (math.e - 1) * t), (2.438, 2.427, 2.410, 2.397, 2.386)),
    ],
)
def test_boundaries_are_the_published_ones(spending, published):
    assert boundaries(FIFTHS, spending) == pytest.approx(published, abs=0.002)


def test_one_look_is_the_usual_test():
    assert boundaries((1.0,), obrien_fleming) == pytest.approx((1.95996,), abs=1e-3)


def tables(count: int, k: int, blocks: int, seed: int) -> list[Table]:
    rng = np.random.default_rng(seed)
    names = tuple(map(str, range(k)))
    return [Table(names, tuple(range(blocks)), 20 + rng.standard_normal((k, blocks))) for _ in range(count)]


def test_false_verdicts_over_all_looks_are_five_in_a_hundred():
    false = outcomes([0.0] * 4, noise=normal, blocks=8, margin=1e-9, repetitions=6_000, seed=5).false
    assert false.mean() == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 6_000))
    # and so it is with what judges real studies, table by table
    ended = [judge(table, "0", 8)[0] for table in tables(150, 5, 8, seed=6)]
    share = np.mean([any(v.outcome in ("gain", "harm") for v in analysis.verdicts) for analysis in ended])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 150)


def test_noise_of_real_trainings_is_drawn_with_its_shape_and_the_stated_sd():
    """Three networks, the last three times as noisy: variances of 1, 1 and 9."""
    rng = np.random.default_rng(3)
    errors = 20 + rng.standard_normal(400) + rng.standard_normal((3, 400)) * np.array([[1.0], [1.0], [3.0]])
    drawn = stopping.several_networks(errors)(2_000, 3, 50, rng)
    pooled = drawn - drawn.mean(axis=1, keepdims=True)
    assert (pooled**2).sum() / (2_000 * 2 * 50) == pytest.approx(stopping.SD**2, rel=0.03)
    pairs = np.sort((drawn[:, [0, 1, 2]] - drawn[:, [1, 2, 0]]).var(axis=2).mean(axis=0))
    assert (
        np.ptp(pairs) < 0.1 * pairs.mean()
    )  # names are drawn once a design, so each stands everywhere as often
    noisiest = np.sort(pooled.var(axis=2), axis=1).mean(axis=0)
    # Of variances 1, 1 and 9 residuals keep (4/9) v + (sum of the others) / 9, by pencil 14/9, 14/9 and 38/9; a
    # design's own residuals are taken of these: 108/81, 108/81 and 180/81.
    assert noisiest[2] / noisiest[:2].mean() == pytest.approx(180 / 108, rel=0.05)
    one = stopping.one_network(errors)(2_000, 3, 50, rng)
    spread = np.sort((one - one.mean(axis=1, keepdims=True)).var(axis=2), axis=1).mean(axis=0)
    assert spread[2] < 2 * spread[0]  # names drawn anew in each block have equal noise


def test_trained_designs_save_trainings_where_effects_are_large():
    noise, most = stopping.noises()["fine-tuned"]
    assert most == 9
    rows = {row["setting"]: row for row in stopping.rows(5, 400, "fine-tuned", noise)}
    assert rows["all of 1.5 times"]["saved"] > 0.2
    assert rows["no effect"]["false_sequential"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_looking_at_every_block_without_boundaries_would_not_do():
    peeking = [
        any(
            v.outcome in ("gain", "harm")
            for n in range(3, 9)
            for v in compare(
                replace(table, blocks=table.blocks[:n], errors=table.errors[:, :n]), "0"
            ).verdicts
        )
        for table in tables(150, 5, 8, seed=6)
    ]
    assert np.mean(peeking) > 0.08


def test_levels_rise_and_stay_below_the_level_of_one_look():
    course = levels(10, 5)
    assert list(course) == list(range(3, 11))
    assert sorted(course.values()) == list(course.values())
    assert course[10] < 0.05


def test_a_variant_keeps_the_verdict_of_the_look_that_decided_it():
    # gaps of 3 points with noise of .1 are decided at the first look; its row ends there
    rng = np.random.default_rng(1)
    errors = 20 + 0.1 * rng.standard_normal((3, 8))
    errors[1] -= 3
    errors[1, 3:] = np.nan
    errors[2] += 0.05
    table = Table(("plain", "good", "none"), tuple(range(8)), errors)
    analysis, still = judge(table, "plain", 8)
    good = analysis.verdicts[0]
    assert (good.outcome, good.n) == ("gain", 3)
    assert still == {"none"}
    assert judge(table.take([0, 1]), "plain", 8)[1] == {"good"}  # three pairs have two degrees of freedom


def test_blocks_follow_from_the_noise_of_the_first_three():
    # residuals of (0, 1; 1, 0; 0, 1) over variants and blocks: each +-1/3, 2/3, 1/3: sd 0.816 on 2 degrees of freedom
    errors = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    table = Table(("a", "b"), (0, 1, 2), errors)
    from attnsearch.statistics.power import seeds_needed

    needed = seeds_needed(1.0, 2, sd=math.sqrt(4 / 3 / 2))
    assert needed is not None
    assert planned_blocks(table, 1.0, 60) == round(1.08 * needed)
    assert planned_blocks(table, 1.0, 5) == 5
    assert planned_blocks(table, 100.0, 60) == 4  # one comparison has 3 degrees of freedom from 4 blocks on


@pytest.mark.parametrize(("k", "blocks"), [(2, 4), (3, 3), (5, 3)])
def test_the_first_look_has_three_degrees_of_freedom(k, blocks):
    assert alpha_spending.first_look(k) == blocks
    assert min(levels(10, k)) == blocks


SPACE = """
question: Which?
host: {name: resnet8, width: 4}
stages: {attention: [none, simam, gct, se]}
tied: true
recipe: {epochs: 1, batch_size: 64, train_images: 256}
"""


def error(arch, seed, epochs):
    noise = float(np.random.default_rng([seed, *str(arch).encode()]).normal(0, 0.35))
    return {"gct": 12.0, "simam": 20.2}.get(arch.stages[0].attention.name, 20.0) + noise + seed % 3


@pytest.fixture
def go(tmp_path, monkeypatch):
    (tmp_path / "which.yaml").write_text(SPACE)

    def run(**settings):
        monkeypatch.setattr(
            "attnsearch.train.local_engine.LocalPool",
            lambda *a, **o: FakeEngine(ending_in(error), steps=False),
        )
        monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
        given = {"data": "digits", "out": tmp_path, "design": "swap", "controls": "none", "workers": 1}
        return Run(
            load_space(tmp_path / "which.yaml"), Settings(**{**given, **settings}).check(), Observer()
        ).execute()

    return run


def test_a_design_goes_on_until_every_variant_is_decided(go):
    found = go(seeds="auto", effect=1.0, margin=1.5).record
    runs: dict[str, int] = {}
    for trial in found.trials:
        runs[trial.arch] = runs.get(trial.arch, 0) + 1
    gct = next(n for arch, n in runs.items() if "gct" in arch)
    assert (
        gct == 4
    )  # 8 points: as soon as its own four pairs, noisier than the rest, have 3 degrees of freedom
    assert max(runs.values()) > 3
    assert "every variant is decided after" in str(found.attrs["ended"])
    verdicts = {v.variant: v for v in reports.build(found).judged.analysis.verdicts}
    assert {name: v.outcome for name, v in verdicts.items()} == {
        "gct": "gain",
        "simam": "equivalent",
        "se(ratio=4) | se(ratio=8) | se": "equivalent",
    }
    assert verdicts["gct"].n == 4


def test_what_auto_does_not_go_with(go):
    with pytest.raises(UsageError, match="--effect is what --seeds auto must not miss"):
        go(effect=1.0)
    with pytest.raises(UsageError, match="--seeds auto is for an ablation"):
        go(seeds="auto", design="search")
    with pytest.raises(UsageError, match="4 variants take 12 trials at least, not 8"):
        go(seeds="auto", trials=8)
    with pytest.raises(UsageError, match="must be an integer ≥ 1 or 'auto', got 'otto'"):
        go(seeds="otto")
