"""Proposals for many workers: a model kept while archs are taken from it says what one made anew would."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from attnsearch.sample import Domain, PoolEHVI, gp
from attnsearch.sample.history import Observation
from attnsearch.sample.shortlist import BLOCK, Shortlist

OPTIONS = ("none", "se", "eca", "cbam", "psa")
SITES = {f"stage{i}": OPTIONS for i in range(1, 5)}  # 625 archs
PRICE = np.array([1.0, 2.0, 2.5, 4.0, 8.0])


def cost(codes):
    return 10 + PRICE[codes].sum(1)


def finished(number: int, codes) -> Observation:
    noise = np.random.default_rng(number).normal(0, 0.3)
    return Observation(
        number, codes, TrialState.COMPLETE, 30 - codes @ np.array([0.1, 0.4, 0.6, 0.8]) + noise, ()
    )


def running(number: int, codes) -> Observation:
    return Observation(number, codes, TrialState.RUNNING, None, ())


def everything(codes):
    return np.ones(len(codes), bool)


def test_what_comes_out_as_expected_is_appended_to_the_process():
    """By the definition: a process conditioned on the data and on these archs at their posterior means."""
    domain = Domain(SITES, cost)
    kernel = gp.Kernel(domain)
    codes = domain.sample(30, np.random.default_rng(1))
    z, y = domain.log_cost(codes), codes.sum(1) / 4.0
    known, extra = gp.Posterior(kernel, kernel.prior, codes[:24], z[:24], y[:24], np.zeros(24)), np.zeros(30)
    believed = np.r_[y[:24], known.mean(codes[24:], z[24:])]
    anew = gp.Posterior(kernel, kernel.prior, codes, z, believed, extra)
    in_turn = known.fantasize(codes[24:27], z[24:27]).fantasize(codes[27:], z[27:])
    pool = domain.everything
    for got, expected in zip(
        in_turn(pool, domain.log_cost(pool)), anew(pool, domain.log_cost(pool)), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_best_by_bounds_is_the_best_of_all():
    """Gains that only fall, by other factors in each round: the one found is the largest of all scored anew."""
    random = np.random.default_rng(2)
    codes = np.arange(5000)[:, None]
    gains = random.exponential(1.0, 5000)
    shortlist, scored = Shortlist(codes, gains.copy()), []
    for _ in range(30):
        gains *= random.uniform(0.7, 1.0, 5000)

        def gain(asked, gains=gains):
            scored.append(len(asked))
            return gains[asked[:, 0]]

        shortlist.rescore(gain, everything)
        best = shortlist.best(everything)
        assert best is not None
        assert best[1] == gains.max()
    assert sum(scored) < 30 * 5000 / 4, "most are never scored anew"


def test_what_was_taken_is_not_given_again():
    shortlist = Shortlist(np.arange(3)[:, None], np.array([1.0, 3.0, 2.0]))
    taken: list[int] = []
    while (best := shortlist.best(lambda codes: ~np.isin(codes[:, 0], taken))) is not None:
        taken.append(int(best[0][0]))
    assert taken == [1, 2, 0]


def test_many_proposals_in_a_row_are_those_of_a_model_made_anew_for_each():
    """The same observations, and each proposal taken up by a worker before the next is asked for."""
    kept = PoolEHVI(SITES, cost, seed=3, explore=0.0)
    codes = kept.domain.sample(40, np.random.default_rng(3))
    observations = [finished(i, row) for i, row in enumerate(codes)]
    for number in range(40, 70):
        anew = PoolEHVI(SITES, cost, seed=3, explore=0.0)
        gains = [model._model_of(observations).shortlist.best(everything)[1] for model in (kept, anew)]
        assert gains[0] == pytest.approx(gains[1], rel=1e-4), number
        proposed = kept.propose(Two(), None, observations, kept._none)
        observations.append(running(number, proposed))
    assert len(kept.domain.everything) > BLOCK, "else every candidate is scored each time"


class Two:
    """As much of a study as a proposal looks at."""

    directions = (0, 0)


@pytest.mark.parametrize(("at_once", "allowed"), [(1, 0), (9, 0), (30, 3)])
def test_a_model_lags_behind_a_tenth_of_what_runs_at_most(at_once, allowed):
    sampler = PoolEHVI(SITES, cost, seed=3)
    codes = np.unique(sampler.domain.sample(200, np.random.default_rng(4)), axis=0)
    done = [finished(i, codes[i]) for i in range(30)]
    busy = [running(30 + i, codes[30 + i]) for i in range(at_once)]
    model = sampler._model_of([*done, *busy])
    for ended in range(1, at_once + 1):
        states = [finished(entry.number, entry.codes) for entry in busy[:ended]]
        # A worker that is free takes up another arch at once.
        begun = [running(100 + i, codes[60 + i]) for i in range(ended)]
        again = sampler._model_of([*done, *states, *busy[ended:], *begun])
        assert (again is model) == (ended <= allowed), ended
        if again is not model:
            break
