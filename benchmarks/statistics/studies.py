"""Whole searches in simulation: the real schedule, sampler, front and verdicts, with drawn errors for trainings.

`Setting` says what is true of the archs and how noisy a training is; `search` runs one study of it to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from attnsearch.core.errors import Exhausted
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import Role, TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space, load_space
from attnsearch.store.results import Results
from attnsearch.store.study_store import HasAttrs
from attnsearch.study.search import SearchSchedule

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Setting:
    """What is true in a simulated study; errors in percent, standard deviations in points.

    Args:
        spread: sd of the archs' true errors; 0 makes all equal to the baseline.
        noise: sd of a run around its arch's true error and its seed's effect.
        shared: sd of what a seed does to all archs alike; other: the same for the images of the last block.
        gain: points by which the first arch that is tried beside the baseline is better than what was drawn for it.
        trials, sampler, confirm, space, seeds: as in `Settings`.
    """

    spread: float = 0.0
    noise: float = 1.0
    shared: float = 0.0
    other: float = 0.0
    gain: float = 0.0
    trials: int = 32
    sampler: str = "auto"
    confirm: float = 0.5
    space: str = "cbam_variants"

    def errors(self, random: np.random.Generator) -> Callable[[str], float]:
        """True error by arch key, drawn when an arch is first asked for."""
        known: dict[str, float] = {}

        def error(key: str) -> float:
            if key not in known:
                known[key] = 20.0 + self.spread * random.standard_normal()
            return known[key]

        return error


@dataclass
class Store:
    """The study in memory: what `SearchSchedule` reads and writes of a `store.study_store.StudyStore`."""

    sites: dict[str, tuple[str, ...]]
    results: Results = field(default_factory=Results)
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study = optuna.create_study(directions=["minimize"] * 2)
        self.storage = self.study._storage
        self.distributions: dict[str, BaseDistribution] = {
            site: CategoricalDistribution(options) for site, options in self.sites.items()
        }
        self._ids: dict[int, int] = {}

    @property
    def info(self) -> StudyInfo:
        return StudyInfo.from_attrs(self.kept)

    def set_attrs(self, *parts: HasAttrs) -> None:
        for part in parts:
            self.kept.update(part.to_attrs())

    def ask(self, sampler: Any) -> tuple[int, dict[str, str]]:
        if sampler.exhausted(self.study):
            raise Exhausted("every architecture of the space has been tried")
        number = self.new()
        trial = self.storage.get_trial(self._ids[number])
        return number, sampler.sample_relative(self.study, trial, dict(self.distributions))

    def new(self) -> int:
        trial_id = self.storage.create_new_trial(self.study._study_id)
        number = self.storage.get_trial_number_from_id(trial_id)
        self._ids[number] = trial_id
        return number

    def finish(self, row: TrialResult) -> None:
        trial_id = self._ids[row.number]
        self.storage.set_trial_user_attr(trial_id, "role", row.role)
        for site, option in row.sites.items():
            distribution = self.distributions[site]
            self.storage.set_trial_param(trial_id, site, distribution.to_internal_repr(option), distribution)
        self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [row.error, row.costs["macs"]])
        self.results[row.number] = row


@dataclass(frozen=True)
class Ended:
    """A simulated study: its trials in order, its facts, the true error of each arch by key, and two of these keys."""

    trials: tuple[TrialResult, ...]
    facts: dict[str, Any]
    true: dict[str, float]
    baseline: str
    control: str

    @property
    def seeds(self) -> list[int]:
        """Those of the last block; further ones have the baseline and the positive control alone."""
        return sorted({trial.seed for trial in self.last if trial.key not in (self.baseline, self.control)})

    @property
    def last(self) -> list[TrialResult]:
        return [trial for trial in self.trials if trial.role == "report"]


class _Remembered(Space):
    """A space that works out each arch's choice, and its archs of one block, once for all simulated studies."""

    def choice(self, arch: Arch) -> dict[str, str] | None:
        known: dict[str, dict[str, str] | None] = self.__dict__.setdefault("_choices", {})
        if arch.key not in known:
            known[arch.key] = super().choice(arch)
        return known[arch.key]

    def homogeneous(self) -> list[Arch]:
        if "_homogeneous" not in self.__dict__:
            self.__dict__["_homogeneous"] = list(super().homogeneous())
        return list(self.__dict__["_homogeneous"])


@lru_cache(maxsize=4)
def _space(name: str) -> tuple[Space, CostTable]:
    space = load_space(name)
    space = _Remembered(**{field.name: getattr(space, field.name) for field in fields(space)})
    return space, CostTable(space, (3, 32, 32), 10)


def search(setting: Setting, seed: int) -> Ended:
    """One study by the schedule that real ones follow, one worker, every training an instant.

    Its positive control is as good as the baseline; see `searches.HARMS` for others.
    """
    space, table = _space(setting.space)
    random = np.random.default_rng([5, seed])
    settings = Settings(
        trials=setting.trials, sampler=setting.sampler, confirm=setting.confirm, seed=seed, controls="narrow"
    ).check()
    store = Store({site: tuple(options) for site, options in space.sites.items()})
    schedule = SearchSchedule(space, table, store, settings, ())  # type: ignore[arg-type]  # all that it uses
    error, baseline, costs = setting.errors(random), space.baseline().key, _Costs(table)
    control = schedule.control.key if schedule.control else ""
    shared = _Shared(setting, random)
    better = ""
    true: dict[str, float] = {}
    while task := schedule.next():
        key = task.arch.key
        level = 20.0 if key == baseline and not setting.spread else error(baseline if key == control else key)
        better = better or (key if key not in (baseline, control) else "")
        true[key] = level - setting.gain * (key == better)
        seen = true[key] + shared(task.seed, task.role) + setting.noise * random.standard_normal()
        number = store.new() if task.number is None else task.number
        sites = dict(task.choice or {})
        store.finish(
            TrialResult(
                key, str(task.arch), task.seed, 8, "complete", number, task.arch.to_dict(), seen,
                costs(task.arch, task.choice), role=task.role, sites=sites,
            )
        )  # fmt: skip
    return Ended(tuple(store.results.values()), store.kept, true, baseline, control)


class _Costs:
    """Costs of archs, counted once each."""

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self.known: dict[str, dict[str, float]] = table.__dict__.setdefault("_simulated", {})

    def __call__(self, arch: Arch, choice: Any) -> dict[str, float]:
        if arch.key not in self.known:
            self.known[arch.key] = {"macs": dict(self.table.of(arch, choice))["macs"]}
        return self.known[arch.key]


class _Shared:
    """What seed, and in the last block other images, do to all archs alike."""

    def __init__(self, setting: Setting, random: np.random.Generator) -> None:
        self.setting, self.random = setting, random
        self.known: dict[int, float] = {}
        self.other = setting.other * random.standard_normal()

    def __call__(self, seed: int, role: Role) -> float:
        if seed not in self.known:
            self.known[seed] = self.setting.shared * self.random.standard_normal()
        return self.known[seed] + (self.other if role == "report" else 0.0)
