"""The store: one Optuna study is the record of truth, and every trial in it can be read with plain Optuna.

A trial of the study is one training. Its parameters are the space's sites, its values the validation error in percent
and the cost, its user attributes everything else, one readable attribute for each thing. Learning curves are mirrored
live into a companion study `NAME::curves`, since Optuna keeps intermediate values for one objective only (and its TPE
sampler fails on a study of two that has them).

One coordinator at a time owns a study (see `database.owned`), so at its start every trial still RUNNING is known to be
dead.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from attnsearch.core.errors import AttnsearchError, EnvironmentFault, Exhausted
from attnsearch.core.messages import Outcome
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.store.batch import write_batch, write_lines
from attnsearch.store.database import open_storage
from attnsearch.store.read import named_studies, read_study, running_trials, study_names
from attnsearch.store.records import CURVES
from attnsearch.store.results import Results
from attnsearch.store.sqlite import not_ours, others


class ArchSampler(Protocol):
    """What the store asks a sampler for; `sample.base.ArchSampler` is one."""

    def exhausted(self, study: optuna.Study) -> bool:
        """Whether nothing is left to propose."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The option of each site."""


class HasAttrs(Protocol):
    """A part of `StudyInfo`."""

    def to_attrs(self) -> dict[str, Any]:
        """Plain JSON values by attribute."""


_FINAL = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}

optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def none_left_empty(storage: BaseStorage, name: str) -> Iterator[None]:
    """Remove a study that a mistake of its user ends before its first trial."""
    try:
        yield
    except EnvironmentFault:
        raise  # the storage may be what is at fault
    except AttnsearchError:
        for each in (name, name + CURVES) if name in study_names(storage) else ():
            study = storage.get_study_id_from_name(each)
            if storage.get_n_trials(study) == 0:
                storage.delete_study(study)
        raise


def copy_study(source: str, target: str, names: Sequence[str]) -> None:
    """Copy studies, with their curves, into another database; names that are not there are passed over.

    Args:
        source, target: URLs. names: of studies.
    """
    stored, copied = open_storage(source, create=False), open_storage(target, create=True)
    known = study_names(stored)
    for name in names:
        for each in (name, name + CURVES) if name in known else ():
            optuna.copy_study(
                from_study_name=each, from_storage=stored, to_storage=copied, to_study_name=each
            )


class StudyStore:
    """The study as its one coordinator writes it; `results` is kept in memory, in step with the storage.

    Args:
        storage: from `open_storage`.
        name: of the study.
        sites: options of each site, in order; the study's parameters.
        objectives: readable names of the values, the first is the validation error.
        costs: names of the costs that are the other values.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        sites: Mapping[str, Sequence[str]],
        objectives: Sequence[str],
        costs: Sequence[str],
    ) -> None:
        self.storage = storage
        self._axes = tuple(costs)
        self.distributions: dict[str, BaseDistribution] = {
            s: CategoricalDistribution(tuple(o)) for s, o in sites.items()
        }
        if name in others(*named_studies(storage)):
            raise not_ours(name)
        # The companion first: it marks the study as ours.
        self._curves = _open_or_create(storage, name + CURVES, ["minimize"])
        self.study = _open_or_create(storage, name, ["minimize"] * len(objectives))
        self._study_id = storage.get_study_id_from_name(name)
        self._curves_id = storage.get_study_id_from_name(name + CURVES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names(list(objectives))
            self._curves.set_metric_names([objectives[0]])
        self._made = storage.get_n_trials(self._study_id)
        self._mirror: dict[int, int] = {}
        self._lines: list[tuple[int, int, float]] = []  # (trial, epoch, error) to write
        self._at_rungs: list[tuple[int, str, float]] = []  # (trial, attribute, error) to write
        self._attrs: dict[str, Any] = self.study.user_attrs  # one process writes them
        self._info: StudyInfo | None = None
        self.results = Results(read_study(self.study, storage).trials)

    @classmethod
    def reopen(cls, storage: Any, name: str) -> StudyStore:
        """The store of a study that exists, with the sites and objectives that it began with."""
        study = optuna.load_study(study_name=name, storage=storage)
        info = StudyInfo.from_attrs(study.user_attrs)
        return cls(storage, name, info.space.sites, study.metric_names or [], info.costs.chosen)

    def start(self, row: TrialResult, sites: Mapping[str, str] | None) -> TrialResult:
        """Write a trial as RUNNING with all that is known before training; gives it back with its number."""
        return self.write(replace(row, number=self._create().number), sites or {})

    def ask(self, sampler: ArchSampler) -> tuple[int, dict[str, str]]:
        """A new trial from the sampler: its number and the option of each site. `write` adds the rest of it.

        Raises:
            Exhausted: nothing is left to propose.
        """
        if sampler.exhausted(self.study):  # before a trial is made that would stand there empty
            raise Exhausted("every architecture of the space has been tried")
        trial = self._create()
        try:
            choice = sampler.sample_relative(self.study, trial, dict(self.distributions))
        except BaseException:
            self._attach(trial._trial_id, {"lost": True, "reason": "nothing was proposed"})
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            raise
        return trial.number, choice

    def write(self, row: TrialResult, sites: Mapping[str, str]) -> TrialResult:
        """Write all that is known before training of a trial that `ask` made."""
        self._attach(self._id(row.number), _attributes(row), sites)
        self.results[row.number] = row
        mirror = self.storage.create_new_trial(self._curves_id)
        # Without the sites: Optuna keeps all options of a site with each trial, most of a large study's bytes.
        self._attach(mirror, {"search_trial": row.number, "arch": row.arch, "seed": row.seed})
        self._mirror[row.number] = mirror
        return row

    def add_epoch(self, number: int, epoch: Epoch, rung: int | None = None) -> TrialResult:
        """Mirror one epoch, at the next `flush`; at a rung its error is also kept with the trial."""
        self._lines.append((self._mirror[number], epoch.epoch, epoch.val_error))
        if rung is not None:
            self._at_rungs.append((self._id(number), f"rung:{rung}", epoch.val_error))
        row = self.results[number]
        self.results[number] = replace(row, curve=(*row.curve, epoch))
        return self.results[number]

    def flush(self) -> None:
        """Write all epochs since the last time, in one transaction."""
        lines, self._lines = self._lines, []
        at_rungs, self._at_rungs = self._at_rungs, []
        if lines:
            write_lines(self.storage, lines, at_rungs)

    def finish(self, number: int, outcome: Outcome, extra: Mapping[str, Any] | None = None) -> TrialResult:
        """Write what became of a trial; the row is complete in the storage when this returns."""
        row = self.results[number]
        error = outcome.curve[-1].val_error if outcome.state == "complete" else None
        row = replace(
            row,
            state=outcome.state,
            error=error,
            curve=outcome.curve,
            reason=outcome.reason,
            seconds=outcome.seconds,
            device=outcome.device,
            lost=outcome.lost,
            released=outcome.blameless,
            counts=outcome.counts,
            parts=outcome.parts,
        )
        late = {
            "curve": json.dumps([_line(epoch) for epoch in outcome.curve]),
            "seconds": round(outcome.seconds, 3),
            "device": outcome.device,
            **({"reason": outcome.reason} if outcome.reason else {}),
            **({"batch_parts": outcome.parts} if outcome.parts > 1 else {}),
            **({"lost": True} if outcome.lost else {}),
            **({"released": True} if outcome.blameless else {}),
            **_counted(outcome),
            **(extra or {}),
        }
        self.flush()
        trial_id = self._id(number)
        self._attach(trial_id, late)
        values = [error, *(row.costs[cost] for cost in self._axes)] if error is not None else None
        self.storage.set_trial_state_values(trial_id, _FINAL[outcome.state], values)
        self._finish_mirror(self._mirror.pop(number), row)
        self.results[number] = row
        return row

    def set_trial_attrs(self, number: int, **attributes: Any) -> None:
        """Write further attributes of a trial."""
        self._attach(self._id(number), attributes)

    def set_attrs(self, *parts: HasAttrs) -> None:
        """Write what has changed in parts of the study's information; each attribute is a transaction of its own."""
        stored = self._attrs
        for key, value in (item for part in parts for item in part.to_attrs().items()):
            unchanged = (
                stored[key] == value if key in stored else value in ("", [], {})
            )  # empty is as good as none
            if not unchanged:
                self.storage.set_study_user_attr(self._study_id, key, value)
                stored[key] = json.loads(json.dumps(value))
                self._info = None

    @property
    def info(self) -> StudyInfo:
        """What the study says of itself."""
        if self._info is None:
            self._info = StudyInfo.from_attrs(self._attrs)
        return self._info

    def fail_stale_trials(self, retries: int, *, released: bool) -> None:
        """Close what is left RUNNING, by this run or by one that is gone, so that it may be run again.

        Args:
            retries: how often a training may be started again after it took its run down.
            released: the run ends in order, so this attempt does not count.
        """
        self.flush()
        for row in [row for row in self.results.values() if row.state == "running"]:
            lost = released or not row.spec or row.attempt < retries
            reason = "the run ended before this training did"
            if not lost:
                reason += f", {row.attempt + 1} times"
            late = {"lost": lost, "released": released, "reason": reason}
            self._attach(self._id(row.number), late)
            self.storage.set_trial_state_values(self._id(row.number), TrialState.FAIL)
            self.results[row.number] = replace(
                row, state="failed", reason=reason, lost=lost, released=released
            )
        for trial in running_trials(self.storage, self._curves_id):
            row_of = self.results.get(trial.user_attrs.get("search_trial", -1))
            self._finish_mirror(trial._trial_id, row_of)

    def to_retry(self) -> list[TrialResult]:
        """The last row of each arch x seed x epochs whose training was lost and has not been started again."""
        rows = [self.results[number] for number in sorted(self.results)]
        recorded = {(row.key, row.seed, row.epochs) for row in rows if not row.lost}
        last = {(row.key, row.seed, row.epochs): row for row in rows if row.lost and row.spec}
        return [row for run, row in last.items() if run not in recorded]

    def snapshot(self) -> StudyRecord:
        """The study as it stands."""
        return StudyRecord(self.study.study_name, dict(self._attrs), tuple(self.results.values()))

    def _create(self) -> FrozenTrial:
        """A new trial, RUNNING and empty, which is not read back: trials are numbered as they are made."""
        trial_id = self.storage.create_new_trial(self._study_id)
        number = self._made
        if self._id(number) != trial_id:  # somebody else has added trials to the study meanwhile
            number = self.storage.get_trial_number_from_id(trial_id)
        self._made = number + 1
        nothing: dict[str, Any] = {"params": {}, "distributions": {}, "intermediate_values": {}}
        return FrozenTrial(
            number=number,
            trial_id=trial_id,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            user_attrs={},
            system_attrs={},
            **nothing,
        )

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _finish_mirror(self, trial_id: int, row: TrialResult | None) -> None:
        """Close a curve as its trial was closed."""
        state = _FINAL.get(row.state, TrialState.FAIL) if row is not None else TrialState.FAIL
        values = [row.error] if row is not None and row.error is not None else None
        self.storage.set_trial_state_values(trial_id, state, values)

    def _attach(
        self, trial_id: int, attributes: Mapping[str, Any], sites: Mapping[str, str] | None = None
    ) -> None:
        chosen = {site: (self.distributions[site], option) for site, option in (sites or {}).items()}
        write_batch(self.storage, trial_id, attributes, chosen)


def _attributes(row: TrialResult) -> dict[str, Any]:
    plain = {
        k: v
        for k, v in asdict(row).items()
        if k in ("key", "arch", "seed", "epochs", "role", "protected", "attempt")
    }
    costs = {f"cost:{name}": value for name, value in row.costs.items()}
    return {**plain, "spec": json.dumps(row.spec), "versions": json.dumps(row.versions), **costs}


def _counted(outcome: Outcome) -> dict[str, Any]:
    """What was answered, and every metric of it under a name of its own."""
    if outcome.counts is None:
        return {}
    scores = {f"score:{name}": round(score, 4) for name, score in outcome.counts.scores().items()}
    return {"counts": outcome.counts.to_json(), **scores}


def _line(epoch: Epoch) -> list[float]:
    """An epoch as it is kept; the error is not rounded, since stops are decided by it and again after a resume."""
    rounded = (round(epoch.train_loss, 5), round(epoch.val_loss, 5), epoch.val_error, round(epoch.seconds, 2))
    return [epoch.epoch, *rounded]


def _open_or_create(storage: BaseStorage, name: str, directions: list[str]) -> optuna.Study:
    known = {study.study_name: study for study in storage.get_all_studies()}
    if name not in known:
        storage.create_new_study([StudyDirection.MINIMIZE] * len(directions), name)
    return optuna.load_study(study_name=name, storage=storage)
