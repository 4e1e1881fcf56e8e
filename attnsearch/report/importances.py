"""How much each site mattered in a search, by PED-ANOVA and fANOVA: a look, labelled exploratory, and no verdict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.errors import NoResultError
from attnsearch.core.study_info import StudyRecord
from attnsearch.report.formatting import Column, Table

EXPLORATORY = (
    "exploratory: shares of the variance within the search, without confidence intervals; no verdict"
)
LEAST = 20  # finished trials below which an importance is a coin's fall
TREES = 64  # as many as Optuna's fANOVA grows

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Sites = Mapping[str, Sequence[str]]  # the options of every site


@dataclass(frozen=True)
class Importance:
    """Share of the spread of the error that a site explains, by two methods; shares of one method sum to 1."""

    site: str
    ped_anova: float
    fanova: float


def importance_table(record: StudyRecord) -> Table | None:
    """None where the search is too small to look."""
    try:
        found = importances(record)
    except NoResultError:
        return None
    columns = (
        Column("site", "stage"),
        Column("ped_anova", "share by PED-ANOVA", "number", note="top 10 % against the rest"),
        Column("fanova", "share by fANOVA", "number", note="over the whole space"),
    )
    rows = tuple((entry.site, entry.ped_anova, entry.fanova) for entry in found)
    return Table("importances", "Importance by stage", columns, rows, (EXPLORATORY,))


def importances(record: StudyRecord, *, seed: int = 0) -> list[Importance]:
    """How much each site mattered in a search, most important first by PED-ANOVA (arXiv:2304.10255).

    fANOVA (Hutter et al. 2014) looks at the whole space, PED-ANOVA at what sets the best tenth apart; where
    they disagree, neither is to be believed. Print `EXPLORATORY` beside them: verdicts come from designs.

    Raises:
        NoResultError: fewer than 20 finished trials, or fewer than two sites that changed.
    """
    sites: Sites = record.info.space.sites
    done = [
        trial
        for trial in record.trials
        if trial.role == "search" and trial.error is not None and set(trial.sites) == set(sites)
    ]
    if len(done) < LEAST:
        raise NoResultError(f"Importances need {LEAST} finished trials, the study has {len(done)}")
    if sum(len({trial.sites[site] for trial in done}) > 1 for site in sites) < 2:
        raise NoResultError("Importances need two sites that changed in the search")
    choices = [trial.sites for trial in done]
    errors = np.array([trial.error for trial in done])
    best, whole = _ped_anova(sites, choices, errors), fanova(sites, choices, errors, seed=seed)
    return [Importance(site, best[site], whole[site]) for site in best]


def _ped_anova(
    sites: Sites, choices: Sequence[Mapping[str, str]], errors: NDArray[np.float64]
) -> dict[str, float]:
    """Optuna's, on a study in memory; in falling order."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for a study that nobody else sees
    options = {site: _shared(names) for site, names in sites.items()}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(params=dict(choice), distributions=options, values=[float(error)])
            for choice, error in zip(choices, errors, strict=True)
        ]
    )
    with warnings.catch_warnings():  # that it looks at low values; low errors are what is meant
        warnings.simplefilter("ignore", UserWarning)
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _shared(names: Sequence[str]) -> BaseDistribution:
    """The options of a site as one object: Optuna compares and copies it with every trial, option by option."""
    from optuna.distributions import CategoricalDistribution

    class Shared(CategoricalDistribution):
        __hash__ = CategoricalDistribution.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other or super().__eq__(other)

        def __deepcopy__(self, memo: object) -> Shared:
            return self

    return Shared(tuple(names))


def fanova(
    sites: Sites, choices: Sequence[Mapping[str, str]], errors: NDArray[np.float64], *, seed: int = 0
) -> dict[str, float]:
    """Share of each site's main effect in the variance of a forest over the whole space; the shares sum to 1.

    Optuna's own evaluator turns an option into a column and takes minutes on sites of some dozen options. Here a
    tree splits a site's options in the order in which the space lists them, and every arch weighs the same.
    """
    from sklearn.ensemble import RandomForestRegressor

    code = {site: {option: number for number, option in enumerate(names)} for site, names in sites.items()}
    seen = np.array([[code[site][choice[site]] for site in sites] for choice in choices], np.float32)
    forest = RandomForestRegressor(TREES, random_state=seed).fit(seen, errors)
    sizes = [len(names) for names in sites.values()]
    shares = np.nanmean([_main_effects(grown.tree_, sizes) for grown in forest.estimators_], axis=0)
    return dict(zip(sites, (shares / shares.sum()).tolist(), strict=True))


def _main_effects(tree: Any, sizes: Sequence[int]) -> NDArray[np.float64]:
    """Each site's share of one tree's variance over all archs, shape (sites,); NaN for a tree that is flat.

    Args:
        sizes: the number of options of each site.
    """
    allowed, value = _leaves(tree, sizes)
    share = np.stack([here.mean(axis=1) for here in allowed])  # of a site's options, (sites, leaves)
    weight = share.prod(axis=0)  # a leaf's share of all archs
    value = value - weight @ value
    variance = weight @ value**2
    if variance == 0:
        return np.full(len(sizes), np.nan)
    # E(error | option) is the mean over the leaves that the option leads to, once its own site is settled
    main = [np.mean((weight * value / part @ here) ** 2) for here, part in zip(allowed, share, strict=True)]
    return np.asarray(main, np.float64) / float(variance)


def _leaves(tree: Any, sizes: Sequence[int]) -> tuple[list[NDArray[np.bool_]], NDArray[np.float64]]:
    """What leads to each leaf: per site the options, shape (leaves, options); and what it predicts, shape (leaves,)."""
    left, right, split, threshold = tree.children_left, tree.children_right, tree.feature, tree.threshold
    allowed = [np.ones((tree.node_count, size), bool) for size in sizes]
    nodes = np.zeros(1, np.intp)
    while len(nodes := nodes[left[nodes] != right[nodes]]):  # level by level, from the root
        for site, here in enumerate(allowed):
            here[left[nodes]] = here[right[nodes]] = here[nodes]
            at = nodes[split[nodes] == site]
            first = np.arange(sizes[site]) <= threshold[at, None]
            here[left[at]] &= first
            here[right[at]] &= ~first
        nodes = np.concatenate([left[nodes], right[nodes]])
    ends = left == right
    return [here[ends] for here in allowed], tree.value[ends, 0, 0]
