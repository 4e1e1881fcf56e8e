"""One coordinator for a study: locks that free themselves with the process that holds them.

Two of them are taken. The lock of a file beside the database works on every system and tells who holds it, but not
after somebody removed the file. A socket's name in Linux's abstract namespace stands for the database itself, by its
device and inode: no link leads past it, and nobody can remove it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from attnsearch.core.errors import EnvironmentFault


@contextlib.contextmanager
def study_lock(path: Path, name: str) -> Iterator[None]:
    """Hold a study of an SQLite file.

    Raises:
        EnvironmentFault: another process runs this study, named by process and host; or no lock can be made.
    """
    lock = _lock_of(path, name)
    with contextlib.ExitStack() as held:
        try:
            handle = held.enter_context(locked(lock, wait=False))
            holder = "" if handle is not None else _holder(lock)
        except OSError as error:
            raise EnvironmentFault(f"cannot lock {lock}: {error.strerror}") from None
        holder = holder or held.enter_context(_claimed(path, name))
        if handle is None or holder:
            raise EnvironmentFault(
                f"study '{name}' is being run by {holder}; wait for it, or choose another --study"
            )
        handle.truncate(0)
        handle.write(f"pid {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def is_locked(path: Path, name: str) -> bool:
    """Whether a coordinator holds the study."""
    with _claimed(path, name) as holder:
        if holder:
            return True
    lock = _lock_of(path, name)
    if not lock.is_file():
        return False
    with open(lock, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[IO[str] | None]:
    """Hold a file's lock; without `wait`, None where another process holds it. The system frees it with its holder."""
    while True:
        with open(file, "a+", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            if not _is_at(handle, file):
                continue  # removed between opening and locking: the next one would lock another file
            yield handle
            return


def _is_at(handle: IO[str], file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(file))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _claimed(path: Path, name: str) -> Iterator[str]:
    """Hold the name of a study in Linux's abstract namespace; yields who holds it, an empty string where that is us."""
    if sys.platform != "linux":
        yield ""
        return
    where = os.stat(path)
    words = f"{where.st_dev} {where.st_ino} {name}".encode()
    address = b"\0attnsearch/" + hashlib.blake2b(words, digest_size=16).hexdigest().encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(address)
            claim.listen(8)  # those who connect learn whose it is
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            yield _owner(address)
        else:
            yield ""


def _owner(address: bytes) -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        caller.connect(address)
        found = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"pid {struct.unpack('3i', found)[0]} on {socket.gethostname()}"
    return "another process"


def _lock_of(path: Path, name: str) -> Path:
    """The file whose lock is the study's, beside the database itself and not beside a link to it."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}.{name}.lock")


def _holder(lock: Path) -> str:
    """Who holds a study's lock; it writes its name a moment after it took it."""
    for _ in range(20):
        if words := lock.read_text("utf-8").strip():
            return words
        time.sleep(0.05)
    return "another process"
