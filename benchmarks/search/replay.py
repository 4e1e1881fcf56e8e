"""Searches replayed on a table: Optuna's ask and tell, with look-ups in place of training."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.stats import kendalltau

from attnsearch.core.errors import Exhausted
from attnsearch.sample import Dedup, Domain, PoolEHVI, Uniform
from attnsearch.sample.pruner_base import NeverStop, Pruner
from attnsearch.statistics.false_stops import Run
from attnsearch.statistics.pareto import hypervolume
from benchmarks.search.tables import Codes, Floats, Sites

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Problem(Protocol):
    """What a search needs of a table; see `Table` and `Attn6`."""

    @property
    def name(self) -> str: ...
    @property
    def sites(self) -> Sites: ...
    @property
    def rungs(self) -> dict[float, Floats]: ...
    @property
    def noise(self) -> float: ...
    @property
    def archs(self) -> int: ...
    @property
    def reference(self) -> tuple[float, float]: ...
    @property
    def whole(self) -> float: ...
    def allowed(self, codes: Codes) -> NDArray[np.bool_]: ...
    def costs(self, codes: Codes) -> Floats: ...
    def cost_of(self, rows: list[int]) -> Floats: ...
    def rows(self, codes: Codes) -> NDArray[np.int64]: ...
    def sample(self, count: int, random: np.random.Generator) -> list[int]: ...
    def true_error(self, rows: list[int]) -> Floats: ...
    def train(self, row: int, random: np.random.Generator) -> tuple[float, int]: ...
    def rung(self, row: int, seed: int, share: float) -> float: ...


class Curve:
    """Error at a rung: the table's own where it has one, else synthetic with Kendall's tau `tau` to the
    final.

    Synthetic: the log1p of the excess error plus normal noise, back on the error's scale and 15 points
    higher; the noise is set by bisection on 1,500 archs. `permuted` gives each arch the rung of an unrelated
    one.
    """

    def __init__(self, problem: Problem, share: float, *, tau: float = 0.6, permuted: bool = False) -> None:
        self.share, self._problem, self._permuted = share, problem, permuted
        random = np.random.default_rng(15)
        rows = problem.sample(1500, random)
        self._finals = np.array([problem.train(row, random)[0] for row in rows])
        self._best = float(self._finals.min())
        self._unit = float(np.median(self._finals)) - self._best
        self._sd = 0.0 if problem.rungs else self._calibrate(tau, random.standard_normal(len(rows)))

    def __call__(self, row: int, seed: int, error: float, random: np.random.Generator) -> float:
        if self._permuted:
            error = float(random.choice(self._finals))
        elif self._problem.rungs:
            return self._problem.rung(row, seed, self.share)
        return float(self._early(np.array([error]), random.normal(0, self._sd))[0])

    def _early(self, error: Floats, noise: Floats | float) -> Floats:
        excess = np.log1p(np.maximum((error - self._best) / self._unit, -0.5))
        return self._best + 15.0 + self._unit * np.expm1(excess + noise)

    def _calibrate(self, tau: float, noise: Floats) -> float:
        low, high = 0.0, 5.0
        for _ in range(30):
            middle = (low + high) / 2
            reached = kendalltau(self._early(self._finals, middle * noise), self._finals)[0]
            low, high = (middle, high) if reached > tau else (low, middle)
        return low


@dataclass
class Trace:
    """A search as it went: full trainings spent, and the share of the hypervolume reached, by trial."""

    spent: list[float] = field(default_factory=list)
    volume: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)  # what each trial had, or would have had, at the end
    asked: list[float] = field(default_factory=list)  # processor seconds of each proposal

    def at(self, units: float) -> float:
        """Hypervolume share when so many units were spent."""
        within = [v for s, v in zip(self.spent, self.volume, strict=True) if s <= units + 1e-9]
        return within[-1] if within else 0.0

    def reaches(self, volume: float) -> float:
        """Units spent when that share was reached; infinite if never."""
        return next((s for s, v in zip(self.spent, self.volume, strict=True) if v >= volume), np.inf)


class Search:
    """One search on a problem: `Search(problem, sampler, seed).run(units)`; `curves` are its rungs, by share."""

    def __init__(
        self,
        problem: Problem,
        sampler: optuna.samplers.BaseSampler,
        seed: int,
        *,
        pruner: Pruner | None = None,
        curves: Sequence[Curve] = (),
        workers: int = 1,
    ) -> None:
        self.problem, self.curves, self.workers = problem, curves, workers
        self.pruner = pruner or NeverStop()
        self.domain = Domain(problem.sites, problem.costs)
        self.study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        self.random = np.random.default_rng([7, seed])
        self.trace = Trace()
        self._running: list[tuple[optuna.Trial, int]] = []
        self._points: list[tuple[float, float]] = []

    def run(self, units: float) -> Trace:
        """Train until `units` are spent or nothing is left; of several workers' trials the oldest ends first."""
        with contextlib.suppress(Exhausted):
            while self._spent < units - 1e-9:
                while len(self._running) < self.workers:
                    self._running.append(self._ask())
                self._finish(self._running.pop(0))
        while self._running and self._spent < units - 1e-9:
            self._finish(self._running.pop(0))
        return self.trace

    @property
    def _spent(self) -> float:
        return self.trace.spent[-1] if self.trace.spent else 0.0

    def _ask(self) -> tuple[optuna.Trial, int]:
        """The next trial; one whose encoding the table lacks is failed at no charge (raw samplers only)."""
        for _ in itertools.repeat(None, 1000):
            before = time.process_time()
            trial = self.study.ask(self.domain.distributions)
            self.trace.asked.append(time.process_time() - before)
            codes = self.domain.encode(trial.params)
            assert codes is not None
            row = int(self.problem.rows(codes[None])[0])
            if row >= 0:
                return trial, row
            self.study.tell(trial, state=TrialState.FAIL)
        raise RuntimeError("a thousand proposals in a row that the table does not hold")

    def _finish(self, asked: tuple[optuna.Trial, int]) -> None:
        trial, row = asked
        cost = float(self.problem.cost_of([row])[0])
        error, seed = self.problem.train(row, self.random)
        rungs: tuple[float, ...] = ()
        stop, audited, share = False, False, 1.0
        for i, curve in enumerate(self.curves):
            rungs = (*rungs, curve(row, seed, error, self.random))
            trial.set_user_attr(f"rung:{i}", rungs[i])
            decision = self.pruner.decide(
                i, (cost,), rungs[i], self.trace.runs, key=str(row), share=curve.share
            )
            stop, audited = decision.stop, audited or decision.audited
            if stop:
                share = curve.share
                break
        if stop:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, [error, cost])
            self._points.append((float(self.problem.true_error([row])[0]), float(np.log10(cost))))
        run = Run(str(row), (cost,), rungs, None if stop else error, stopped=stop, audited=audited)
        self._note(run, row, error, share)

    def _note(self, run: Run, row: int, error: float, share: float) -> None:
        points = np.array(self._points).reshape(-1, 2)
        volume = hypervolume(points, self.problem.reference) / self.problem.whole
        self.trace.runs.append(run)
        self.trace.finals.append(error)
        self.trace.rows.append(row)
        self.trace.spent.append(self._spent + share)
        self.trace.volume.append(volume)


SAMPLERS: dict[str, Callable[[Problem, int], optuna.samplers.BaseSampler]] = {
    "random": lambda p, seed: Uniform(Domain(p.sites, p.costs, allowed=p.allowed), seed=seed),
    "NSGA-II, pop 16": lambda p, seed: optuna.samplers.NSGAIISampler(population_size=16, seed=seed),
    "TPE, default": lambda p, seed: optuna.samplers.TPESampler(seed=seed),
    "TPE, multivariate": lambda p, seed: optuna.samplers.TPESampler(multivariate=True, seed=seed),
    "TPE, multivariate + dedup": lambda p, seed: dedup(
        p, seed, lambda s: optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=s)
    ),
    "GPSampler + dedup": lambda p, seed: dedup(p, seed, lambda s: optuna.samplers.GPSampler(seed=s)),
    "PoolEHVI": lambda p, seed: PoolEHVI(p.sites, p.costs, allowed=p.allowed, seed=seed),
}


def dedup(problem: Problem, seed: int, make: Callable[[int], optuna.samplers.BaseSampler]) -> Dedup:
    return Dedup(make, Domain(problem.sites, problem.costs, allowed=problem.allowed), seed=seed)
