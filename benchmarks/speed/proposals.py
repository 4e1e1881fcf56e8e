"""What the tool itself takes: seconds by the clock per proposal and per report, and repeats under concurrency.

Measure on a machine that does nothing else.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from attnsearch.sample import Domain, PoolEHVI, Uniform
from attnsearch.sample.history import Observation
from attnsearch.sample.pareto_at_rung import ParetoAtRung
from attnsearch.statistics.false_stops import Run
from benchmarks.search.replay import SAMPLERS, Problem, Search
from benchmarks.search.tables import Attn6


def proposals(trials: int = 500) -> tuple[int, dict[int, float]]:
    """Repeats in one search, and seconds for ask and tell (mean of 10) after 200 and `trials` trials."""
    problem = Attn6(0)  # pool of 5,000 from 16.8 million
    search = Search(problem, SAMPLERS["PoolEHVI"](problem, 0), 0)
    taken = {}
    for finished in (200, trials):
        search.run(finished)
        start = time.perf_counter()
        search.run(finished + 10)
        taken[finished] = (time.perf_counter() - start) / 10
    rows = search.trace.rows[:trials]
    return len(rows) - len(set(rows)), taken


def asking_while_running(finished: int, running: int) -> tuple[float, float]:
    """Processor milliseconds of a proposal, (random, pool), with so many trials finished and in training.

    The pool's is the longest of four, of which one or two fit the hyper-parameters again.
    """
    problem = Attn6(0)
    pool = PoolEHVI(problem.sites, problem.costs, seed=0, explore=0.0)
    codes = pool.domain.sample(finished + running, np.random.default_rng(0))
    seen = [
        Observation(i, row, TrialState.COMPLETE, float(error), ())
        for i, (row, error) in enumerate(zip(codes, problem.true_errors(codes), strict=True))
    ]
    seen[finished:] = [replace(entry, state=TrialState.RUNNING, error=None) for entry in seen[finished:]]
    study = optuna.create_study(directions=["minimize"] * 2)
    none, taken = np.empty((0, codes.shape[1]), np.int64), []
    for sampler in (Uniform(pool.domain, seed=0), pool, pool, pool, pool):
        start = time.process_time()
        proposed = sampler.propose(study, study.ask(), seen, none)
        taken.append(1e3 * (time.process_time() - start))
        seen.append(Observation(len(seen), proposed, TrialState.COMPLETE, 20.0, ()))
    return taken[0], max(taken[1:])


def costing(archs: int = 400_000) -> float:
    """Archs per second through an additive cost table of 6 sites x 16 options."""
    problem = Attn6(0)
    domain = Domain(problem.sites, problem.costs)
    codes = np.random.default_rng(0).integers(0, 16, (archs, 6))
    start = time.perf_counter()
    domain.log_cost(codes)
    return archs / (time.perf_counter() - start)


def concurrent_repeats(problem: Problem, workers: int = 8, each: int = 10) -> float:
    """Share of repeated archs when so many samplers ask on one SQLite file without a coordinator."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'study.db'}"
        optuna.create_study(study_name="s", storage=_wal(url), directions=["minimize"] * 2)
        threads = [threading.Thread(target=_work, args=(problem, url, each, seed)) for seed in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        trials = optuna.load_study(study_name="s", storage=_wal(url)).trials
        archs = [tuple(trial.params.items()) for trial in trials]
    return 1 - len(set(archs)) / len(archs)


def bookkeeping(trials: int = 1000) -> float:
    """Seconds for a rung report (write the attribute, decide) on SQLite in WAL mode after so many trials."""
    problem = Attn6(0)
    with tempfile.TemporaryDirectory() as folder:
        storage = _wal(f"sqlite:///{Path(folder) / 'study.db'}")
        study = optuna.create_study(storage=storage, directions=["minimize"] * 2)
        study.add_trials(_finished(problem, trials))
        random = np.random.default_rng(0)
        others = [
            Run(str(i), (cost,), (error + 15 + random.normal(0, 1),), error)
            for i, (error, cost) in enumerate(t.values for t in study.get_trials(deepcopy=False))
        ]
        trial, pruner, start = study.ask(), ParetoAtRung(), time.perf_counter()
        for rung in range(10):
            trial.set_user_attr(f"rung:{rung}", 30.0)
            seen = [*others, Run(str(rung), (50.0,), (40.0,))]
            pruner.decide(0, (60.0,), 60.0 + rung, seen, key=str(rung), share=1 / 9)
        return (time.perf_counter() - start) / 10


def large_study(trials: int = 10_000) -> tuple[float, float]:
    """Seconds for a random ask and tell after so many trials, and to load them, on SQLite in WAL mode."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'study.db'}"
        fill(url, trials)
        return asking(url)


def fill(url: str, trials: int) -> None:
    """A study of so many finished trials; minutes for 10,000."""
    study = optuna.create_study(study_name="s", storage=_wal(url), directions=["minimize"] * 2)
    study.add_trials(_finished(Attn6(0), trials))


def asking(url: str) -> tuple[float, float]:
    """Seconds for a random ask and tell in the study at `url`, and to load it."""
    problem = Attn6(0)
    start = time.perf_counter()
    sampler = Uniform(Domain(problem.sites, problem.costs), seed=1)
    study = optuna.load_study(study_name="s", storage=_wal(url), sampler=sampler)
    study.get_trials(deepcopy=False)
    loaded = time.perf_counter() - start
    study.tell(study.ask(sampler.domain.distributions), [1.0, 1.0])
    start = time.perf_counter()
    for _ in range(5):
        study.tell(study.ask(sampler.domain.distributions), [1.0, 1.0])
    return (time.perf_counter() - start) / 5, loaded


def _work(problem: Problem, url: str, count: int, seed: int) -> None:
    sampler = PoolEHVI(problem.sites, problem.costs, allowed=problem.allowed, seed=0)
    study = optuna.load_study(study_name="s", storage=_wal(url), sampler=sampler)
    random = np.random.default_rng(seed)
    for _ in range(count):
        trial = study.ask(sampler.domain.distributions)
        codes = sampler.domain.encode(trial.params)
        assert codes is not None
        row = int(problem.rows(codes[None])[0])
        time.sleep(random.uniform(0.0, 0.2))
        study.tell(trial, [problem.train(row, random)[0], float(problem.cost_of([row])[0])])


def _wal(url: str) -> RDBStorage:
    import sqlalchemy

    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def pragmas(connection: object, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]
        connection.execute("PRAGMA synchronous=NORMAL")  # type: ignore[attr-defined]

    storage.engine.dispose()
    return storage


def _finished(problem: Problem, count: int) -> list[optuna.trial.FrozenTrial]:
    random = np.random.default_rng(3)
    domain = Domain(problem.sites, problem.costs)
    trials = []
    for codes in domain.sample(count, random):
        row = int(problem.rows(codes[None])[0])
        values = [problem.train(row, random)[0], float(problem.cost_of([row])[0])]
        trials.append(
            create_trial(params=domain.decode(codes), distributions=domain.distributions, values=values)
        )
    return trials
