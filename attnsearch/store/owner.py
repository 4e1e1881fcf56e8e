"""The one coordinator of a study on a PostgreSQL server: a lock, a row, and a check in every transaction.

The lock is the session's and frees itself with its process; a restart of the server frees it too. So there is a row
beside it, which names the owner by a token and says when it was last alive. Every transaction of the owner touches the
row before it commits, and none commits once the token is another's: whoever takes the study over is alone with it from
that moment. After a restart of the server, a study is taken over only when its owner has not been heard for `LEASE`
seconds, which is longer than an owner waits for a server that is away.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import text

from attnsearch.core.errors import EnvironmentFault
from attnsearch.store.outages import OUTAGE

LEASE = OUTAGE + 30.0  # seconds
BEAT = 10.0  # seconds between signs of life where nothing is written
TABLE = "attnsearch_owners"

_MAKE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (study text PRIMARY KEY, token text, holder text, seen timestamptz)
"""
_LOCK = "SELECT pg_try_advisory_lock(:first, :second)"
_READ = f"""
SELECT token, holder, extract(epoch FROM clock_timestamp() - seen), seen < pg_postmaster_start_time()
FROM {TABLE} WHERE study = :study
"""
_TAKE = f"""
INSERT INTO {TABLE} VALUES (:study, :token, :holder, clock_timestamp()) ON CONFLICT (study)
DO UPDATE SET token = excluded.token, holder = excluded.holder, seen = excluded.seen
"""
_TOUCH = f"UPDATE {TABLE} SET seen = clock_timestamp() WHERE study = :study AND token = :token"
_LEAVE = f"DELETE FROM {TABLE} WHERE study = :study AND token = :token"


@contextlib.contextmanager
def owned_on_server(url: str, name: str, storage: Any = None) -> Iterator[None]:
    """Hold a study while the block runs.

    Args:
        storage: an open storage; none of its transactions commits once the study has another owner.

    Raises:
        EnvironmentFault: another process runs this study, named by process and host.
    """
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    owner = _Owner(engine, name)
    with contextlib.ExitStack() as held:
        held.callback(engine.dispose)
        owner.take()
        held.callback(owner.leave)
        held.enter_context(owner.alive())
        if storage is not None:
            held.enter_context(_checked(storage._backend.engine, owner))
        yield


@contextlib.contextmanager
def _checked(engine: sqlalchemy.Engine, owner: _Owner) -> Iterator[None]:
    sqlalchemy.event.listen(engine, "commit", owner.confirm)
    try:
        yield
    finally:
        sqlalchemy.event.remove(engine, "commit", owner.confirm)


class _Owner:
    def __init__(self, engine: sqlalchemy.Engine, name: str) -> None:
        self.engine, self.name = engine, name
        words = hashlib.sha256(f"attnsearch/{name}".encode()).digest()
        first, second = (int.from_bytes(words[i : i + 4], signed=True) for i in (0, 4))
        self.keys = {"first": first, "second": second}
        self.mine = {"study": name, "token": uuid.uuid4().hex}
        self.holder = f"pid {os.getpid()} on {socket.gethostname()}"
        self._session: sqlalchemy.Connection | None = None
        self._locked = False  # whether this session holds the lock
        self._guard = threading.RLock()  # the session is used by the run and by its signs of life

    def take(self) -> None:
        """Take the lock and write the row; waits where the server was restarted under an owner that may be alive."""
        noted = False
        while True:
            with self._connected() as session:
                with contextlib.suppress(sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                    session.execute(text(_MAKE))  # of two that make it at once, one fails
                locked = session.execute(text(_LOCK), self.keys).scalar()
                row = session.execute(text(_READ), {"study": self.name}).first()
                if not locked:
                    raise self._refusal(row)
                if row is None or not row[3] or row[2] > LEASE:
                    session.execute(text(_TAKE), {**self.mine, "holder": self.holder})
                    self._locked = True
                    return
                left = LEASE - float(row[2])
                self._disconnect()  # and free the lock, for an owner that is alive
            if not noted:
                noted = True
                logging.getLogger("attnsearch").warning(
                    "note: the database server was restarted under %s, which may go on with study '%s'; "
                    "waiting up to %.0f s for a sign of life",
                    row[1],
                    self.name,
                    left,
                )
            time.sleep(min(1.0, left + 0.1))

    def confirm(self, connection: sqlalchemy.Connection) -> None:
        """Touch the row in a transaction that is about to commit; raises where it is another's."""
        self._keep_lock()
        if connection.execute(text(_TOUCH), self.mine).rowcount != 1:
            raise self._loss()

    def leave(self) -> None:
        """Give the study back; a server that is away has freed the lock already."""
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError), self._connected() as session:
            session.execute(text(_LEAVE), self.mine)
        self._disconnect()

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Signs of life while the block runs, for the times in which nothing is written."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT):
                with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError, EnvironmentFault):
                    self._keep_lock()
                    with self._connected() as session:
                        session.execute(text(_TOUCH), self.mine)

        thread = threading.Thread(target=beat, name="attnsearch-owner", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(BEAT)

    def _keep_lock(self) -> None:
        """Take the lock again where its session was lost and the row is still ours."""
        with self._guard:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                if self._locked:
                    with self._connected() as session:
                        session.execute(text("SELECT 1"))
                        return
            for _ in range(20):  # another process may hold it for a moment, to learn whether we are alive
                with self._connected() as session:
                    row = session.execute(text(_READ), {"study": self.name}).first()
                    if row is None or row[0] != self.mine["token"]:
                        raise self._loss()
                    if session.execute(text(_LOCK), self.keys).scalar():
                        session.execute(text(_TOUCH), self.mine)
                        self._locked = True
                        return
                time.sleep(0.25)
            raise self._loss()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlalchemy.Connection]:
        with self._guard:
            try:
                if self._session is None:
                    self._session = self.engine.connect()
                yield self._session
            except sqlalchemy.exc.SQLAlchemyError:
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        with self._guard, contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
            if self._session is not None:
                session, self._session, self._locked = self._session, None, False
                session.invalidate()
                session.close()

    def _refusal(self, row: Any) -> EnvironmentFault:
        holder = "another process" if row is None else row[1]
        return EnvironmentFault(
            f"study '{self.name}' is being run by {holder}; wait for it, or choose another --study"
        )

    def _loss(self) -> EnvironmentFault:
        return EnvironmentFault(
            f"another process has taken study '{self.name}' over while the database did not answer to this one; "
            "this run stops and writes no more"
        )
