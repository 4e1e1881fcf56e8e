"""Optuna's storage on a database server that may go away for a while: every call waits for it and is made again.

A commit whose answer got lost may have been made or not, so a call that is made again first looks whether it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

T = TypeVar("T")

OUTAGE = 60.0  # seconds that a server may be gone: a restart, a failover, a cut line
PAUSES = 0.1, 2.0  # seconds between two attempts: the first, and what it doubles up to
_OUTLASTING = (
    "create_new_study",
    "delete_study",
    "get_all_studies",
    "get_all_trials",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_system_attr",
    "set_trial_user_attr",
    "_get_trials",
    "_set_trial_param",
)


def outlast(call: Callable[[bool], T]) -> T:
    """The result of a call to the server, made again while the server is away, for `OUTAGE` seconds at most.

    Args:
        call: gets whether it was made before.
    """
    began, (pause, longest), again = time.monotonic(), PAUSES, False
    while True:
        try:
            return call(again)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not is_outage(error) or time.monotonic() - began > OUTAGE:
                raise
        if not again:
            logging.getLogger("attnsearch").warning(
                "note: the database server does not answer; waiting for it, up to %g s, while trainings go on",
                OUTAGE,
            )
        again = True
        time.sleep(pause)
        pause = min(longest, 2 * pause)


def is_outage(error: BaseException) -> bool:
    """Whether the server was not there, or went away; Optuna wraps what SQLAlchemy says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
            return True
        if isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated:
            return True
        cause = cause.__cause__
    return False


def server_call(storage: Any) -> Callable[[Callable[[bool], T]], T]:
    """`outlast` for a storage on a server; for a file, a single attempt: its connections wait for themselves."""
    return outlast if isinstance(storage._backend, ServerStorage) else lambda call: call(False)


class ServerStorage(RDBStorage):
    """An `RDBStorage` that outlasts its server's absence; one process at a time creates trials (see `owner`)."""

    def __init__(self, url: str) -> None:
        super().__init__(url, engine_kwargs={"pool_pre_ping": True})
        self._newest: dict[int, int] = {}  # study -> highest number of its trials; -1 where there is none

    def set_trial_state_values(self, trial_id: int, state: Any, values: Any = None) -> bool:
        def call(again: bool) -> bool:
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if again:
                    return True  # the commit was made, its answer was lost
                raise

        return outlast(call)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        if study_id not in self._newest:
            self._newest[study_id] = self._highest(study_id)
        newest = self._newest[study_id]

        def call(again: bool) -> FrozenTrial:
            if again and self._highest(study_id) > newest:
                made = self.get_trial_id_from_study_id_trial_number(study_id, newest + 1)
                return self.get_trial(made)
            return RDBStorage._create_new_trial(self, study_id, template_trial)

        trial = outlast(call)
        self._newest[study_id] = trial.number
        return trial

    def _highest(self, study_id: int) -> int:
        query = sqlalchemy.text("SELECT max(number) FROM trials WHERE study_id = :study")

        def call(again: bool) -> int:
            with self.engine.connect() as connection:
                highest = connection.execute(query, {"study": study_id}).scalar()
            return -1 if highest is None else int(highest)

        return outlast(call)


def _outlasting(name: str) -> Callable[..., Any]:
    plain = getattr(RDBStorage, name)

    def method(self: ServerStorage, *args: Any, **options: Any) -> Any:
        return outlast(lambda again: plain(self, *args, **options))

    method.__name__, method.__doc__ = name, plain.__doc__
    return method


for _name in _OUTLASTING:
    setattr(ServerStorage, _name, _outlasting(_name))
