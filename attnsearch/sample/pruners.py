"""Pruners by name: which trials to stop early.

make_pruner(name)        par, moasha, one-epoch or none
pruner.rungs(epochs)     the epochs after which it decides
pruner.decide(...)       stop or go on, with a sentence why
"""

from __future__ import annotations

from attnsearch.core.errors import UsageError, unknown
from attnsearch.sample.mo_asha import MoAsha
from attnsearch.sample.pareto_at_rung import ParetoAtRung
from attnsearch.sample.pruner_base import NeverStop, Pruner


def make_pruner(name: str, *, seed: int = 0, eta: float = 3.0) -> Pruner:
    """The pruner of that name; one-epoch keeps the best third after one epoch (after arXiv:2307.15422)."""
    made: dict[str, Pruner] = {
        "par": ParetoAtRung(seed),
        "moasha": MoAsha(eta),
        "one-epoch": MoAsha(eta, first_only=True),
        "none": NeverStop(),
    }
    if name not in made:
        raise UsageError(unknown("pruner", name, made))
    return made[name]
