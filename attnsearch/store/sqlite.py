"""What SQLite alone can say of a study database: importing and asking Optuna takes longer than making a report.

A mistyped name is answered, and a study read, by SQL. Read so is only what is known: one layout of Optuna's tables, and
sites that are categories. Of all else (another layout, another study, a damaged file) this file decides nothing:
`study_store.read_record` reads it, or gives the reason why not.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attnsearch.core.checks import check_url
from attnsearch.core.errors import EnvironmentFault, UsageError, unknown
from attnsearch.core.metrics import ClassCounts
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, State, TrialResult

CURVES = "::curves"  # ends the name of a study that mirrors another one's curves
_DONE = """
SELECT study_name, (
    SELECT count(*) FROM trials WHERE trials.study_id = studies.study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
    AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'lost' AND value_json = 'true')
) FROM studies ORDER BY study_id
"""
OURS = "fingerprint"  # an attribute that every study of attnsearch has, once it has its companion
_MARKED = "SELECT study_name FROM studies JOIN study_user_attributes USING (study_id) WHERE key = ?"
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
    """The file of an SQLite URL; None for a database server."""
    checked = check_url(url)
    return Path(checked.removeprefix("sqlite:///")) if checked.startswith("sqlite:///") else None


def read_only(
    path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> contextlib.closing[sqlite3.Connection]:
    """A connection that writes nothing, closed when its block ends."""
    return contextlib.closing(sqlite3.connect(read_only_uri(path), uri=True, factory=factory))


def read_only_uri(path: Path) -> str:
    """What SQLite opens for reading, in a folder that cannot be written too.

    To read a database with a write-ahead log SQLite makes files beside it. Where it cannot, and there is nothing in
    the log, the file itself is all there is to know, and it is read as one that nobody changes.
    """
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
    log = path.with_name(f"{path.name}-wal")
    if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
        return uri
    return f"{uri}&immutable=1"


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
        known, others = _studies(path)
        if name in others:
            raise not_ours(name)
        if known and name is not None and name not in known:
            raise UsageError(unknown("study", name, known))


def check_free(name: str, url: str) -> None:
    """Raise `UsageError` for a study that has trainings already."""
    path = sqlite_path(url)
    if path is None or not path.is_file():
        return
    known, others = _studies(path)
    if name in others:
        raise not_ours(name)
    if done := known.get(name):
        raise UsageError(f"study '{name}' exists ({done} trials). Use --resume or another --study")


def trainings(path: Path) -> dict[str, int]:
    """Studies in the order they were made, with how many of their trainings ended; empty if it cannot be read."""
    return _studies(path)[0]


def _studies(path: Path) -> tuple[dict[str, int], set[str]]:
    """(`trainings`, names of studies that attnsearch did not make)."""
    try:
        with read_only(path) as database:
            rows = database.execute(_DONE).fetchall()
            marked = {name for (name,) in database.execute(_MARKED, (OURS,))}
    except (sqlite3.Error, ValueError):
        return {}, set()
    names = [name for name, _ in rows]
    ours = our_studies(names, marked)
    return {name: done for name, done in rows if name in ours}, others(names, marked)


def our_studies(names: Collection[str], marked: Collection[str]) -> list[str]:
    """Of all studies of a database, those that attnsearch made: they have our attribute, or a companion."""
    whole = set(names)
    return [n for n in names if not n.endswith(CURVES) and (n in marked or n + CURVES in whole)]


def others(names: Collection[str], marked: Collection[str]) -> set[str]:
    """Of all studies of a database, those that attnsearch did not make."""
    return {n for n in names if not n.endswith(CURVES)} - set(our_studies(names, marked))


def not_ours(name: str | None) -> UsageError:
    """The answer to a study that attnsearch did not make."""
    return UsageError(
        f"study '{name}' was not made by attnsearch, which leaves it alone; choose another name"
    )


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
        counts=ClassCounts.from_json(attrs["counts"]) if "counts" in attrs else None,
    )


def _record(database: sqlite3.Connection, name: str | None) -> StudyRecord | None:
    numbered = database.execute("SELECT study_name, study_id FROM studies ORDER BY study_id")
    numbers = dict(numbered.fetchall())
    marked = {marked for (marked,) in database.execute(_MARKED, (OURS,))}
    studies = {study: numbers[study] for study in our_studies(numbers, marked)}
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
