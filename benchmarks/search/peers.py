"""Samplers of other libraries over the same domains: BoTorch, SMAC3, HEBO, Syne Tune. None is a dependency.

Each is imported where it is built; `python -m benchmarks.search.compare` says which are missing. All start from the
same 12 random archs as our own sampler, propose no arch twice, and none that is not in the table: a library that draws
a known arch draws again, up to 16 times, then a random unseen one stands in, as for Optuna's samplers (`Dedup`).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from attnsearch.sample import Domain
from attnsearch.sample.base import ArchSampler
from attnsearch.sample.dedup import DRAWS
from attnsearch.sample.history import Observation
from attnsearch.sample.pool_sampler import START
from attnsearch.statistics.pareto import pareto
from benchmarks.search.replay import Problem
from benchmarks.search.tables import Codes, Floats

POOL = 500  # unseen archs that BoTorch's acquisition function is evaluated on
REFIT = 3  # observations between two fits of BoTorch's hyper-parameters


class BoTorch(ArchSampler):
    """qLogNEHVI (Ament et al. 2023) over a pool of unseen archs: half random, half mutations of the front.

    The error is BoTorch's `MixedSingleTaskGP` on codes as categories and the standardised log cost; the cost itself
    is known, as for our own sampler. Reference point: median error of the first 12 archs, highest cost.
    """

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        if len(observations) < START:
            return self.any_unseen(observations, banned)
        import torch

        random = self.random(observations, banned)
        codes = np.array([entry.codes for entry in observations])
        errors = np.array([entry.error for entry in observations])
        on = codes[pareto(np.column_stack([errors, self.domain.log_cost(codes)]))]
        pool = np.vstack([self.domain.sample(POOL, random), self.domain.mutations(on, POOL // 2, random)])
        pool = np.unique(pool[self.unseen(observations, banned)(pool)], axis=0)
        pool = pool[random.permutation(len(pool))[:POOL]]
        if not len(pool):
            return self.any_unseen(observations, banned)
        torch.manual_seed(int(random.integers(2**31)))
        return np.asarray(pool[int(np.argmax(self._gains(codes, errors, pool)))])

    def _gains(self, codes: Codes, errors: Floats, pool: Codes) -> Floats:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.models import ModelList
        from botorch.models.deterministic import GenericDeterministicModel
        from botorch.sampling.get_sampler import get_sampler

        cost = self.domain.log_cost(codes)
        mean, sd = cost.mean(), cost.std() or 1.0
        x, candidates = (
            torch.tensor(np.column_stack([rows, (self.domain.log_cost(rows) - mean) / sd]))
            for rows in (codes, pool)
        )
        known = GenericDeterministicModel(lambda at: -at[..., -1:], num_outputs=1)
        highest = (self.domain.log_cost(np.vstack([codes, pool])).max() + np.log10(1.02) - mean) / sd
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ModelList(self._process(x, -torch.tensor(errors)[:, None]), known)
            gain = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=[-float(np.median(errors[:START])), -float(highest)],
                X_baseline=x,
                sampler=get_sampler(model.posterior(x), torch.Size([32])),
                prune_baseline=True,
                cache_root=False,
            )
            with torch.no_grad():
                parts = [gain(part[:, None]) for part in candidates.split(250)]
        return np.asarray(torch.cat(parts).numpy())

    def _process(self, x: Any, y: Any) -> Any:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        model = MixedSingleTaskGP(
            x, y, cat_dims=list(range(x.shape[1] - 1)), outcome_transform=Standardize(1)
        )
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        if len(x) % REFIT == 0 or not hasattr(self, "_fitted"):
            fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": 50}})
            self._fitted = {name: value.detach().clone() for name, value in model.named_parameters()}
        model.load_state_dict(self._fitted, strict=False)
        model.eval()
        return model


class Library(Protocol):
    """Ask and tell of a library: sites to options, two values to minimise (error, log10 cost)."""

    def ask(self) -> Mapping[str, str]: ...

    def tell(self, arch: dict[str, str], values: tuple[float, float]) -> None: ...


class Asked(ArchSampler):
    """A library's optimiser that keeps a state of its own; for one process, and one worker."""

    def __init__(self, make: Callable[[Domain, int], Library], domain: Domain, seed: int) -> None:
        super().__init__(domain, seed=seed)
        self._library = make(domain, seed)
        self._heard: set[int] = set()

    def propose(
        self, study: Study, trial: FrozenTrial, observations: list[Observation], banned: Codes
    ) -> Codes:
        for entry in observations:
            if entry.error is not None and entry.number not in self._heard:
                self._heard.add(entry.number)
                cost = float(self.domain.log_cost(entry.codes[None])[0])
                self._library.tell(self.domain.decode(entry.codes), (entry.error, cost))
        if len(observations) >= START:
            fresh = self.unseen(observations, banned)
            for _ in range(DRAWS):
                codes = self.domain.encode(self._library.ask())
                assert codes is not None
                if self.domain.feasible(codes[None])[0] and fresh(codes[None])[0]:
                    return codes
        return self.any_unseen(observations, banned)


class Smac:
    """SMAC3's hyper-parameter facade (random forest) with ParEGO; no initial design of its own."""

    def __init__(self, domain: Domain, seed: int) -> None:
        import logging

        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario
        from smac.multi_objective.parego import ParEGO

        self._space = ConfigurationSpace(seed=seed)
        sites = zip(domain.sites, domain.options, strict=True)
        self._space.add([CategoricalHyperparameter(site, list(options)) for site, options in sites])
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            self._space, objectives=["error", "cost"], n_trials=100_000, seed=seed, deterministic=True,
            output_directory=self._folder.name,
        )  # fmt: skip
        self._facade = Facade(
            scenario,
            lambda config, seed=0: {"error": 0.0, "cost": 0.0},
            initial_design=Facade.get_initial_design(scenario, n_configs=0, additional_configs=[]),
            intensifier=Facade.get_intensifier(scenario, max_config_calls=1),
            multi_objective_algorithm=ParEGO(scenario),
            logging_level=logging.ERROR,
            overwrite=True,
        )

    def ask(self) -> Mapping[str, str]:
        return {site: str(option) for site, option in dict(self._facade.ask().config).items()}

    def tell(self, arch: dict[str, str], values: tuple[float, float]) -> None:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        info = TrialInfo(Configuration(self._space, values=arch), seed=0)
        self._facade.tell(info, TrialValue(cost=list(values)), save=False)


class Hebo:
    """HEBO's multi-objective `GeneralBO`: a Gaussian process with embedded categories for each objective."""

    def __init__(self, domain: Domain, seed: int) -> None:
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.general import GeneralBO

        torch.manual_seed(seed)
        np.random.seed(seed)  # the library draws from it
        sites = zip(domain.sites, domain.options, strict=True)
        space = DesignSpace().parse(
            [{"name": site, "type": "cat", "categories": list(options)} for site, options in sites]
        )
        self._optimiser = GeneralBO(
            space, num_obj=2, rand_sample=START, model_config={"num_epochs": 50}, evo_pop=50, evo_iters=20
        )

    def ask(self) -> Mapping[str, str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {str(k): str(v) for k, v in self._optimiser.suggest().iloc[0].items()}

    def tell(self, arch: dict[str, str], values: tuple[float, float]) -> None:
        import pandas as pd

        self._optimiser.observe(pd.DataFrame([arch]), np.array([values]))


class SyneTune:
    """Syne Tune's multi-objective regularised evolution, population 16, samples of 4."""

    def __init__(self, domain: Domain, seed: int) -> None:
        from syne_tune.config_space import choice
        from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution

        sites = zip(domain.sites, domain.options, strict=True)
        self._searcher = MultiObjectiveRegularizedEvolution(
            {site: choice(list(options)) for site, options in sites},
            population_size=16,
            sample_size=4,
            random_seed=seed,
        )
        self._trial = 0

    def ask(self) -> Mapping[str, str]:
        return dict(self._searcher.suggest())

    def tell(self, arch: dict[str, str], values: tuple[float, float]) -> None:
        self._searcher.on_trial_complete(self._trial, arch, list(values))
        self._trial += 1


Sampler = Callable[[Problem, int], optuna.samplers.BaseSampler]


def _domain(problem: Problem) -> Domain:
    return Domain(problem.sites, problem.costs, allowed=problem.allowed)


def _asked(library: Callable[[Domain, int], Library], problem: Problem, seed: int) -> Asked:
    return Asked(library, _domain(problem), seed)


PEERS: dict[str, tuple[str, Sampler]] = {  # method -> (module that must be there, sampler)
    "BoTorch qLogNEHVI": ("botorch", lambda p, seed: BoTorch(_domain(p), seed=seed)),
    "SMAC3 ParEGO": ("smac", partial(_asked, Smac)),
    "HEBO": ("hebo", partial(_asked, Hebo)),
    "Syne Tune MO-REA": ("syne_tune", partial(_asked, SyneTune)),
}


def installed(name: str) -> bool:
    return find_spec(PEERS[name][0]) is not None
