"""What SQLite alone can say of a study database: importing and asking Optuna takes longer than making a report.

A mistyped name is answered, and a study read, by SQL. Read so is only what is known: one layout of Optuna's tables, and
sites that are categories. Of all else (another layout, another study, a damaged file) this file decides nothing:
`study_store.read_record` reads it, or gives the reason why not.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attnsearch.core.errors import EnvironmentFault, UsageError, unknown
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, State, TrialResult

CURVES = "::curves"  # ends the name of a study that mirrors another one's curves
_DONE = """
SELECT study_name, (
    SELECT count(*) FROM trials WHERE trials.study_id = studies.study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
    AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'lost' AND value_json = 'true')
) FROM studies ORDER BY study_id
"""
LAYOUT = "v3.2.0.a"  # Optuna's revision of its tables
# All else still runs.
STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}
_ENDLESS = {"INF_POS": math.inf, "INF_NEG": -math.inf}

_TRIALS = """
SELECT trials.trial_id, number, state, value, value_type FROM trials
LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id AND objective = 0
WHERE study_id = ? ORDER BY trials.trial_id
"""
_ATTRIBUTES = """
SELECT trial_id, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id)
WHERE study_id = ? ORDER BY trial_id, key
"""
_SITES = """
SELECT trial_id, param_name, param_value, distribution_json FROM trial_params JOIN trials USING (trial_id)
WHERE study_id = ? ORDER BY param_id
"""


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL."""
    return Path(url.split("sqlite:///", 1)[1]) if url.startswith("sqlite:///") else None


def read_only(path: Path, timeout: float = 5.0) -> contextlib.closing[sqlite3.Connection]:
    """A connection that writes nothing, closed when its block ends; `timeout` in seconds, for a lock to go."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=timeout))


def check_is_there(path: Path) -> None:
    """Raise `EnvironmentFault` where there is no such database."""
    if not path.is_file():
        raise EnvironmentFault(
            f"No study database at {path}; run `attnsearch run` first, or name another with --storage"
        )


def check_study(name: str | None, url: str) -> None:
    """Raise `UsageError` for a study that the database does not hold, `EnvironmentFault` where there is none.

    A database that cannot be read so passes: who opens it says what it is.
    """
    if (path := sqlite_path(url)) is not None:
        check_is_there(path)
        known = trainings(path)
        if known and name is not None and name not in known:
            raise UsageError(unknown("study", name, known))


def check_free(name: str, url: str) -> None:
    """Raise `UsageError` for a study that has trainings already."""
    path = sqlite_path(url)
    if path is not None and path.is_file() and (done := trainings(path).get(name)):
        raise UsageError(f"study '{name}' exists ({done} trials). Use --resume or another --study")


def trainings(path: Path) -> dict[str, int]:
    """Studies in the order they were made, with how many of their trainings ended; empty if it cannot be read."""
    try:
        with read_only(path) as database:
            rows = database.execute(_DONE).fetchall()
    except (sqlite3.Error, ValueError):
        return {}
    return {name: done for name, done in rows if not name.endswith(CURVES)}


def read_sqlite(path: Path, name: str | None) -> StudyRecord | None:
    """A study, the latest one when `name` is None; None where only Optuna can read it."""
    try:
        with read_only(path) as database:
            database.execute("BEGIN")  # all tables as they stand at one moment
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            known = database.execute("SELECT version_num FROM alembic_version").fetchall() == [(LAYOUT,)]
            return _record(database, name) if sound and known else None
    except (sqlite3.Error, ValueError, LookupError, TypeError):
        return None


def to_row(
    number: int, state: str, error: float | None, attrs: Mapping[str, Any], sites: Mapping[str, str]
) -> TrialResult:
    """One trial as Optuna keeps it, with its state's name, first value, user attributes and parameters, as a row."""
    return TrialResult(
        key=attrs.get("key", ""),
        arch=attrs.get("arch", ""),
        seed=attrs.get("seed", 0),
        epochs=attrs.get("epochs", 0),
        state=STATES.get(state, "running"),
        number=number,
        spec=json.loads(attrs.get("spec", "{}")),
        error=error if state == "COMPLETE" else None,
        costs={key.removeprefix("cost:"): value for key, value in attrs.items() if key.startswith("cost:")},
        curve=tuple(Epoch(*entry) for entry in json.loads(attrs.get("curve", "[]"))),
        reason=attrs.get("reason", ""),
        role=attrs.get("role", "search"),
        protected=attrs.get("protected", False),
        attempt=attrs.get("attempt", 0),
        seconds=attrs.get("seconds", 0.0),
        device=attrs.get("device", ""),
        versions=json.loads(attrs.get("versions", "{}")),
        sites=dict(sites),
        lost=attrs.get("lost", False),
        released=attrs.get("released", False),
        audited=bool(attrs.get("audited")),
    )


def _record(database: sqlite3.Connection, name: str | None) -> StudyRecord | None:
    numbered = database.execute("SELECT study_name, study_id FROM studies ORDER BY study_id")
    studies = {study: number for study, number in numbered if not study.endswith(CURVES)}
    name = name or list(studies)[-1]
    study = (studies[name],)
    rows = database.execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", study)
    study_attrs = {key: json.loads(value) for key, value in rows}
    attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial, key, value in database.execute(_ATTRIBUTES, study):
        attrs[trial][key] = json.loads(value)
    sites = _sites(database, study)
    trials = tuple(
        to_row(number, state, _ENDLESS.get(kind, value), attrs[trial], sites[trial])
        for trial, number, state, value, kind in database.execute(_TRIALS, study)
    )
    return StudyRecord(name, study_attrs, trials)


def _sites(database: sqlite3.Connection, study: tuple[int]) -> dict[int, dict[str, str]]:
    """Chosen options by trial and site; Optuna keeps an option's place among those of a categorical parameter."""
    options: dict[str, list[str]] = {}
    sites: dict[int, dict[str, str]] = defaultdict(dict)
    for trial, site, place, distribution in database.execute(_SITES, study):
        if distribution not in options:
            options[distribution] = json.loads(distribution)["attributes"]["choices"]
        sites[trial][site] = options[distribution][int(place)]
    return sites
