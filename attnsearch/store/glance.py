"""Which studies a database holds, at a glance: SQLite alone is asked, so that a wrong name is answered in milliseconds.

Everything else about a database is `database`'s to say, which imports Optuna.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from attnsearch.core.errors import EnvironmentFault, UsageError, unknown

CURVES = "::curves"  # ends the name of a study that mirrors another one's curves
_DONE = """
SELECT study_name, (
    SELECT count(*) FROM trials WHERE trials.study_id = studies.study_id AND state IN ('COMPLETE', 'PRUNED', 'FAIL')
    AND trial_id NOT IN (SELECT trial_id FROM trial_user_attributes WHERE key = 'lost' AND value_json = 'true')
) FROM studies ORDER BY study_id
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

    A database that cannot be read at a glance passes: who opens it says what it is.
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
