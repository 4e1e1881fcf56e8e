"""Sentences that say what the numbers say, and importances that only explore.

plan_sentence     what a plan costs, and what it would see
audit_sentence    what the audit of a proxy found
importances       PED-ANOVA and fANOVA of a search's sites, labelled exploratory
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnsearch.errors import NoResultError
from attnsearch.proxy import REGRET, TRUSTED, Audit
from attnsearch.statistics.power import Plan
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


def audit_sentence(audit: Audit) -> str:
    """The verdict on the proxy, and the numbers that it rests on."""
    low, high = audit.partial_interval
    known = f"partial tau {audit.partial_tau:.2f} given cost, 95 % interval {low:.2f} to {high:.2f}"
    if not audit.beats_cost:
        beyond = f"it was not shown to rank archs better than their cost alone ({known})"
    else:
        beyond = f"it ranks archs of like cost ({known})"
    ceiling = "" if audit.ceiling is None else f"; a perfect proxy would reach about {audit.ceiling:.2f}"
    regret = audit.regret_3_interval[1]
    return (
        f"On {audit.archs} archs trained short and long the proxy's verdict is: {audit.verdict}. "
        f"Over all costs tau is {audit.tau:.2f}, cost alone reaches {audit.cost_tau:.2f}{ceiling}; {beyond}. "
        f"The best of its best three among like costs loses {audit.regret_3:.2f} points, {regret:.2f} at most."
        f"{_why_not(audit)}"
    )


def _why_not(audit: Audit) -> str:
    if audit.verdict != "use with re-evaluation":
        return ""
    if audit.partial_interval[0] <= TRUSTED:
        return f" Trust would take a partial tau above {TRUSTED:g} at the interval's lower end: more archs may show it."
    return f" Trust would take a loss of at most {max(REGRET, audit.run_sd or 0.0):.2f} points."


def plan_sentence(plan: Plan) -> str:
    """Seeds and hours for the wanted effect, how sure that is, and what the seeds at hand would see."""
    wanted = f"To see {plan.effect:g} points with {plan.power:.0%} power among {plan.variants} variants"
    noise = f"at a run sd of {plan.sd:.2f} points" + (
        f" and a seed correlation of {plan.rho:.2f}" if plan.rho else ""
    )
    if plan.seeds is None:
        said = f"{wanted} {noise} takes over 100,000 seeds: out of reach."
    else:
        hours = "" if plan.hours is None else f", about {_duration(plan.hours)}"
        said = f"{wanted} {noise} takes {plan.seeds} seeds, {plan.trials} trials{hours}{_range(plan)}."
    if plan.at_hand is None or plan.achieved is None:
        return said
    seen = f"{plan.at_hand} seeds would see {plan.achieved:.2f} points"
    less = "" if plan.achieved <= plan.effect else ", and could not tell a smaller effect from none"
    return f"{said} {seen}{less}."


def _range(plan: Plan) -> str:
    if (plan.seeds_low, plan.seeds_high) == (plan.seeds, plan.seeds):
        return ""
    high = "over 100,000" if plan.seeds_high is None else str(plan.seeds_high)
    return f" (between {plan.seeds_low} and {high}, as the sd itself rests on few runs)"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(60 * hours))} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
