from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime

from attnsearch.core import choices
from attnsearch.core.errors import Exhausted, UsageError
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.sample import (
    SAMPLERS,
    Domain,
    PoolEHVI,
    RemainingGain,
    default_sampler,
    gp,
    make_sampler,
    pool_sampler,
)
from attnsearch.sample.ehvi import ehvi
from attnsearch.sample.history import CLAIM
from attnsearch.statistics.pareto import hypervolume

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPTIONS = ("none", "se", "eca", "cbam", "psa")
SITES = {f"stage{i}": OPTIONS for i in range(1, 5)}  # 625 archs
PRICE = np.array([1.0, 2.0, 2.5, 4.0, 8.0])
GAIN = np.array([0.0, 1.0, 1.5, 2.5, 2.0])


def cost(codes):
    return 10 + PRICE[codes].sum(1)


def error(codes, noise):
    return 30 - GAIN[codes] @ np.array([0.5, 1.0, 1.5, 2.0]) + noise


def search(sampler, trials, *, study=None, seed=0):
    """Ask and tell until the study has so many trials; the noise follows from the arch."""
    study = study or optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.sampler = sampler
    while len(study.get_trials(deepcopy=False)) < trials:
        trial = study.ask(sampler.domain.distributions)
        codes = sampler.domain.encode(trial.params)[None]
        noise = np.random.default_rng([seed, *codes[0]]).normal(0, 0.3)
        study.tell(trial, [float(error(codes, noise)[0]), float(cost(codes)[0])])
    return study


def chosen(study):
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if name != "gp"]
)  # gp: with three objectives below
def test_no_arch_is_proposed_twice(name):
    trials = {"pool": 50, "tpe": 50}.get(name, 100)
    seen = chosen(search(make_sampler(name, SITES, cost, seed=1), trials))
    assert len(set(seen)) == trials


def test_pool_proposes_no_arch_twice_in_500_trials(monkeypatch):
    monkeypatch.setattr(pool_sampler, "FIT_ROWS", 40)  # a quick fit; what is checked is the identity
    seen = chosen(search(PoolEHVI(SITES, cost, seed=1, explore=1.0), 500))
    assert len(set(seen)) == 500


@pytest.mark.parametrize("name", ["pool", "tpe", "nsga2", "random"])
def test_over_budget_is_never_proposed(name):
    def allowed(codes):
        return cost(codes) <= 20

    study = search(make_sampler(name, SITES, cost, allowed=allowed, seed=2), 40)
    assert max(trial.values[1] for trial in study.trials) <= 20


@pytest.mark.parametrize("name", ["pool", "random"])
def test_a_needle_in_a_haystack(name):
    """1,711 feasible archs of 2 billion: chance finds none, mutations of what is known do."""
    sites = {f"site{i}": tuple("abcdef") for i in range(12)}

    def price(codes):
        return 10.0 + codes.sum(1)

    def allowed(codes):
        return (codes > 0).sum(1) <= 2

    plain = dict.fromkeys(sites, "a")
    sampler = make_sampler(name, sites, price, allowed=allowed, initial=[plain])
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    for _ in range(25):
        trial = study.ask(sampler.domain.distributions)
        codes = sampler.domain.encode(trial.params)[None]
        assert allowed(codes)[0]
        study.tell(trial, [30.0 - codes.sum(), float(price(codes)[0])])
    assert len(set(chosen(study))) == 25


def test_exhaustive_visits_everything_then_says_so():
    sites = {"a": ("x", "y", "z"), "b": ("x", "y")}
    sampler = make_sampler("exhaustive", sites, cost)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    for value in range(6):
        study.tell(study.ask(sampler.domain.distributions), [value, value])
    assert {tuple(t.params.values()) for t in study.trials} == set(itertools.product("xyz", "xy"))
    with pytest.raises(Exhausted, match="every architecture"):
        study.ask(sampler.domain.distributions)


def test_initial_archs_come_first():
    initial = [dict.fromkeys(SITES, "none"), dict.fromkeys(SITES, "psa")]
    study = search(make_sampler("tpe", SITES, cost, initial=initial), 3)
    assert [trial.params for trial in study.trials[:2]] == initial


@pytest.mark.parametrize("name", ["pool", "tpe", "nsga2", "random"])
def test_a_resumed_study_proposes_what_an_uninterrupted_one_does(name):
    whole = search(make_sampler(name, SITES, cost, seed=3), 48)
    half = search(make_sampler(name, SITES, cost, seed=3), 21)
    resumed = search(make_sampler(name, SITES, cost, seed=3), 48, study=half)
    assert chosen(resumed) == chosen(whole)


def test_other_roles_neither_count_as_seen_nor_as_evidence():
    study = search(PoolEHVI(SITES, cost, seed=4), 20)
    before = PoolEHVI(SITES, cost, seed=4)
    repeat = optuna.trial.create_trial(
        params=study.trials[5].params,
        distributions=before.domain.distributions,
        values=[-1000.0, 1.0],
        user_attrs={"role": "confirm"},
    )
    expected = study.ask(before.domain.distributions).params
    study.tell(20, state=optuna.trial.TrialState.FAIL)
    other = optuna.create_study(directions=["minimize"] * 2, sampler=before)
    other.add_trials([*study.trials[:20], repeat])
    assert other.ask(before.domain.distributions).params == expected


def test_parallel_asks_differ():
    study = search(PoolEHVI(SITES, cost, seed=5), 30)
    asked = [study.ask(study.sampler.domain.distributions) for _ in range(8)]
    assert len({tuple(trial.params.items()) for trial in asked}) == 8


def test_a_claim_that_another_made_is_given_up():
    """Another process claimed the same arch between our reading and our writing."""
    sampler = PoolEHVI(SITES, cost, seed=5)
    study = search(sampler, 30)
    first, second = study.ask(), study.ask()
    wanted = sampler._next(
        study, second._get_latest_trial(), sampler._history.read(study), np.empty((0, 4), np.int64)
    )
    study._storage.set_trial_system_attr(first._trial_id, CLAIM, wanted.tolist())
    assert (
        sampler.domain.encode(sampler.sample_relative(study, second._get_latest_trial(), {})).tolist()
        != wanted.tolist()
    )


def test_stopped_trials_inform_the_model():
    """An option that is always stopped at a bad rung is not asked for again."""
    sampler = PoolEHVI(SITES, cost, seed=6, explore=0.0)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    asked = []
    for _ in range(45):
        trial = study.ask(sampler.domain.distributions)
        codes = sampler.domain.encode(trial.params)[None]
        asked.append("psa" in trial.params.values())
        bad = 20.0 * asked[-1]
        trial.set_user_attr("rung:0", float(error(codes, 10.0 + bad)[0]))
        if bad:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, [float(error(codes, 0.0)[0]), float(cost(codes)[0])])
    assert np.mean(asked[:12]) > 0.3
    assert np.mean(asked[20:]) < 0.1


def test_pool_takes_two_objectives_only():
    sampler = PoolEHVI(SITES, cost)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    with pytest.raises(UsageError, match="tpe, nsga2"):
        study.ask(sampler.domain.distributions)


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random", "gp"])
def test_three_objectives(name):
    sampler = make_sampler(name, SITES, cost)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    for _ in range(13):
        trial = study.ask(sampler.domain.distributions)
        codes = sampler.domain.encode(trial.params)[None]
        study.tell(trial, [float(error(codes, 0)[0]), float(cost(codes)[0]), float(codes.sum())])
    assert len(set(chosen(study))) == 13


@pytest.mark.parametrize(
    ("archs", "budget", "objectives", "name"),
    [(36, 100, 2, "exhaustive"), (10**4, 15, 2, "random"), (10**4, 100, 2, "pool"), (10**9, 100, 2, "pool"),
     (10**9, 2000, 2, "tpe"), (10**4, 100, 3, "tpe")],
)  # fmt: skip
def test_default_sampler(archs, budget, objectives, name):
    assert default_sampler(archs, budget, objectives=objectives)[0] == name


def test_unknown_names_are_answered():
    assert {"auto", *SAMPLERS} == set(choices.SAMPLERS)  # the one list is checked before Optuna is imported
    with pytest.raises(UsageError, match="Did you mean 'pool'"):
        make_sampler("pol", SITES, cost)
    with pytest.raises(UsageError, match="Did you mean 'cbam'"):
        Domain(SITES, cost).encode(dict.fromkeys(SITES, "cbm"))


@pytest.mark.parametrize("inside", [True, False])
def test_ehvi_agrees_with_monte_carlo(inside):
    random = np.random.default_rng(0)
    points = (random.normal(0, 1, 12), random.uniform(0, 1, 12))
    reference = (0.8, 1.05) if inside else (-9.0, 1.05)
    mean, sd, at = np.array([-1.0, -0.9, -2.0]), np.array([0.7, 0.4, 1.5]), np.array([0.02, 0.5, 1.2])
    before = hypervolume(np.column_stack(points), reference)
    draws = mean + sd * random.standard_normal((4000, 3))
    gains = [
        [
            hypervolume(np.vstack([np.column_stack(points), [y, c]]), reference) - before
            for y, c in zip(row, at, strict=True)
        ]
        for row in draws
    ]
    error = 4 * np.std(gains, axis=0) / np.sqrt(len(draws)) + 1e-9
    assert (np.abs(ehvi(mean, sd, at, points, reference) - np.mean(gains, axis=0)) <= error).all()


def test_ehvi_with_two_known_costs_agrees_with_monte_carlo():
    random = np.random.default_rng(1)
    y, at, reference = random.normal(0, 1, 9), random.uniform(0, 1, (9, 2)), (0.8, 1.05, 1.1)
    mean, sd, asked = np.array([-1.0, -0.5]), np.array([0.7, 0.4]), np.array([[0.02, 0.5], [0.4, 0.1]])
    points = np.column_stack([y, at])
    before = hypervolume(points, reference)
    draws = mean + sd * random.standard_normal((500, 2))
    gains = [
        [
            hypervolume(np.vstack([points, [drawn, *c]]), reference) - before
            for drawn, c in zip(row, asked, strict=True)
        ]
        for row in draws
    ]
    error = 4 * np.std(gains, axis=0) / np.sqrt(len(draws))
    assert (np.abs(ehvi(mean, sd, asked, (y, at), reference) - np.mean(gains, axis=0)) <= error).all()


@pytest.mark.parametrize("factors", [False, True])
def test_gradient_of_the_posterior_density(factors):
    random = np.random.default_rng(1)
    tables = {site: random.integers(0, 3, (5, 2)) for site in SITES} if factors else None
    domain = Domain(SITES, cost, factors=tables)
    kernel = gp.Kernel(domain)
    codes = domain.sample(15, random)
    z, y, extra = random.normal(size=15), random.normal(size=15), random.uniform(0, 0.2, 15)
    parts = kernel.parts(codes, z, codes, z)
    theta = kernel.prior + random.normal(0, 0.5, len(kernel.prior))

    def value(theta):
        return gp.negative_log_posterior(theta, kernel, parts, y, extra)[0]

    analytic = gp.negative_log_posterior(theta, kernel, parts, y, extra)[1]
    np.testing.assert_allclose(analytic, approx_fprime(theta, value, 1e-6), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factors", [False, True])
def test_covariances_of_a_pool_are_the_sum_of_the_kernels_terms(factors):
    random = np.random.default_rng(1)
    tables = {site: random.integers(0, 3, (5, 2)) for site in SITES} if factors else None
    domain = Domain(SITES, cost, factors=tables)
    kernel = gp.Kernel(domain)
    codes, pool = domain.sample(15, random), domain.sample(30, random)
    z, at = random.normal(size=15), random.normal(size=30)
    theta = kernel.prior + random.normal(0, 0.5, len(kernel.prior))
    posterior = gp.Posterior(kernel, theta, codes, z, z, np.ones(15))
    terms = kernel.terms(theta, kernel.parts(pool, at, codes, z))
    np.testing.assert_allclose(posterior._cross(pool, at), 1 + sum(terms.values()), rtol=1e-12)
    same = [[sum(x == y for x, y in zip(a, b, strict=True)) for b in codes.tolist()] for a in pool.tolist()]
    np.testing.assert_array_equal(kernel.parts(pool, at, codes, z).same, same)


def test_the_less_the_model_expects_the_more_is_drawn_at_random(monkeypatch):
    """Where it expects the hypervolume to grow by `explore`, every other proposal is uniform."""
    sampler = PoolEHVI(SITES, cost, seed=3, explore=0.01)
    study = search(sampler, 40)
    observations, none = sampler._history.read(study), sampler._none
    best = sampler._model_of(observations).shortlist.best(sampler.unseen(observations, none))
    assert best is not None
    for share, expected in ((0.01, 0.5), (0.0, 1.0), (1.0, 0.01)):
        remaining = RemainingGain(share, 1.0)
        monkeypatch.setattr(pool_sampler, "_remaining", lambda *rest, remaining=remaining: remaining)
        proposed = [sampler.propose(study, None, observations, none) for _ in range(400)]
        drawn = [not np.array_equal(codes, best[0]) for codes in proposed]
        assert np.mean(drawn) == pytest.approx(expected, abs=4 * 0.5 / 20)


def test_of_many_observations_the_model_sees_the_best_and_some_of_the_rest():
    y = np.random.default_rng(0).normal(size=1000)
    kept = pool_sampler._kept(y, 240)
    assert len(np.unique(kept)) == 240
    assert set(np.argsort(y)[:120]) < set(kept)
    assert pool_sampler._kept(y[:100], 240).tolist() == list(range(100))


def test_a_large_space_is_drawn_from_to_its_last_arch(monkeypatch):
    """Beyond LISTED archs chance proposes, and what is left is looked for where chance finds nothing unseen."""
    monkeypatch.setattr("attnsearch.sample.domain.LISTED", 10)
    sites = {"a": "abcdefghijklmnopqrst", "b": "abcdefghijklmnopqrst"}
    sampler = make_sampler("random", sites, lambda codes: 1.0 + codes.sum(1))
    assert sampler.domain.listed is None
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    for _ in range(400):
        study.tell(study.ask(sampler.domain.distributions), [1.0, 1.0])
    assert len(set(chosen(study))) == 400
    with pytest.raises(Exhausted):
        study.ask(sampler.domain.distributions)


def test_posterior_returns_to_the_data_and_widens_away_from_it():
    domain = Domain(SITES, cost)
    kernel = gp.Kernel(domain)
    codes = domain.sample(40, np.random.default_rng(2))
    z = (domain.log_cost(codes) - 1.3) / 0.1
    y = (error(codes, 0) - 26) / 2
    theta = kernel.prior.copy()
    theta[-1] = np.log(1e-6)
    mean, sd = gp.Posterior(kernel, theta, codes, z, y, np.zeros(40))(codes, z)
    np.testing.assert_allclose(mean, y, atol=1e-3)
    far = domain.everything[~np.isin(domain.ids(domain.everything), domain.ids(codes))]
    _, away = gp.Posterior(kernel, theta, codes, z, y, np.zeros(40))(far, (domain.log_cost(far) - 1.3) / 0.1)
    assert sd.max() < 0.01 < away.min()


@pytest.mark.parametrize("name", ["pool", "random"])
def test_proposals_from_memory_are_those_from_the_study(name):
    """Complete, stopped, failed, lost and running rows: what the coordinator remembers is what Optuna keeps."""
    sampler, from_memory = make_sampler(name, SITES, cost, seed=4), make_sampler(name, SITES, cost, seed=4)
    study = search(sampler, 20)
    for state, errors in (
        ("PRUNED", {"rung:0": 31.0}),
        ("FAIL", {}),
        ("FAIL", {"lost": True}),
        ("RUNNING", {}),
    ):
        trial = study.ask(sampler.domain.distributions)
        for key, value in errors.items():
            trial.set_user_attr(key, value)
        if state != "RUNNING":
            study.tell(trial, state=optuna.trial.TrialState[state])
    states = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running"}
    rows = [
        TrialResult(
            key="k", arch="a", seed=0, epochs=2, state=states[t.state.name], number=t.number, sites=t.params,
            error=t.values[0] if t.values else None, lost=t.user_attrs.get("lost", False),
            curve=(Epoch(1, 1.0, 1.0, t.user_attrs["rung:0"], 1.0),) if "rung:0" in t.user_attrs else (),
        )
        for t in study.trials
    ]  # fmt: skip
    from_memory.remember(lambda: rows, lambda epochs: (1,))
    study.sampler = sampler
    asked = study.ask(sampler.domain.distributions)
    assert from_memory.sample_relative(study, asked._get_latest_trial(), {}) == asked.params
