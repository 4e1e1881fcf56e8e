"""A study read from an open storage: by SQL where its tables are as they are known, by Optuna where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.store import records
from attnsearch.store.outages import server_call
from attnsearch.store.records import OURS, our_studies
from attnsearch.store.sqlite import not_ours, others


def study_names(storage: BaseStorage) -> list[str]:
    """Studies of attnsearch in the order they were made, companions left out."""
    return our_studies(*named_studies(storage))


def named_studies(storage: BaseStorage) -> tuple[list[str], set[str]]:
    """(names of all studies, of those that have our attribute)."""
    studies = storage.get_all_studies()
    return [s.study_name for s in studies], {s.study_name for s in studies if OURS in s.user_attrs}


def read_record(storage: BaseStorage, name: str) -> StudyRecord:
    """A study with its trials, finished or not; raises `UsageError` for an unknown name."""
    return read_study(_load(storage, name), storage)


def read_info(storage: BaseStorage, name: str) -> StudyInfo:
    """What a study says of itself, without its trials; raises `UsageError` for an unknown name."""
    return StudyInfo.from_attrs(_load(storage, name).user_attrs)


def _load(storage: BaseStorage, name: str) -> optuna.Study:
    known = study_names(storage)
    if name in others(*named_studies(storage)):
        raise not_ours(name)
    if name not in known:
        raise UsageError(unknown("study", name, known))
    return optuna.load_study(study_name=name, storage=storage)


@contextmanager
def _snapshot(engine: Any) -> Iterator[Any]:
    """A connection whose every query sees the database as it stands at one moment."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def running_trials(storage: Any, study_id: int) -> list[FrozenTrial]:
    """Asked of the database itself: Optuna's cache would read every trial there is."""
    running: list[FrozenTrial] = storage._backend.get_all_trials(study_id, False, (TrialState.RUNNING,))
    return running


def read_study(study: optuna.Study, storage: Any) -> StudyRecord:
    """A study by SQL, or by Optuna where its tables or parameters are not as they are known."""
    known = server_call(storage)(lambda again: _by_sql(storage._backend.engine, study.study_name))
    if known is not None:
        return known
    trials = tuple(to_result(trial) for trial in study.get_trials(deepcopy=False))
    return StudyRecord(study.study_name, dict(study.user_attrs), trials)


def _by_sql(engine: Any, name: str) -> StudyRecord | None:
    """None where Optuna must read it, or say why it cannot."""
    try:
        with _snapshot(engine) as connection:

            def execute(sql: str, values: Mapping[str, Any]) -> Iterable[Any]:
                rows: Iterable[Any] = connection.execute(text(sql), values)
                return rows

            return records.read_study(execute, name) if records.is_known_layout(execute) else None
    except (LookupError, TypeError, ValueError):
        return None


def to_result(trial: FrozenTrial) -> TrialResult:
    """One Optuna trial as a row."""
    error = trial.values[0] if trial.values else None
    return records.to_row(trial.number, trial.state.name, error, trial.user_attrs, trial.params)
