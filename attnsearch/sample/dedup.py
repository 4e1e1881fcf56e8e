"""Dedup: any Optuna sampler over archs, without repeats and without archs that are over budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from attnsearch.sample.base import ArchSampler
from attnsearch.sample.domain import Bools, Codes, Domain
from attnsearch.sample.history import Observation

DRAWS = 16


class Dedup(ArchSampler):
    """Draws up to 16 times from the wrapped sampler, then takes the nearest unseen neighbour of the last.

    Draws happen inside one proposal: no trial record is spent on a repeat. `make(seed)` builds the wrapped
    sampler afresh for each draw, so its chance follows from the history too.
    """

    def __init__(
        self,
        make: Callable[[int], BaseSampler],
        domain: Domain,
        *,
        initial: Sequence[Mapping[str, str]] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(domain, initial=initial, seed=seed)
        self._make = make

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        random, fresh = self.random(observations, banned), self.unseen(observations, banned)
        codes = np.empty(len(self.domain.sites), np.int64)
        for _ in range(DRAWS):
            codes = self._draw(self._make(int(random.integers(2**31))), study, trial)
            if self.domain.feasible(codes[None])[0] and fresh(codes[None])[0]:
                return codes
        near = self._neighbour(codes, random, fresh)
        return self.any_unseen(observations, banned) if near is None else near

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._make(self.seed).after_trial(study, trial, state, values)

    def _draw(self, inner: BaseSampler, study: Study, trial: FrozenTrial) -> Codes:
        requested = self.domain.distributions
        space = inner.infer_relative_search_space(study, trial)
        drawn = inner.sample_relative(study, trial, {k: v for k, v in space.items() if k in requested})
        for site, distribution in requested.items():
            if site not in drawn:
                drawn[site] = inner.sample_independent(study, trial, site, distribution)
        codes = self.domain.encode(drawn)
        assert codes is not None
        return codes

    def _neighbour(
        self, codes: Codes, random: np.random.Generator, fresh: Callable[[Codes], Bools]
    ) -> Codes | None:
        """An unseen feasible arch with as few sites changed as possible, among 200 mutations."""
        near = self.domain.mutations(codes[None], 200, random)
        near = near[fresh(near)]
        if len(near) == 0:
            return None
        return np.asarray(near[np.argmin((near != codes).sum(1))])
