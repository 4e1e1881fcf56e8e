"""How much each site mattered in a search, by PED-ANOVA and fANOVA: a look, labelled exploratory, and no verdict."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnsearch.errors import NoResultError
from attnsearch.reports.rows import finished
from attnsearch.reports.table import Column, Table
from attnsearch.trial import StudyRecord

if TYPE_CHECKING:
    import optuna

EXPLORATORY = (
    "exploratory: shares of the spread that the search happened to see, without error bars; no verdict"
)
LEAST = 20  # finished trials below which an importance is a coin's fall


@dataclass(frozen=True)
class Importance:
    """Share of the spread of the error that a site explains, by two methods; shares of one method sum to 1."""

    site: str
    ped_anova: float
    fanova: float


def importances(study: optuna.Study, *, objective: int = 0, seed: int = 0) -> list[Importance]:
    """How much each site mattered in a search, most important first by PED-ANOVA (arXiv:2304.10255).

    fANOVA (Hutter et al. 2014) looks at the whole space, PED-ANOVA at what sets the best tenth apart; where
    they disagree, neither is to be believed. Print `EXPLORATORY` beside them: verdicts come from designs.

    Args:
        study: an Optuna study whose parameters are the sites. objective: which of its values; 0 is the error.

    Raises:
        NoResultError: fewer than 20 finished trials, or fewer than two sites that changed.
    """
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )
    from optuna.trial import FrozenTrial, TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < LEAST:
        raise NoResultError(f"Importances need {LEAST} finished trials, the study has {len(done)}")
    shared = set.intersection(*(set(trial.params) for trial in done))
    if sum(len({trial.params[site] for trial in done}) > 1 for site in shared) < 2:
        raise NoResultError("Importances need two sites that changed in the search")

    def value(trial: FrozenTrial) -> float:
        return float(trial.values[objective])

    with (
        warnings.catch_warnings()
    ):  # PED-ANOVA warns that it looks at low values; low errors are what is meant
        warnings.simplefilter("ignore", UserWarning)
        ped = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=value)
    forest = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), target=value)
    return [Importance(site, share, forest.get(site, 0.0)) for site, share in ped.items()]


def search_of(record: StudyRecord) -> optuna.Study:
    """The finished search trials of a record as an Optuna study in memory: sites, and the error."""
    import optuna
    from optuna.distributions import CategoricalDistribution

    study = optuna.create_study()
    sites = {site: tuple(options) for site, options in (record.facts.get("sites") or {}).items()}
    for trial in record.trials:
        if trial.role == "search" and trial.error is not None and set(trial.sites) == set(sites):
            distributions = {site: CategoricalDistribution(options) for site, options in sites.items()}
            made = optuna.create_trial(
                params=dict(trial.sites), distributions=dict(distributions), values=[trial.error]
            )
            study.add_trial(made)
    return study


def importance_table(record: StudyRecord) -> Table | None:
    """None where the search is too small to look."""
    if sum(trial.role == "search" and finished(trial) for trial in record.trials) < LEAST:
        return None
    try:
        found = importances(search_of(record))
    except NoResultError:
        return None
    columns = (
        Column("site", "site"),
        Column("ped_anova", "share by PED-ANOVA", "number", note="what sets the best tenth apart"),
        Column("fanova", "share by fANOVA", "number", note="over the whole space"),
    )
    rows = tuple((entry.site, entry.ped_anova, entry.fanova) for entry in found)
    return Table("importances", "Which sites mattered in the search", columns, rows, (EXPLORATORY,))
