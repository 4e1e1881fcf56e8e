"""PoolEHVI: score a pool of archs by expected hypervolume improvement at their known cost, take the best.

The pool is the whole feasible space up to 8,000 archs, else random archs, mutations of the front and, in a
second round, mutations of the best of these. The expected improvement is exact (`ehvi.py`) under a Gaussian process
(`gp.py`) that sees error on a logarithmic scale, finished trials, stopped ones at the final error predicted for
them, and running ones at their expected value (Kriging believer). The front is that of posterior means, not of
noisy observations.

The smaller the gain that the model still expects, the more proposals are uniform at random. Where sites act together, a
model of archs that were good so far is well calibrated on them and wrong about what it leaves out: its forecasts do not
fail, it just never looks there. `benchmarks.search.compare` measures what that costs and saves.

Sources: expected hypervolume improvement, Emmerich et al. 2006; believer, Ginsbourger et al. 2010; front of
posterior means after the noisy EHVI of Daulton et al., arXiv:2105.08195.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from attnsearch.core.errors import UsageError
from attnsearch.sample import gp
from attnsearch.sample.base import ArchSampler
from attnsearch.sample.domain import Bools, Codes, Domain, Floats
from attnsearch.sample.ehvi import ehvi
from attnsearch.sample.history import Observation, imputed
from attnsearch.sample.shortlist import Shortlist, best_first
from attnsearch.statistics.pareto import hypervolume, pareto

START = 12  # archs before the first model
REFIT_EACH = 40  # observations up to which hyper-parameters are fitted at each proposal, then each third
LAG = 10  # of so many that run at once, one may end before the model is made anew
FIT_ROWS = 120  # observations that hyper-parameters are fitted on
ROWS = 240  # archs that the posterior rests on, those in training among them: an ask is as quick after 1,000 trainings


@dataclass(frozen=True)
class RemainingGain:
    """What the model still expects: `best` is the largest EHVI left, `hypervolume` that of the front."""

    best: float
    hypervolume: float

    @property
    def share(self) -> float:
        return self.best / self.hypervolume if self.hypervolume > 0 else float("inf")


class Surrogate(Protocol):
    """What a model must say of archs (m, S) at standardised log costs z, (m,)."""

    def mean(self, codes: Codes, z: Floats) -> Floats: ...

    def __call__(self, codes: Codes, z: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noise-free value."""

    def fantasize(self, codes: Codes, z: Floats) -> Surrogate:
        """The same model, had these archs come out at their expected values."""


class PoolEHVI(ArchSampler):
    """Two-objective sampler (error, cost), both minimised, for categorical sites with known cost.

    Args:
        sites, cost, factors, allowed: see `Domain`.
        initial: archs proposed first; random ones follow until there are 12.
        explore: the expected gain, as a share of the front's hypervolume, at which every other proposal is random.
        seed: see `ArchSampler`.
        reference_error: error beyond which nothing counts, such as the baseline's; None takes the median of
            the first 12 finished trials.
    """

    def __init__(
        self,
        sites: Mapping[str, Sequence[str]],
        cost: Callable[[Codes], Floats],
        *,
        factors: Mapping[str, NDArray[np.int64]] | None = None,
        allowed: Callable[[Codes], Bools] | None = None,
        initial: Sequence[Mapping[str, str]] = (),
        explore: float = 0.005,
        seed: int = 0,
        reference_error: float | None = None,
    ) -> None:
        super().__init__(Domain(sites, cost, factors=factors, allowed=allowed), initial=initial, seed=seed)
        self.explore, self.reference_error = explore, reference_error
        self._kernel = gp.Kernel(self.domain)
        self._fitted: dict[bytes, Floats] = {}  # recomputed alike after a restart
        self._latest: _Model | None = None
        self._none: Codes = np.empty((0, len(self.domain.sites)), np.int64)

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        if len(study.directions) != 2:
            raise UsageError(
                "the pool sampler handles error and one cost; choose tpe, nsga2, gp or random for more"
            )
        finished = sum(entry.error is not None for entry in observations)
        if len(observations) < START or finished < START / 2:
            return self.any_unseen(observations, banned)
        model = self._model_of(observations)
        best = model.shortlist.best(self.unseen(observations, banned))
        share = _remaining(model.state, best).share
        if best is None or model.random.random() * (self.explore + share) < self.explore:
            return self.any_unseen(observations, banned)
        return np.asarray(best[0])

    def remaining_gain(self, study: Study) -> RemainingGain | None:
        """What is still to be gained; None before there is a model."""
        observations = self._history.read(study)
        if sum(entry.error is not None for entry in observations) < START:
            return None
        model = self._model_of(observations)
        return _remaining(model.state, model.shortlist.best(self.unseen(observations, self._none)))

    def _model_of(self, observations: list[Observation]) -> _Model:
        """The model as it stands, made anew once enough has ended; archs begun meanwhile are believed at their mean.

        Of many that run at once a tenth may end before it is made anew: a proposal misses the outcomes of the others
        anyway. With fewer than ten each outcome counts at once.
        """
        states = {entry.number: entry.state for entry in observations}
        model = self._latest
        if model is None or model.news(states) > sum(not s.is_finished() for s in states.values()) // LAG:
            state = SurrogateState(self.domain, observations, self.reference_error, self.posterior)
            random = self.random(observations, self._none)
            shortlist = self._shortlist(state, random, self.unseen(observations, self._none))
            self._latest = model = _Model(state, shortlist, random, states)
        begun = [entry for entry in observations if entry.number not in model.states]
        if begun:
            model.state.believe(np.array([entry.codes for entry in begun], dtype=np.int64))
            model.states |= {entry.number: entry.state for entry in begun}
            model.shortlist.rescore(model.state.ehvi, self.unseen(observations, self._none))
        return model

    def posterior(
        self, codes: Codes, z: Floats, y: Floats, extra: Floats, kept: NDArray[np.intp]
    ) -> Surrogate:
        """The model given standardised targets y, (n,), of which it rests on the rows `kept`.

        Its hyper-parameters are fitted to as many as a fit was last due for.
        """
        n = _due(len(y))
        rows = np.unique(np.linspace(0, n - 1, min(n, FIT_ROWS)).astype(int))
        key = codes[rows].tobytes() + y[rows].tobytes()
        if key not in self._fitted:
            self._fitted = {key: gp.fit(self._kernel, codes[rows], z[rows], y[rows], extra[rows])}
        return gp.Posterior(self._kernel, self._fitted[key], codes[kept], z[kept], y[kept], extra[kept])

    def _shortlist(
        self, state: SurrogateState, random: np.random.Generator, fresh: Callable[[Codes], Bools]
    ) -> Shortlist:
        """Unseen archs, each once."""
        if self.domain.listed is not None:
            pool = self.domain.listed[fresh(self.domain.listed)]
            return Shortlist(pool, state.ehvi(pool))
        pool = np.vstack([self.domain.sample(1500, random), self.domain.mutations(state.front, 2500, random)])
        pool = self._distinct(pool[fresh(pool)])
        gains = state.ehvi(pool)
        if len(pool):
            near = self.domain.mutations(pool[best_first(gains)[:10]], 1000, random)
            near = self._distinct(near[fresh(near)])
            near = near[~np.isin(self.domain.ids(near), self.domain.ids(pool))]
            pool, gains = np.vstack([pool, near]), np.r_[gains, state.ehvi(near)]
        return Shortlist(pool, gains)

    def _distinct(self, codes: Codes) -> Codes:
        _, first = np.unique(self.domain.ids(codes), return_index=True)
        return codes[np.sort(first)]


@dataclass
class _Model:
    """A model, its candidates, the generator that they were drawn by, and the trials that it knows of by number."""

    state: SurrogateState
    shortlist: Shortlist
    random: np.random.Generator
    states: dict[int, TrialState]

    def news(self, states: Mapping[int, TrialState]) -> int:
        """How many trials have ended, or were withdrawn, since it was made."""
        return sum(states.get(number) != state for number, state in self.states.items()) + sum(
            state.is_finished() for number, state in states.items() if number not in self.states
        )


def _remaining(state: SurrogateState, best: tuple[Codes, float] | None) -> RemainingGain:
    volume = hypervolume(np.column_stack(state.points), state.reference)
    return RemainingGain(0.0 if best is None else best[1], volume)


class SurrogateState:
    """What the observations says of archs not tried: posterior, front of posterior means, reference point."""

    def __init__(
        self,
        domain: Domain,
        observations: list[Observation],
        reference_error: float | None,
        posterior: Callable[[Codes, Floats, Floats, Floats, NDArray[np.intp]], Surrogate],
    ) -> None:
        self._domain = domain
        observed, errors, sds = _observations(observations)
        codes = np.array([entry.codes for entry in observed])
        complete = np.array([entry.error is not None for entry in observed])
        log_cost = domain.log_cost(codes)
        # Scales change only when a fit is due, so that in between the fitted hyper-parameters still hold.
        n = _due(len(observed))
        self._centre, self._spread = log_cost[:n].mean(), log_cost[:n].std() or 1.0
        scale = _Scale(errors[:n][complete[:n]])
        y, extra = scale(errors), (sds * scale.slope(errors)) ** 2
        running = np.array([p.codes for p in observations if not p.state.is_finished()], dtype=np.int64)
        running = running.reshape(-1, len(domain.sites))
        kept = _kept(y, max(ROWS - len(running), ROWS // 2))
        self._posterior = posterior(codes, self._z(codes), y, extra, kept)
        if len(running):
            self._posterior = self._posterior.fantasize(running, self._z(running))
        self._tried = np.vstack([codes[kept][complete[kept]], running])
        self._means = self._posterior.mean(self._tried, self._z(self._tried))
        self._set_front()
        limit = np.median(errors[complete][:START]) if reference_error is None else reference_error
        self.reference = (float(scale(np.array([limit]))[0]), self._cost_limit(codes))

    def ehvi(self, codes: Codes) -> Floats:
        mean, sd = self._posterior(codes, self._z(codes))
        return ehvi(mean, sd, self._domain.log_cost(codes), self.points, self.reference)

    def believe(self, codes: Codes) -> None:
        """Take archs (n, S) that have begun for ones that come out at their expected value."""
        z = self._z(codes)
        self._tried = np.vstack([self._tried, codes])
        self._means = np.r_[self._means, self._posterior.mean(codes, z)]
        self._posterior = self._posterior.fantasize(codes, z)
        self._set_front()

    def _set_front(self) -> None:
        cost = self._domain.log_cost(self._tried)
        on = pareto(np.column_stack([self._means, cost]))
        self.points, self.front = (self._means[on], cost[on]), self._tried[on]

    def _cost_limit(self, known: Codes) -> float:
        """Just beyond the highest cost that the space allows (2 %), in log10."""
        known_cost = float(self._domain.log_cost(known).max())
        return max(self._domain.highest_cost, known_cost) + float(np.log10(1.02))

    def _z(self, codes: Codes) -> Floats:
        z: Floats = (self._domain.log_cost(codes) - self._centre) / self._spread
        return z


class _Scale:
    """Errors to the model's scale: log1p of the excess over the best, standardised.

    Excess is counted in units of median minus best; heavy tails of bad archs then do not govern the fit.
    """

    def __init__(self, errors: Floats) -> None:
        self._best = errors.min()
        self._unit = (np.median(errors) - self._best) or 1.0
        raw = self._log(errors)
        self._mean, self._sd = raw.mean(), raw.std() or 1.0

    def _log(self, errors: Floats) -> Floats:
        excess: Floats = np.log1p(np.maximum((errors - self._best) / self._unit, -0.5))
        return excess

    def __call__(self, errors: Floats) -> Floats:
        scaled: Floats = (self._log(errors) - self._mean) / self._sd
        return scaled

    def slope(self, errors: Floats) -> Floats:
        """Derivative of the scale at `errors`."""
        excess = np.maximum(errors - self._best, -0.5 * self._unit)
        slope: Floats = 1.0 / ((excess + self._unit) * self._sd)
        return slope


def _due(count: int) -> int:
    """Observations there were when hyper-parameters were last due for a fit."""
    return count if count < REFIT_EACH else count - (count - REFIT_EACH) % 3


def _kept(y: Floats, count: int) -> NDArray[np.intp]:
    """At most `count` rows, ascending: half of them the best, the others spread evenly over time."""
    if len(y) <= count:
        return np.arange(len(y))
    best = np.argsort(y, kind="stable")[: count // 2]
    others = np.setdiff1d(np.arange(len(y)), best)
    spread = others[np.linspace(0, len(others) - 1, count - len(best)).astype(int)]
    return np.sort(np.r_[best, spread])


def _observations(observations: list[Observation]) -> tuple[list[Observation], Floats, Floats]:
    """Trials with a known or predicted final error: (trials, errors, sd of what is predicted)."""
    predicted = imputed(observations)
    observed = [
        p
        for p in observations
        if p.error is not None or (p.state == TrialState.PRUNED and p.number in predicted)
    ]
    pairs = [(p.error, 0.0) if p.error is not None else predicted[p.number] for p in observed]
    return observed, np.array([error for error, _ in pairs]), np.array([sd for _, sd in pairs])
