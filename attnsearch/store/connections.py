"""Connections to an SQLite file: how a run writes to it, how others read it, and how long either waits for it.

SQLite's own waiting says nothing and cannot be interrupted, so it is cut into slices: after the first one a note says
what is waited for. Once a wait was in vain the following ones are short, so that a run that gives up ends at once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from attnsearch.store.sqlite import read_only_uri

T = TypeVar("T")

BUSY = 60.0  # seconds: a dashboard or a backup may hold the file for a while, and no finished trial may be lost to it
SLICE = 2.0  # seconds of SQLite's own waiting
SHORT = 1.0  # seconds, once a wait was in vain
CHANGED = 517  # SQLITE_BUSY_SNAPSHOT: others wrote since this transaction read, and no waiting helps

_waits: dict[str, float] = {}  # file -> seconds a wait for it may take, where that is not BUSY


def patiently(file: str, call: Callable[[], T]) -> T:
    """The result of a call to SQLite, tried again while another program holds the file."""
    began = time.monotonic()
    noted = False
    while True:
        try:
            result = call()
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF != sqlite3.SQLITE_BUSY or code == CHANGED:
                raise
            waited = time.monotonic() - began
            if waited >= _waits.get(file, BUSY):
                _waits[file] = SHORT
                raise
            if not noted and waited >= SLICE / 2:
                noted = True
                logging.getLogger("attnsearch").warning(
                    "note: %s is locked by another program; waiting for it, up to %g s", file, BUSY
                )
            time.sleep(0.05)
        else:
            _waits.pop(file, None)
            return result


class _Cursor(sqlite3.Cursor):
    connection: Patient

    def execute(self, *args: Any) -> _Cursor:
        patiently(self.connection.file, lambda: super(_Cursor, self).execute(*args))
        return self

    def executemany(self, *args: Any) -> _Cursor:
        patiently(self.connection.file, lambda: super(_Cursor, self).executemany(*args))
        return self


class Patient(sqlite3.Connection):
    """A connection that waits as this module says."""

    def __init__(self, database: Any, *args: Any, **options: Any) -> None:
        super().__init__(database, *args, **options | {"timeout": min(SLICE, BUSY)})
        self.file = unquote(os.fspath(database).removeprefix("file:").partition("?mode=")[0])

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def commit(self) -> None:
        patiently(self.file, super().commit)


class _Run(Patient):
    """Every connection of a run."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


class _Draft(sqlite3.Connection):
    """To a file that nobody else knows yet, and that is thrown away unless it is finished."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA journal_mode=MEMORY")
        self.execute("PRAGMA synchronous=OFF")


# SQLAlchemy would take a question mark or a percent sign of a path for its own, so it is given connections
# and an address that stands for any file.
ADDRESS = "sqlite:///studies.db"


def engine_options(path: Path, *, write: bool) -> dict[str, Any]:
    """Options of SQLAlchemy's engine on this file; where it cannot be written, connections that only read."""
    if write or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return _options(lambda: sqlite3.connect(path, factory=_Run, check_same_thread=False))
    uri = read_only_uri(path)
    return _options(lambda: sqlite3.connect(uri, uri=True, factory=Patient, check_same_thread=False))


def draft_options(path: Path) -> dict[str, Any]:
    """Options of the engine that makes a new file."""
    return _options(lambda: sqlite3.connect(path, factory=_Draft, check_same_thread=False))


def _options(creator: Callable[[], sqlite3.Connection]) -> dict[str, Any]:
    return {"creator": creator}
