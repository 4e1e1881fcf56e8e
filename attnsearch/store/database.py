"""The database of studies: making it, checking it, locking it, and saying in one sentence what is wrong with it.

SQLite runs in WAL mode (readers never block the writer, a commit costs no fsync) with `synchronous=NORMAL`: a power
cut may lose the last commits, never the file. A new file is made whole beside its place and renamed, under a lock, so
that processes that start together do not build its tables over each other. A file that is there is looked at before
anything writes to it, and one that is not a sound study database is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from attnsearch.core.checks import check_url, masked
from attnsearch.core.errors import EnvironmentFault
from attnsearch.store.connections import ADDRESS, BUSY, Patient, draft_options, engine_options
from attnsearch.store.locks import is_locked, locked, study_lock
from attnsearch.store.outages import ServerStorage
from attnsearch.store.owner import owned_on_server
from attnsearch.store.sqlite import check_is_there, read_only, sqlite_path

# SQLite's write-ahead log needs memory that all its processes share, which no network file system has.
SHARED = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "fuse.sshfs")
_BROKEN = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)
_UNREADABLE = (ValueError, LookupError, TypeError, RuntimeError, AssertionError)


def open_storage(url: str, *, create: bool) -> BaseStorage:
    """Connect; a database that is missing is made only with `create`, and one that is there is then backed up.

    Raises:
        EnvironmentFault: no such file, not a sound study database, no driver, no connection. Passwords are masked.
    """
    url = check_url(url)
    path = sqlite_path(url)
    if path is not None:
        made = create and _make_sqlite(path)
        check_is_there(path)
        _check_sqlite(path)
        if create and not made:
            _back_up(path)
    try:
        with faults(url, reading=True):
            made_of: RDBStorage
            if path is None:
                made_of = ServerStorage(url)
            else:
                made_of = RDBStorage(ADDRESS, engine_kwargs=engine_options(path, write=create))
            return optuna.storages.get_storage(made_of)
    except ImportError as error:
        reason = f"cannot connect to {masked(url)}: no driver ({error}); pip install 'attnsearch[postgres]'"
        raise EnvironmentFault(reason) from error


@contextlib.contextmanager
def faults(url: str, *, reading: bool = False) -> Iterator[None]:
    """Say what the database cannot do as an `EnvironmentFault`.

    Args:
        reading: also take what cannot be understood in it for damage.
    """
    try:
        yield
    except sqlalchemy.exc.IntegrityError:
        raise  # ours, not the database's
    except _BROKEN as error:
        raise _fault(url, error) from error
    except _UNREADABLE as error:
        if not reading:
            raise
        raise _fault(url, error) from error


@contextlib.contextmanager
def owned(url: str, name: str, storage: BaseStorage | None = None) -> Iterator[None]:
    """Hold the study for one coordinator; a dead holder's lock frees itself.

    Args:
        storage: what is written through; on a server, no transaction of it commits once the study is another's.

    Raises:
        EnvironmentFault: another process runs this study, named by process and host.
    """
    path = sqlite_path(check_url(url))
    if path is None:
        with faults(url), owned_on_server(check_url(url), name, storage):
            yield
        return
    with study_lock(path, name):
        yield


def is_owned(url: str, name: str) -> bool:
    """Whether a coordinator holds the study; of a database server that is not asked, and taken for so."""
    path = sqlite_path(check_url(url))
    return path is None or is_locked(path, name)


def watcher(url: str) -> Callable[[], None]:
    """A check that the database is still where it was: a file that was removed takes writes and loses them."""
    path = sqlite_path(check_url(url))

    def identity() -> tuple[int, int] | None:
        try:
            stat = os.stat(path) if path is not None else None
        except OSError:
            return None
        return (stat.st_dev, stat.st_ino) if stat is not None else (0, 0)

    first = identity()

    def check() -> None:
        if identity() != first:
            raise EnvironmentFault(
                f"{path} was removed or replaced while the run wrote to it; what it held is gone, begin again"
            )

    return check


def _make_sqlite(path: Path) -> bool:
    """Make the file with its tables, if there is none; whether there was none."""
    _writable_folder(path.parent)
    _refuse_shared(path.parent)
    with locked(path.with_name(f"{path.name}.lock"), wait=True):
        if path.exists():
            return False
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        try:
            with faults(f"sqlite:///{path}"):
                made = RDBStorage(ADDRESS, engine_kwargs=draft_options(new))
                made.remove_session()
                made.engine.dispose()
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    return True


def _check_sqlite(path: Path) -> None:
    """Raise unless the file is a whole SQLite database with a study's tables; nothing is written to it.

    Only SQLite may open the file: closing any other handle drops the locks of this process's connections to it, and
    another process may then take away the log that they read and write.
    """
    if path.stat().st_size == 0:
        raise _unusable(path, "it is empty")
    try:
        with read_only(path, Patient) as database:
            check = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except (sqlite3.Error, ValueError) as error:  # ValueError: a damaged name is no UTF-8
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            raise _unusable(path, "it is not a database") from error
        raise _fault(f"sqlite:///{path}", error) from error
    if check != "ok":
        raise _unusable(path, check.splitlines()[-1])
    if not {"studies", "trials", "version_info"} <= tables:
        raise _unusable(path, "it is a database of something else")


def _back_up(path: Path) -> None:
    """Copy the database beside itself, whole or not at all; a copy says what a damaged file had."""
    copy, new = path.with_name(f"{path.name}.bak"), path.with_name(f".{path.name}.bak.new{os.getpid()}")
    try:
        with (
            faults(f"sqlite:///{path}"),
            read_only(path, Patient) as source,
            contextlib.closing(sqlite3.connect(new)) as target,
        ):
            source.backup(target)
        os.replace(new, copy)
    finally:
        new.unlink(missing_ok=True)


def _writable_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot create results directory {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise EnvironmentFault(f"cannot create results directory {folder}: not writable")


def _refuse_shared(folder: Path) -> None:
    kind = file_system(folder)
    if kind in SHARED:
        raise EnvironmentFault(
            f"{folder} is on a network file system ({kind}), where SQLite loses data; "
            "name a local file or a PostgreSQL database with --storage"
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system that holds a folder, `unknown` where the system does not say."""
    if not mounts.is_file():
        return "unknown"
    home = Path(os.path.realpath(folder))
    held: tuple[int, str] = (-1, "unknown")
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")  # a space in the name
        if home.is_relative_to(point):
            held = max(held, (len(point), kind))
    return held[1]


def _unusable(path: Path, why: str) -> EnvironmentFault:
    copy = path.with_name(f"{path.name}.bak")
    if copy.is_file():
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.stat().st_mtime))
        remedy = f"move it away and restore {copy} of {made}"
    else:
        remedy = "move it away, or name another with --storage"
    return EnvironmentFault(
        f"{path} cannot be used as a study database: {why}. It is left as it is; {remedy}"
    )


def _fault(url: str, error: BaseException) -> EnvironmentFault:
    root: BaseException = error
    while (deeper := getattr(root, "orig", None) or root.__cause__) is not None:
        root = deeper
    reason = masked((str(root).splitlines() or [type(root).__name__])[0])
    path = sqlite_path(url)
    if path is None:
        return EnvironmentFault(f"cannot connect to {masked(url)}: {reason}")
    if "disk is full" in reason:
        return EnvironmentFault(
            f"No space left on {path.parent.absolute()} ({reason}); all finished trials are kept, "
            "free some space and add --resume"
        )
    if "locked" in reason or "busy" in reason:
        return EnvironmentFault(
            f"{path} has been locked by another program for more than {BUSY:g} s; all finished trials are kept, "
            "add --resume once it is free"
        )
    if any(word in reason for word in ("readonly", "unable to open", "disk I/O error")):
        return EnvironmentFault(f"{path} cannot be written: {reason}; all finished trials are kept")
    return _unusable(path, reason)
