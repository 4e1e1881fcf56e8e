"""Worker processes on this machine, one job each at a time.

On small proxies several one-thread workers beat one many-threaded process by far; each keeps its own copy of torch and
shares the images through the page cache. Two threads in one worker were 1.2 times faster on a quiet machine and 4.6
times slower beside one busy neighbour, and would round differently: a trial's numbers must not depend on the number of
workers. Processes are spawned, never forked: a fork would copy locks and a device.

A worker may die or stand still at any moment. One that dies is replaced; a job that it had begun is reported as lost,
one that it had not goes to its successor. Every worker gives a sign of life each few seconds, and holds its job on a
lease: after a minute of silence it is killed and its job is lost. A killed worker cannot answer late, and a job that is
run again has a new number, so no result is ever counted twice.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from attnsearch.core.errors import AttnsearchError, DataError, EnvironmentFault
from attnsearch.core.jobs import DataSource, Job, Message, Outcome, Progress

LEASE = 60.0  # seconds of silence after which a worker is taken for stopped
BEATS = 12  # signs of life in a lease
STARTING = 5  # leases that a worker may take to give its first: importing torch on a busy disk is slow
STILLBORN = 3  # workers in a row that die before they are ready: the fault is not theirs

_SPAWN = multiprocessing.get_context("spawn")
_OURS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # for the coordinator, which decides what ends


@dataclass(frozen=True)
class _Sign:
    """A sign of life: the worker is `ready` for jobs, has `began` one, or just lives."""

    ready: bool = False
    began: bool = False


@dataclass(frozen=True)
class _Unfit:
    """A worker cannot do its work, for a reason that its user can mend."""

    reason: str
    data: bool


# glibc reads these once, when a process starts. A step allocates and frees some hundred maps of megabytes: kept in the
# process and on huge pages, they cost no page faults (5,000 of them a step; a ResNet-20 step is 15 % shorter without).
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass
class _Place:
    process: SpawnProcess
    pipe: Connection
    device: str = "cpu"
    job: Job | None = None
    ready: bool = False
    began: bool = False  # the job, by this worker
    doomed: str = ""  # why its job was ended by us
    silent: bool = False  # killed because its lease was over
    unfit: _Unfit | None = None
    heard: float = field(default_factory=time.monotonic)


class LocalPool:
    """`workers` processes over the given devices, in turn; see `engines.Engine`.

    Args:
        lease: seconds of silence after which a worker is given up.

    `wait` raises `DataError` or `EnvironmentFault` when workers cannot even start.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        workers: int,
        devices: Sequence[str],
        plugins: Sequence[Path] = (),
        lease: float = LEASE,
    ) -> None:
        self.slots = workers
        self._source, self._plugins, self._lease = source, tuple(plugins), lease
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        # One worker a core: a neighbour then slows one of them, not all in turn (1.1 times the trials beside one).
        # Fewer stay free to go round what else runs here, such as the workers of a second run.
        self._cores = cores if workers == len(cores) and set(devices) == {"cpu"} else None
        self._stillborn = 0  # workers in a row that died before they were ready
        self._waited = time.monotonic()
        self._places: list[_Place] = []
        resource_tracker.ensure_running()  # else the first start does it, and unblocks the signals blocked there
        try:
            for i in range(workers):
                self._places.append(self._start(i, devices[i % len(devices)]))
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job) -> None:
        place = next(place for place in self._places if place.job is None)
        place.job, place.began = job, False
        self._send(place, job)

    def wait(self, seconds: float) -> list[Message]:
        self._give_up_silent()
        ready = set(
            wait([p.pipe for p in self._places] + [p.process.sentinel for p in self._places], seconds)
        )
        messages: list[Message] = []
        for i, place in enumerate(self._places):
            if place.pipe in ready or place.process.sentinel in ready:
                messages.extend(self._read(i, place))
        return messages

    def answer(self, number: int, go: bool) -> None:
        for place in self._places:
            if place.job is not None and place.job.number == number and place.began:
                self._send(place, go)

    def cancel(self, number: int, reason: str) -> None:
        for place in self._places:
            if place.job is not None and place.job.number == number:
                place.doomed = reason
                place.process.kill()

    def close(self) -> None:
        for place in self._places:
            place.process.kill()
        for place in self._places:
            place.process.join(5)
            place.pipe.close()

    def _send(self, place: _Place, message: Job | bool) -> None:
        with contextlib.suppress(OSError):  # it has died: `wait` finds out, and what becomes of the job
            place.pipe.send(message)

    def _give_up_silent(self) -> None:
        """Kill workers whose lease is over; not after a time in which this process itself stood still."""
        now = time.monotonic()
        asleep = now - self._waited > self._lease / 2
        self._waited = now
        for place in self._places:
            if asleep or place.pipe.poll():
                place.heard = now
            if now - place.heard > self._lease * (1 if place.ready else STARTING):
                place.silent = True
                place.process.kill()

    def _read(self, i: int, place: _Place) -> list[Message]:
        messages: list[Message] = []
        try:
            while place.pipe.poll():
                message = place.pipe.recv()
                place.heard = time.monotonic()
                if isinstance(message, Progress | Outcome):
                    messages.append(message)
                else:
                    self._note(place, message)
                if isinstance(message, Outcome):
                    place.job, place.began = None, False
            if not place.process.is_alive() and not place.pipe.poll():
                raise EOFError  # a child of its own may hold the pipe open
        except (EOFError, OSError):
            messages.extend(self._replace(i, place))
        return messages

    def _note(self, place: _Place, sign: _Sign | _Unfit) -> None:
        if isinstance(sign, _Unfit):
            place.unfit = sign
        elif sign.ready:
            place.ready, self._stillborn = True, 0
        elif sign.began:
            place.began = True

    def _replace(self, i: int, place: _Place) -> list[Message]:
        """A new worker where one has died, and what is lost with the old one."""
        place.process.join(5)
        place.pipe.close()
        why = self._death(place)
        if not place.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                fault = DataError if place.unfit and place.unfit.data else EnvironmentFault
                raise fault(f"workers cannot start: {why}")
        self._places[i] = new = self._start(i, place.device)
        job = place.job
        if job is not None and not (place.began or place.doomed):
            new.job = job
            self._send(new, job)
        elif job is not None:
            return [Outcome(job.number, "failed", reason=place.doomed or why, lost=not place.doomed)]
        return []

    def _death(self, place: _Place) -> str:
        code = place.process.exitcode
        if place.unfit is not None:
            return place.unfit.reason
        if place.silent:
            return f"no sign of life for {self._lease:g} s"
        return (
            f"killed by signal {-code}"
            if code is not None and code < 0
            else f"worker ended with exit code {code}"
        )

    def _start(self, i: int, device: str) -> _Place:
        ours, theirs = _SPAWN.Pipe()
        core = None if self._cores is None else self._cores[i]
        arguments = (theirs, self._source, device, core, self._plugins, self._lease / BEATS)
        process = _SPAWN.Process(target=_serve, args=arguments, daemon=True, name="attnsearch-worker")
        surroundings = environment({"OMP_NUM_THREADS": "1", **MEMORY})
        with surroundings, _nameless_main(), _blocked(_OURS):  # inherited: Ctrl-C goes to all of a terminal
            process.start()
        theirs.close()  # so that a dead worker reads as end of file
        return _Place(process, ours, device)


@contextlib.contextmanager
def _blocked(signals: set[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep the caller's script from a process started inside, which would run it first, and with it a second run.

    A worker needs nothing of it; so scripts need no `if __name__ == "__main__"`, and may come from a pipe.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Line:
    """The worker's end of its pipe, which two threads write to."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: Any) -> None:
        with self._lock:
            self._pipe.send(message)

    def recv(self) -> Any:
        return self._pipe.recv()

    def beat(self, pause: float) -> None:
        """Signs of life until the coordinator is gone; then this process ends at once, whatever it is doing."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        with contextlib.suppress(OSError):
            while not wait([parent.sentinel], pause):
                self.send(_Sign())
        os._exit(1)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment that a process started inside inherits; what the user has set stays as it is."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _serve(
    pipe: Connection,
    source: DataSource,
    device: str,
    core: int | None,
    plugins: Sequence[Path],
    beat: float,
) -> None:
    """The worker process: wait for a job, train it, say what came of it, until the pipe closes."""
    if core is not None:
        with contextlib.suppress(OSError):  # taken from us meanwhile: speed alone depends on it
            os.sched_setaffinity(0, {core})
    line = _Line(pipe)
    threading.Thread(target=line.beat, args=(beat,), daemon=True).start()
    import torch

    from attnsearch.blocks import registry
    from attnsearch.train.worker import Worker

    torch.set_num_threads(1)
    try:
        for path in plugins:
            registry.add_plugin(path)
        worker = Worker(source, device)
    except AttnsearchError as error:
        line.send(_Unfit(str(error), isinstance(error, DataError)))
        return

    def tell(progress: Progress) -> bool:
        line.send(progress)
        return bool(line.recv()) if progress.waits else True

    with contextlib.suppress(EOFError, OSError):
        line.send(_Sign(ready=True))
        while True:
            job = line.recv()
            line.send(_Sign(began=True))
            line.send(worker.run(job, tell))
