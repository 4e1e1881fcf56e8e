"""What all samplers here share: first what the study starts from, then a proposal; never an arch twice.

A proposal follows from the study's seed and the archs already known, not from a random state in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from attnsearch.core.errors import Exhausted
from attnsearch.core.trial import TrialResult
from attnsearch.sample.domain import Bools, Codes, Domain
from attnsearch.sample.history import CLAIM, History, MemoryHistory, Observation

RACES = 8  # claims that may be lost to other processes before a proposal stands as it is


class ArchSampler(optuna.samplers.BaseSampler):
    """Proposes whole archs of a domain; subclasses say which.

    Args:
        domain: what there is to choose from.
        initial: archs (site -> option) proposed first, in this order, those over budget left out.
        seed: with the history, the only source of chance.
    """

    def __init__(self, domain: Domain, *, initial: Sequence[Mapping[str, str]] = (), seed: int = 0) -> None:
        self.domain = domain
        self.seed = seed
        rows = [domain.encode(arch) for arch in initial]
        self.initial: Codes = np.array([row for row in rows if row is not None], dtype=np.int64)
        self.initial = self.initial.reshape(-1, len(domain.sites))
        self.initial = self.initial[domain.feasible(self.initial)]
        self._history: History | MemoryHistory = History(domain)

    def remember(
        self, rows: Callable[[], Iterable[TrialResult]], rungs: Callable[[int], tuple[int, ...]]
    ) -> None:
        """Read the history from the coordinator's memory from now on; only where one process asks."""
        self._history = MemoryHistory(self.domain, rows, rungs)

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        """An arch (S,) that is neither in the observations nor in `banned`."""
        raise NotImplementedError

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.domain.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if isinstance(self._history, MemoryHistory):
            none = np.empty((0, len(self.domain.sites)), np.int64)
            observations = self._history.read(study, but=trial.number)
            return self.domain.decode(self._next(study, trial, observations, none))
        # Claim, then look: of two processes that claim one arch, the later writer sees the other and gives way.
        banned = np.empty((0, len(self.domain.sites)), np.int64)
        observations = self._history.read(study, but=trial.number)
        for race in range(RACES):
            met = race >= 2  # both gave way and met again: part by chance
            codes = (
                self.any_unseen(observations, banned, trial.number)
                if met
                else self._next(study, trial, observations, banned)
            )
            # Optuna has no public call by which a sampler marks a running trial; its own samplers use this one.
            study._storage.set_trial_system_attr(trial._trial_id, CLAIM, codes.tolist())
            observations = self._history.read(study, but=trial.number)
            if not _contains([entry.codes for entry in observations], codes):
                break
            banned = np.vstack([banned, codes])
        return self.domain.decode(codes)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that is no site of the domain: at random, by seed, trial and name."""
        words = [self.seed, trial.number, *param_name.encode()]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        return optuna.samplers.RandomSampler(seed).sample_independent(
            study, trial, param_name, param_distribution
        )

    def random(self, observations: list[Observation], banned: Codes, *salt: int) -> np.random.Generator:
        """Chance for the next proposal, the same whenever the same archs are known."""
        known = len({entry.codes.tobytes() for entry in observations})
        return np.random.default_rng([self.seed, known, len(banned), *salt])

    def unseen(self, observations: list[Observation], banned: Codes) -> Callable[[Codes], Bools]:
        """A filter on codes (n, S): neither proposed before nor banned."""
        known = [entry.codes for entry in observations]
        seen = self.domain.ids(np.vstack([*known, banned]).astype(np.int64)) if known or len(banned) else None

        def fresh(codes: Codes) -> Bools:
            return np.ones(len(codes), bool) if seen is None else ~np.isin(self.domain.ids(codes), seen)

        return fresh

    def any_unseen(self, observations: list[Observation], banned: Codes, *salt: int) -> Codes:
        """A uniform unseen feasible arch; raises `Exhausted` where none is left.

        Where the space is too large to list and chance finds nothing feasible, a mutation of what is known.
        """
        random, fresh = self.random(observations, banned, *salt), self.unseen(observations, banned)
        listed, everything = self.domain.listed, self.domain.everything
        left = self.domain.sample(100, random) if listed is None else listed
        left = left[fresh(left)]
        if len(left) == 0 and everything is not None:
            left = everything[fresh(everything)]
        elif len(left) == 0 and observations:
            near = self.domain.mutations(np.array([entry.codes for entry in observations]), 5000, random)
            left = near[fresh(near)]
        if len(left) == 0:
            raise Exhausted("every architecture of the space has been tried")
        return np.asarray(left[random.integers(len(left))])

    def exhausted(self, study: Study) -> bool:
        """Whether every feasible arch has been proposed; known before a proposal only of domains that can be listed."""
        everything = self.domain.everything
        if everything is None:
            return False
        observations = self._history.read(study)
        if len({entry.codes.tobytes() for entry in observations}) < len(everything):
            return False
        return not self.unseen(observations, np.empty((0, len(self.domain.sites)), np.int64))(
            everything
        ).any()

    def _next(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        if len(self.initial):
            left = self.initial[self.unseen(observations, banned)(self.initial)]
            if len(left):
                return np.asarray(left[0])
        return self.propose(study, trial, observations, banned)


class Uniform(ArchSampler):
    """Uniform without replacement; over a whole enumerated space, the exhaustive search in random order."""

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        return self.any_unseen(observations, banned)


def _contains(rows: list[Codes], codes: Codes) -> bool:
    return any(np.array_equal(row, codes) for row in rows)
