"""What SQLite alone can say of a study database: importing and asking Optuna takes longer than making a report.

A mistyped name is answered, and a study read (see `records`), by SQL. Of what it cannot read (another layout, another
study, a damaged file) this file decides nothing: `read.read_record` reads it, or gives the reason why not.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from attnsearch.core.checks import check_url
from attnsearch.core.errors import EnvironmentFault, UsageError, unknown
from attnsearch.core.study_info import StudyRecord
from attnsearch.store.records import CURVES, is_known_layout, marked_studies, our_studies, read_study

_DONE = """
SELECT study_name, (
    SELECT count(*) FROM trials WHERE trials.study_id = studies.study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
    AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'lost' AND value_json = 'true')
) FROM studies ORDER BY study_id
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
            marked = marked_studies(database.execute)
    except (sqlite3.Error, ValueError):
        return {}, set()
    names = [name for name, _ in rows]
    ours = our_studies(names, marked)
    return {name: done for name, done in rows if name in ours}, others(names, marked)


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
            known = sound and is_known_layout(database.execute)
            return read_study(database.execute, name) if known else None
    except (sqlite3.Error, ValueError, LookupError, TypeError):
        return None
