"""The store: one Optuna study is the record of truth, and every trial in it can be read with plain Optuna.

A trial of the study is one training. Its parameters are the space's sites, its values the validation error in percent
and the cost, its user attributes everything else, one readable attribute for each thing. Learning curves are mirrored
live into a companion study `NAME::curves`, since Optuna keeps intermediate values for one objective only (and its TPE
sampler fails on a study of two that has them).

One coordinator at a time owns a study: it holds a lock beside the database (or an advisory lock in PostgreSQL), so at
its start every trial still RUNNING is known to be dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from attnsearch.engines import Outcome
from attnsearch.errors import EnvironmentFault, UsageError, did_you_mean
from attnsearch.names import check_url, masked
from attnsearch.trial import Epoch, StudyRecord, TrialResult

CURVES = "::curves"
_FINAL = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, *, create: bool) -> optuna.storages.BaseStorage:
    """Connect; a database that is missing is made only with `create`.

    Raises:
        EnvironmentFault: no such file, not a database, no driver, no connection. Passwords are masked.
    """
    url = check_url(url)
    path = sqlite_path(url)
    if path is not None:
        if not create and not path.is_file():
            raise EnvironmentFault(
                f"No study database at {path}; run `attnsearch run` first, or name another with --storage"
            )
        _writable_folder(path.parent) if create else None
    try:
        storage = RDBStorage(url, engine_kwargs=_engine(path))
        if path is not None:
            _tune_sqlite(storage)
        return optuna.storages.get_storage(storage)
    except ModuleNotFoundError:
        raise EnvironmentFault(
            f"cannot connect to {masked(url)}: no driver; pip install 'attnsearch[postgres]'"
        ) from None
    except ImportError as error:
        raise EnvironmentFault(
            f"cannot connect to {masked(url)}: pip install 'attnsearch[postgres]' ({type(error).__name__})"
        ) from None
    except (
        sqlalchemy.exc.DatabaseError,
        RuntimeError,
        AssertionError,
        optuna.exceptions.StorageInternalError,
    ) as error:
        raise _fault(url, path, error) from None


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL."""
    return Path(url.split("sqlite:///", 1)[1]) if url.startswith("sqlite:///") else None


def study_names(storage: optuna.storages.BaseStorage) -> list[str]:
    """Studies in the order they were made, companions left out."""
    return [study.study_name for study in storage.get_all_studies() if not study.study_name.endswith(CURVES)]


@contextlib.contextmanager
def owned(url: str, name: str, out: Path) -> Iterator[None]:
    """Hold the study for one coordinator; a dead holder's lock frees itself.

    Raises:
        EnvironmentFault: another process runs this study, named by process and host.
    """
    path = sqlite_path(check_url(url))
    if path is None:
        with _advisory_lock(url, name):
            yield
        return
    file = path.with_name(f"{path.name}.{name}.lock")
    with open(file, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise EnvironmentFault(
                f"study '{name}' is being run by {holder}; wait for it, or choose another --study"
            ) from None
        handle.truncate(0)
        handle.write(f"pid {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


class Book:
    """The study as its one coordinator writes it; `results` is kept in memory, in step with the storage.

    Args:
        storage: from `open_storage`.
        name: of the study.
        sites: options of each site, in order; the study's parameters.
        objectives: readable names of the values, the first is the validation error.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        sites: Mapping[str, Sequence[str]],
        objectives: Sequence[str],
    ) -> None:
        self.storage = storage
        self.distributions: dict[str, BaseDistribution] = {
            s: CategoricalDistribution(tuple(o)) for s, o in sites.items()
        }
        self.study = _open_or_create(storage, name, ["minimize"] * len(objectives))
        self.study.set_metric_names(list(objectives))
        self._curves = _open_or_create(storage, name + CURVES, ["minimize"])
        self._curves.set_metric_names([objectives[0]])
        self._mirror: dict[int, int] = {}
        self.results: dict[int, TrialResult] = {
            r.number: r for r in map(to_result, self.study.get_trials(deepcopy=False))
        }

    def begin(self, row: TrialResult, sites: Mapping[str, str] | None) -> TrialResult:
        """Write a trial as RUNNING with all that is known before training; gives it back with its number."""
        params = dict(sites or {})
        distributions = {site: self.distributions[site] for site in params}
        template = create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=_attributes(row)
        )
        trial_id = self.storage.create_new_trial(self.study._study_id, template)
        number = self.storage.get_trial_number_from_id(trial_id)
        row = replace(row, number=number)
        self.results[number] = row
        self._begin_mirror(row, params)
        return row

    def ask(self, sampler: optuna.samplers.BaseSampler) -> tuple[int, dict[str, str]]:
        """A new trial from the sampler: its number and the option of each site. `describe` says the rest of it."""
        self.study.sampler = sampler
        known = {trial.number for trial in self.study.get_trials(deepcopy=False)}
        try:
            trial = self.study.ask(self.distributions)
        except BaseException:
            for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if left.number not in known:  # asked for and never given: close it, or it would run for ever
                    self.storage.set_trial_user_attr(left._trial_id, "lost", True)
                    self.storage.set_trial_state_values(left._trial_id, TrialState.FAIL)
            raise
        return trial.number, dict(trial.params)

    def describe(self, row: TrialResult, sites: Mapping[str, str]) -> TrialResult:
        """Say of a trial that `ask` made what `begin` says of its own."""
        for key, value in _attributes(row).items():
            self.storage.set_trial_user_attr(self._id(row.number), key, value)
        self.results[row.number] = row
        self._begin_mirror(row, sites)
        return row

    def epoch(self, number: int, epoch: Epoch, rung: int | None = None) -> None:
        """Mirror one epoch; at a rung its error is also kept with the trial."""
        self.storage.set_trial_intermediate_value(self._mirror[number], epoch.epoch, epoch.val_error)
        if rung is not None:
            self.storage.set_trial_user_attr(self._id(number), f"rung:{rung}", epoch.val_error)

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
        )
        trial_id = self._id(number)
        curve = [
            [
                e.epoch,
                round(e.train_loss, 5),
                round(e.val_loss, 5),
                round(e.val_error, 4),
                round(e.seconds, 2),
            ]
            for e in outcome.curve
        ]
        late = {
            "curve": json.dumps(curve),
            "seconds": round(outcome.seconds, 3),
            "device": outcome.device,
            **(extra or {}),
        }
        if outcome.reason:
            late["reason"] = outcome.reason
        if outcome.lost:
            late["lost"] = True
        for key, value in late.items():
            self.storage.set_trial_user_attr(trial_id, key, value)
        values = [error, *self._cost_values(row)] if error is not None else None
        self.storage.set_trial_state_values(trial_id, _FINAL[outcome.state], values)
        self._finish_mirror(number, outcome, error)
        self.results[number] = row
        return row

    def note(self, number: int, **attributes: Any) -> None:
        """Further attributes of a trial."""
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(self._id(number), key, value)

    def facts(self, **facts: Any) -> None:
        """Keep facts of the study, as plain JSON values."""
        for key, value in facts.items():
            self.storage.set_study_user_attr(self.study._study_id, key, value)

    def fact(self, key: str) -> Any:
        return self.study.user_attrs.get(key)

    def dead(self) -> list[TrialResult]:
        """Trials left RUNNING by a coordinator that is gone; they are closed as lost and given back to be run again."""
        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            row = to_result(trial)
            self.storage.set_trial_user_attr(trial._trial_id, "lost", True)
            self.storage.set_trial_user_attr(
                trial._trial_id, "reason", "the run ended before this training did"
            )
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            self.results[row.number] = replace(
                row, state="failed", reason="the run ended before this training did"
            )
            found.append(row)
        for trial in self._curves.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return found

    def record(self) -> StudyRecord:
        """Facts and trials as they stand."""
        return StudyRecord(self.study.study_name, dict(self.study.user_attrs), tuple(self.results.values()))

    def _begin_mirror(self, row: TrialResult, sites: Mapping[str, str]) -> None:
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(sites),
            distributions={site: self.distributions[site] for site in sites},
            user_attrs={"search_trial": row.number, "arch": row.arch, "seed": row.seed},
        )
        self._mirror[row.number] = self.storage.create_new_trial(self._curves._study_id, template)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)

    def _cost_values(self, row: TrialResult) -> list[float]:
        return [row.costs[name] for name in self.fact("costs_chosen")]

    def _finish_mirror(self, number: int, outcome: Outcome, error: float | None) -> None:
        values = None if error is None else [error]
        self.storage.set_trial_state_values(self._mirror.pop(number), _FINAL[outcome.state], values)


def read_record(storage: optuna.storages.BaseStorage, name: str) -> StudyRecord:
    """A study's facts and trials, finished or not; raises `UsageError` for an unknown name."""
    known = study_names(storage)
    if name not in known:
        raise UsageError(
            f"Unknown study '{name}'.{did_you_mean(name, known)} Known: {', '.join(known) or 'none yet'}"
        )
    study = optuna.load_study(study_name=name, storage=storage)
    return StudyRecord(
        name, dict(study.user_attrs), tuple(to_result(t) for t in study.get_trials(deepcopy=False))
    )


def to_result(trial: FrozenTrial) -> TrialResult:
    """One Optuna trial as a row."""
    kept = trial.user_attrs
    curve = tuple(Epoch(*entry) for entry in json.loads(kept.get("curve", "[]")))
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
    return TrialResult(
        key=kept.get("key", ""),
        arch=kept.get("arch", ""),
        seed=kept.get("seed", 0),
        epochs=kept.get("epochs", 0),
        state=states.get(trial.state, "running"),  # type: ignore[arg-type]
        number=trial.number,
        spec=json.loads(kept.get("spec", "{}")),
        error=trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None,
        costs={key.removeprefix("cost:"): value for key, value in kept.items() if key.startswith("cost:")},
        curve=curve,
        reason=kept.get("reason", ""),
        role=kept.get("role", "search"),
        protected=kept.get("protected", False),
        attempt=kept.get("attempt", 0),
        seconds=kept.get("seconds", 0.0),
        device=kept.get("device", ""),
        versions=json.loads(kept.get("versions", "{}")),
        sites=dict(trial.params),
        lost=kept.get("lost", False),
    )


def _attributes(row: TrialResult) -> dict[str, Any]:
    plain = {
        k: v
        for k, v in asdict(row).items()
        if k in ("key", "arch", "seed", "epochs", "role", "protected", "attempt")
    }
    costs = {f"cost:{name}": value for name, value in row.costs.items()}
    return {**plain, "spec": json.dumps(row.spec), "versions": json.dumps(row.versions), **costs}


def _open_or_create(storage: optuna.storages.BaseStorage, name: str, directions: list[str]) -> optuna.Study:
    known = {study.study_name: study for study in storage.get_all_studies()}
    if name not in known:
        storage.create_new_study([StudyDirection.MINIMIZE] * len(directions), name)
    return optuna.load_study(study_name=name, storage=storage)


def _engine(path: Path | None) -> dict[str, Any]:
    # 60 s: a dashboard or a backup may hold the file for a while, and no finished trial may be lost to it
    return {"connect_args": {"timeout": 60}} if path is not None else {"pool_pre_ping": True}


def _tune_sqlite(storage: RDBStorage) -> None:
    """Write-ahead log: readers never block the writer, and a commit costs no full fsync."""

    def pragmas(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    sqlalchemy.event.listen(storage.engine, "connect", pragmas)
    storage.engine.dispose()


def _writable_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot create results directory {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise EnvironmentFault(f"cannot create results directory {folder}: not writable")


def _fault(url: str, path: Path | None, error: BaseException) -> EnvironmentFault:
    cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()
    said = masked(cause[0] if cause else type(error).__name__)
    if path is not None:
        return EnvironmentFault(
            f"{path} cannot be used as a study database ({said}); move it away or restore it from a backup"
        )
    return EnvironmentFault(f"cannot connect to {masked(url)}: {said}")


@contextlib.contextmanager
def _advisory_lock(url: str, name: str) -> Iterator[None]:
    engine = sqlalchemy.create_engine(check_url(url), pool_pre_ping=True)
    try:
        with engine.connect() as connection:
            held = connection.execute(
                sqlalchemy.text("select pg_try_advisory_lock(hashtext(:n))"), {"n": f"attnsearch/{name}"}
            ).scalar()
            if not held:
                raise EnvironmentFault(
                    f"study '{name}' is being run by another process on this database; wait for it"
                )
            yield
    except sqlalchemy.exc.OperationalError as error:
        raise _fault(url, None, error) from None
    finally:
        engine.dispose()
