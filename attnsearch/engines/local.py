"""Worker processes on this machine, one job each at a time.

On small proxies several one-thread workers beat one many-threaded process by far; each keeps its own copy of torch and
shares the images through the page cache. Processes are spawned, never forked: a fork would copy locks and a device.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from attnsearch.engines import DataSource, Job, Message, Outcome, Progress

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Place:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    device: str = "cpu"
    doomed: str = ""  # why it was killed, where that was us
    answered: set[int] = field(default_factory=set)


class LocalPool:
    """`workers` processes over the given devices, in turn; see `engines.Engine`."""

    def __init__(
        self, source: DataSource, *, workers: int, devices: Sequence[str], plugins: Sequence[Path] = ()
    ) -> None:
        self.slots = workers
        self._source, self._plugins = source, tuple(plugins)
        self._threads = (
            max(1, len(os.sched_getaffinity(0)) // workers) if workers < len(os.sched_getaffinity(0)) else 1
        )
        self._places = [self._start(devices[i % len(devices)]) for i in range(workers)]

    def submit(self, job: Job) -> None:
        place = next(place for place in self._places if place.job is None)
        place.job = job
        place.pipe.send(job)

    def wait(self, seconds: float) -> list[Message]:
        ready = set(
            wait([p.pipe for p in self._places] + [p.process.sentinel for p in self._places], seconds)
        )
        messages: list[Message] = []
        for i, place in enumerate(self._places):
            if place.pipe in ready or place.process.sentinel in ready:
                messages.extend(self._read(i, place))
        return messages

    def answer(self, number: int, go: bool) -> None:
        self._place_of(number).pipe.send(go)

    def cancel(self, number: int, reason: str) -> None:
        place = self._place_of(number)
        place.doomed = reason
        place.process.kill()

    def close(self) -> None:
        for place in self._places:
            place.process.kill()
        for place in self._places:
            place.process.join(5)
            place.pipe.close()

    def _read(self, i: int, place: _Place) -> list[Message]:
        messages: list[Message] = []
        try:
            while place.pipe.poll():
                message = place.pipe.recv()
                messages.append(message)
                if isinstance(message, Outcome):
                    place.job = None
        except (EOFError, OSError):
            place.process.join(5)
            code = place.process.exitcode
            if place.job is not None:
                died = (
                    f"killed by signal {-code}"
                    if code is not None and code < 0
                    else f"worker ended with exit code {code}"
                )
                reason = place.doomed or died
                messages.append(Outcome(place.job.number, "failed", reason=reason, lost=not place.doomed))
            place.pipe.close()
            self._places[i] = self._start(place.device)
        return messages

    def _start(self, device: str) -> _Place:
        ours, theirs = _SPAWN.Pipe()
        arguments = (theirs, self._source, device, self._threads, self._plugins)
        process = _SPAWN.Process(target=_serve, args=arguments, daemon=True, name="attnsearch-worker")
        process.start()
        theirs.close()  # so that a dead worker reads as end of file
        return _Place(process, ours, device=device)

    def _place_of(self, number: int) -> _Place:
        return next(place for place in self._places if place.job is not None and place.job.number == number)


def _serve(pipe: Connection, source: DataSource, device: str, threads: int, plugins: Sequence[Path]) -> None:
    """The worker process: wait for a job, train it, say what came of it, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the coordinator, which decides what ends
    import torch

    from attnsearch import registry
    from attnsearch.engines.work import Worker

    torch.set_num_threads(threads)
    for path in plugins:
        registry.add_plugin(path)
    worker = Worker(source, device)

    def tell(progress: Progress) -> bool:
        pipe.send(progress)
        return bool(pipe.recv()) if progress.waits else True

    try:
        while True:
            pipe.send(worker.run(pipe.recv(), tell))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
