"""Samplers over archs whose cost is known: which one to take, and how to make it.

`default_sampler` names the one that fits the size of the space and the budget, `make_sampler` builds it. All
are `optuna.samplers.BaseSampler`, propose no arch twice and none that is over budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from attnsearch.core.checks import check_word
from attnsearch.sample.base import ArchSampler, Uniform
from attnsearch.sample.dedup import Dedup
from attnsearch.sample.domain import ENUMERABLE, Bools, Codes, Domain, Floats
from attnsearch.sample.pool_sampler import PoolEHVI, RemainingGain

_UNIFORM = ("exhaustive", "random")
_OPTUNA: dict[
    str, Callable[[int], optuna.samplers.BaseSampler]
] = {  # each as it does best on categorical archs
    "tpe": lambda seed: optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=16, seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}
SAMPLERS = ("pool", *_UNIFORM, *_OPTUNA)


def default_sampler(n_archs: int, budget: int, *, objectives: int = 2) -> tuple[str, str]:
    """Name of the sampler for `n_archs` feasible archs and `budget` trainings, and one sentence why."""
    if n_archs <= budget:
        return (
            "exhaustive",
            f"all {n_archs} architectures fit into {budget} trainings; the rest goes to more seeds",
        )
    if budget < 20:
        return "random", f"{budget} trainings are too few for a model to learn from"
    if objectives > 2:
        return (
            "tpe",
            "the pool sampler handles error and one cost; TPE models the options of all sites jointly",
        )
    if budget > 1000:
        return "tpe", f"with {budget} trainings TPE's proposals cost less than those of a Gaussian process"
    if n_archs <= ENUMERABLE:
        return "pool", f"all {n_archs} architectures can be costed and scored before each training"
    return "pool", f"{n_archs} architectures are too many to score, so samples and mutations of the front are"


def make_sampler(
    name: str,
    sites: Mapping[str, Sequence[str]],
    cost: Callable[[Codes], Floats],
    *,
    factors: Mapping[str, NDArray[np.int64]] | None = None,
    allowed: Callable[[Codes], Bools] | None = None,
    initial: Sequence[Mapping[str, str]] = (),
    seed: int = 0,
    explore: float = 0.005,
    reference_error: float | None = None,
) -> ArchSampler:
    """The sampler of that name (see `SAMPLERS`) over the archs that `Domain` describes.

    `pool` handles two objectives, the others any number. Raises `UsageError` for an unknown name.
    """
    check_word("sampler", name, SAMPLERS)
    if name == "pool":
        rest: dict[str, Any] = {"explore": explore, "reference_error": reference_error}
        return PoolEHVI(sites, cost, factors=factors, allowed=allowed, initial=initial, seed=seed, **rest)
    domain = Domain(sites, cost, factors=factors, allowed=allowed)
    if name in _UNIFORM:
        return Uniform(domain, initial=initial, seed=seed)
    return Dedup(_OPTUNA[name], domain, initial=initial, seed=seed)


__all__ = [
    "SAMPLERS",
    "ArchSampler",
    "Dedup",
    "Domain",
    "PoolEHVI",
    "RemainingGain",
    "Uniform",
    "default_sampler",
    "make_sampler",
]
