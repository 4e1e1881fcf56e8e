"""Worker processes on this machine, one job each at a time.

On small proxies several one-thread workers beat one many-threaded process by far; each keeps its own copy of torch and
shares the images through the page cache. Two threads in one worker were 1.2 times faster on a quiet machine and 4.6
times slower beside one busy neighbour, and would round differently: a trial's numbers must not depend on the number of
workers. Processes are spawned, never forked: a fork would copy locks and a device.

A worker may die or hang at any moment. One that dies is replaced; a job that it had begun is reported as lost, one that
it had not goes to its successor. Every worker sends heartbeats; after a minute without one it is killed and its job is
lost. A killed worker cannot answer late, and a job that is run again has a new number, so no result is counted twice. A
place whose workers fail to start several times in a row is retired; the pool goes on with the others.
"""

from __future__ import annotations

import contextlib
import hashlib
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
from typing import Any, Literal

from attnsearch.core.errors import AttnsearchError, DataError, EnvironmentFault
from attnsearch.core.messages import Began, DataSource, Job, Message, Outcome, Progress
from attnsearch.core.trial import Dtype

HEARTBEAT_TIMEOUT = 60.0  # seconds without a heartbeat after which a worker is given up
HEARTBEATS = 12  # in one timeout
START_TIMEOUT = 5  # timeouts that the first heartbeat may take: importing torch from a busy disk is slow
CLOSE = 5.0  # seconds for all workers together: one that waits for a device cannot be killed until it has it
MAX_FAILED_STARTS = 3  # of a place in a row: the fault lies with the place, not with a worker

_SPAWN = multiprocessing.get_context("spawn")
_OURS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # for the coordinator, which decides what ends


@dataclass(frozen=True)
class _Status:
    """What a worker says of itself; `alive` is a heartbeat."""

    state: Literal["alive", "ready", "began"]


@dataclass(frozen=True)
class _StartupError:
    """A worker cannot do its work, for a reason that its user can mend."""

    reason: str
    is_data: bool


# glibc reads these once, when a process starts. A step allocates and frees some hundred maps of megabytes: kept in the
# process and on huge pages, they cost no page faults (5,000 of them a step; a ResNet-20 step is 15 % shorter without).
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


# The same sums in the same order on every run, with cuDNN's kernels chosen alike (`_serve`): on a GPU too, equal seeds
# are equal runs. cuBLAS reads this once, from the page on its reproducibility in NVIDIA's documentation.
EXACT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


@dataclass
class _Place:
    """A worker process and what is known of it."""

    process: SpawnProcess
    pipe: Connection
    device: str = "cpu"
    job: Job | None = None
    ready: bool = False
    began: bool = False  # the job, by this worker
    cancelled: str = ""  # why we ended its job
    timed_out: bool = False  # killed for want of a heartbeat
    failed_starts: int = 0  # in a row, of this place
    retired: bool = False
    startup_error: _StartupError | None = None
    heard: float = field(default_factory=time.monotonic)


class LocalPool:
    """`workers` processes over the given devices, in turn; see `engine.Engine`.

    Args:
        plugins: files of blocks. modules: files that may be hosts.
        heartbeat_timeout: seconds without a heartbeat after which a worker is given up.

    `wait` raises `DataError` or `EnvironmentFault` when no place can start a worker.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        workers: int,
        devices: Sequence[str],
        plugins: Sequence[Path] = (),
        modules: Sequence[Path] = (),
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    ) -> None:
        self._source, self._timeout = source, heartbeat_timeout
        self._plugins = tuple((path, digest_of(path)) for path in plugins)
        self._modules, self._device = tuple(modules), devices[0]
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        # One worker a core: a neighbour then slows one of them, not all in turn (1.1 times the trials beside one).
        # Fewer stay free to go round what else runs here, such as the workers of a second run.
        self._cores = cores if workers == len(cores) and set(devices) == {"cpu"} else None
        self._waited = time.monotonic()
        self._places: list[_Place] = []
        resource_tracker.ensure_running()  # else the first start does it, and unblocks the signals blocked there
        try:
            for i in range(workers):
                self._places.append(self._start(i, devices[i % len(devices)]))
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Places that can take a job."""
        return sum(not place.retired for place in self._places)

    @property
    def dtype(self) -> Dtype:
        """What `precision: auto` means on the first device, measured if nobody has."""
        from attnsearch.train.precision import calibrate

        return calibrate(self._device).dtype

    def submit(self, job: Job) -> None:
        self._assign(job, next(place for place in self._places if place.job is None and not place.retired))

    def _assign(self, job: Job, place: _Place) -> None:
        place.job, place.began = job, False
        self._send(place, job)

    def wait(self, seconds: float, wake: Connection | None = None) -> list[Message]:
        """What happened; a byte on `wake` ends the waiting."""
        self._kill_silent()
        places = [(i, place) for i, place in enumerate(self._places) if not place.retired]
        sources = [p.pipe for _, p in places] + [p.process.sentinel for _, p in places]
        ready = set(wait([*sources, wake] if wake else sources, seconds))
        messages: list[Message] = []
        for i, place in places:
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
                place.cancelled = reason
                place.process.kill()

    def close(self) -> None:
        for place in self._places:
            place.process.kill()
        deadline = time.monotonic() + CLOSE
        for place in self._places:
            place.process.join(max(0.0, deadline - time.monotonic()))
            place.pipe.close()

    def _send(self, place: _Place, message: Job | bool) -> None:
        with contextlib.suppress(OSError):  # it has died: `wait` finds out, and what becomes of the job
            place.pipe.send(message)

    def _kill_silent(self) -> None:
        """Kill workers without a heartbeat; not after a time in which this process itself was suspended."""
        now = time.monotonic()
        suspended = now - self._waited > self._timeout / 2
        self._waited = now
        for place in self._places:
            if place.retired:
                continue
            if suspended or place.pipe.poll():
                place.heard = now
            if now - place.heard > self._timeout * (1 if place.ready else START_TIMEOUT):
                place.timed_out = True
                place.process.kill()

    def _read(self, i: int, place: _Place) -> list[Message]:
        messages: list[Message] = []
        try:
            while place.pipe.poll():
                messages.extend(self._received(place, place.pipe.recv()))
            if not place.process.is_alive() and not place.pipe.poll():
                raise EOFError  # a child of its own may hold the pipe open
        except (EOFError, OSError):
            messages.extend(self._replace(i, place))
        return messages

    def _received(self, place: _Place, message: Any) -> list[Message]:
        """What a worker's message means to the coordinator; news of the worker itself are kept here."""
        place.heard = time.monotonic()
        if isinstance(message, Progress):
            return [message]
        if isinstance(message, Outcome):
            place.job, place.began = None, False
            return [message]
        if isinstance(message, _StartupError):
            place.startup_error = message
        elif message.state == "ready":
            place.ready, place.failed_starts = True, 0
        elif message.state == "began" and place.job is not None:
            place.began = True
            return [Began(place.job.number)]
        return []

    def _replace(self, i: int, place: _Place) -> list[Message]:
        """A new worker where one has died, and what is lost with the old one."""
        place.process.join(5)
        place.pipe.close()
        reason, job = self._death(place), place.job
        # A start that we ended ourselves says nothing of the place.
        failed = place.failed_starts + (not place.ready and not place.cancelled)
        if failed >= MAX_FAILED_STARTS:
            return self._retire(place, reason)
        self._places[i] = new = self._start(i, place.device)
        new.failed_starts = failed
        if job is None:
            return []
        if place.began or place.cancelled:
            return [Outcome(job.number, "failed", reason=place.cancelled or reason, lost=not place.cancelled)]
        self._assign(job, new)
        return []

    def _retire(self, place: _Place, reason: str) -> list[Message]:
        """Use a place no more; raises where it was the last."""
        place.retired, job, place.job = True, place.job, None
        if not self.slots:
            fault = DataError if place.startup_error and place.startup_error.is_data else EnvironmentFault
            raise fault(f"workers cannot start: {reason}")
        if job is None:
            return []
        return [
            Outcome(
                job.number, "failed", reason=f"no worker starts there: {reason}", lost=True, blameless=True
            )
        ]

    def _death(self, place: _Place) -> str:
        code = place.process.exitcode
        if place.startup_error is not None:
            return place.startup_error.reason
        if place.timed_out:
            return f"no heartbeat for {self._timeout:g} s"
        return (
            f"killed by signal {-code}"
            if code is not None and code < 0
            else f"worker ended with exit code {code}"
        )

    def _start(self, i: int, device: str) -> _Place:
        ours, theirs = _SPAWN.Pipe()
        core = None if self._cores is None else self._cores[i]
        code = self._plugins, self._modules
        arguments = (theirs, self._source, device, core, code, self._timeout / HEARTBEATS)
        process = _SPAWN.Process(target=_serve, args=arguments, daemon=True, name="attnsearch-worker")
        surroundings = environment({"OMP_NUM_THREADS": "1", **MEMORY, **EXACT})
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


class _WorkerPipe:
    """The worker's end of its pipe, which two threads write to."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: Any) -> None:
        with self._lock:
            self._pipe.send(message)

    def recv(self) -> Any:
        return self._pipe.recv()

    def send_heartbeats(self, pause: float) -> None:
        """Until the coordinator is gone; then this process ends at once, whatever it is doing."""
        parent = multiprocessing.parent_process()
        assert parent is not None
        with contextlib.suppress(OSError):
            while not wait([parent.sentinel], pause):
                self.send(_Status("alive"))
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


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes; empty where there is none, which `add_plugin` says in words."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _serve(
    pipe: Connection,
    source: DataSource,
    device: str,
    core: int | None,
    code: tuple[Sequence[tuple[Path, str]], Sequence[Path]],
    pause: float,
) -> None:
    """The worker process: wait for a job, train it, report what came of it, until the pipe closes.

    Args:
        code: plug-ins with their SHA-256, and files that may be hosts.
    """
    if core is not None:
        with contextlib.suppress(OSError):  # taken from us meanwhile: speed alone depends on it
            os.sched_setaffinity(0, {core})
    line = _WorkerPipe(pipe)
    threading.Thread(target=line.send_heartbeats, args=(pause,), daemon=True).start()
    import torch

    from attnsearch.blocks import registry
    from attnsearch.build import module_host
    from attnsearch.train.worker import Worker, first_line

    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    try:
        plugins, modules = code
        for path, digest in plugins:
            if digest_of(path) != digest:
                raise EnvironmentFault(
                    f"the plug-in {path} was changed while the study ran: its trainings would be of two blocks"
                )
            registry.add_plugin(path)
        for path in modules:
            module_host.allow(path)
        worker = Worker(source, device)
    except AttnsearchError as error:
        line.send(_StartupError(str(error), isinstance(error, DataError)))
        return
    except Exception as error:  # a device that is broken or not there, in torch's own words
        line.send(_StartupError(f"{type(error).__name__}: {first_line(error)}", False))
        return

    def report(progress: Progress) -> bool:
        line.send(progress)
        return bool(line.recv()) if progress.waits else True

    with contextlib.suppress(EOFError, OSError):
        line.send(_Status("ready"))
        while not worker.poisoned:  # a broken CUDA context fails every later job; a new process has a new one
            job = line.recv()
            line.send(_Status("began"))
            line.send(worker.run(job, report))
