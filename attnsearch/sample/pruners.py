"""Pruners by name: which trials to stop early.

make_pruner(name)        par, moasha, one-epoch or none
pruner.rungs(epochs)     the epochs after which it decides
pruner.decide(...)       stop or go on, with a sentence why
"""

from __future__ import annotations

from collections.abc import Callable

from attnsearch.core.checks import check_word
from attnsearch.sample.mo_asha import MoAsha
from attnsearch.sample.pareto_at_rung import ParetoAtRung
from attnsearch.sample.pruner_base import NeverStop, Pruner

PRUNERS: dict[str, Callable[[int], Pruner]] = {
    "par": lambda seed: ParetoAtRung(seed),
    "none": lambda seed: NeverStop(),
    "moasha": lambda seed: MoAsha(),
    "one-epoch": lambda seed: MoAsha(first_only=True),  # after arXiv:2307.15422
}


def make_pruner(name: str, *, seed: int = 0) -> Pruner:
    """The pruner of that name; raises `UsageError` for an unknown one."""
    return PRUNERS[check_word("pruner", name, PRUNERS)](seed)
