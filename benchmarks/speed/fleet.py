r"""How far one coordinator carries: the real coordinator, schedule, sampler and store, with simulated workers.

    python -m benchmarks.speed.fleet                       the table of targets
    python -m benchmarks.speed.fleet --workers 100 --trials 500 --sampler random --confirm 0
    python -m benchmarks.speed.fleet --workers 1000 --seconds 60 --trials 12000 --sampler random --confirm 0 \
        --resume FOLDER                                    go on with what `ten_thousand --keep FOLDER` made

Time is virtual: it advances by the CPU time that the coordinator itself takes, and jumps to the next event while the
coordinator waits. Waiting for a core does not count, but CPU time itself grows on a loaded machine: of the
random search from 22 ms a trial at a load of 10 to 54 at one of 27.
Idle time counts from the first job on; what comes before it (data, costs of the space) is `startup_s`.
`idle_after_ramp_pct` leaves out each worker's wait for its first job. A simulated training takes `--seconds`, give or
take a tenth an epoch; its error follows from arch (0 to 5 points, by a hash), seed (standard deviation 0.7) and epoch.
Nothing is trained.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from attnsearch.core.machine import device_name, versions
from attnsearch.core.messages import Began, Job, Message, Outcome, Progress
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Dtype, Epoch
from attnsearch.space.space import load_space
from attnsearch.statistics.pareto import hypervolume
from attnsearch.study.coordinator import Coordinator
from attnsearch.study.observer import Observer
from attnsearch.study.run import Run

EPOCHS = 9
# Workers, trials, settings, and how many percent of the workers' time may be idle.
TARGETS: tuple[tuple[int, int, dict[str, Any], float], ...] = (
    (2, 32, {}, 8),
    (8, 32, {}, 8),
    (8, 96, {}, 8),
    (8, 200, {}, 8),
    (32, 160, {}, 15),
    (100, 300, {}, 25),
    (100, 500, {"sampler": "random", "confirm": 0.0}, 3),  # after the ramp
)


@dataclass
class Fleet:
    """An engine of `slots` simulated workers."""

    slots: int
    dtype: ClassVar[Dtype] = "float32"
    seconds: float
    now: float = 0.0
    busy: float = 0.0
    at_rungs: float = 0.0
    first_start: float | None = None
    last_start: float = 0.0
    lags: list[float] = field(default_factory=list)
    finished: int = 0
    _events: list[tuple[float, int, Message]] = field(default_factory=list)
    _free_since: list[float] = field(default_factory=list)
    _jobs: dict[int, tuple[Job, float]] = field(default_factory=dict)
    _paused: dict[int, tuple[int, float]] = field(default_factory=dict)  # number -> epoch, since when
    _serial: int = 0
    _cpu: float = field(default_factory=time.process_time)

    def __post_init__(self) -> None:
        self._free_since = [0.0] * self.slots

    def submit(self, job: Job) -> None:
        self._advance()
        if self.first_start is None:
            self.first_start = self.now
            self._free_since = [self.now] * self.slots
        self.lags.append(self.now - heapq.heappop(self._free_since))
        self._jobs[job.number] = job, self.now
        self.last_start = self.now
        self._post(self.now, Began(job.number))
        self._train(job, 1, self.now)

    def answer(self, number: int, go: bool) -> None:
        self._advance()
        epoch, since = self._paused.pop(number)
        self.at_rungs += self.now - since
        job, _ = self._jobs[number]
        if go:
            self._train(job, epoch + 1, self.now)
        else:
            self._post(
                self.now, Outcome(number, "stopped", curve(job, epoch), seconds=1.0, device="simulated")
            )

    def wait(self, seconds: float, wake: object = None) -> list[Message]:
        self._advance()
        if seconds and self._events:
            self.now = max(self.now, self._events[0][0])
        messages = []
        while self._events and self._events[0][0] <= self.now:
            at, _, message = heapq.heappop(self._events)
            messages.append(message)
            if isinstance(message, Outcome):
                _, began = self._jobs.pop(message.number)
                self.busy += at - began
                self.finished += 1
                heapq.heappush(self._free_since, at)
            elif isinstance(message, Progress) and message.waits:
                self._paused[message.number] = message.epoch.epoch, at
        self._cpu = time.process_time()  # what this simulation takes is not the coordinator's
        return messages

    def cancel(self, number: int, reason: str) -> None: ...
    def close(self) -> None: ...

    def idle(self, *, ramp: bool) -> float:
        """Share of the workers' time that is idle while jobs are given out; with or without the wait for the first."""
        until_the_last = sum(max(0.0, self.last_start - since) for since in self._free_since)
        first = 0.0 if ramp else sum(self.lags[: self.slots])
        whole = self.slots * (self.last_start - (self.first_start or 0.0))
        return (sum(self.lags) + until_the_last - first) / (whole - first)

    def _advance(self) -> None:
        cpu = time.process_time()
        self.now += cpu - self._cpu
        self._cpu = cpu

    def _post(self, at: float, message: Message) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at, self._serial, message))

    def _train(self, job: Job, first: int, at: float) -> None:
        """Post the epochs from `first` to the next rung or the end."""
        whole = job.recipe.epochs
        pace = random.Random(f"{job.number}:{first}")
        for epoch in range(first, whole + 1):
            at += self.seconds / whole * pace.uniform(0.9, 1.1)
            waits = epoch in job.rungs and epoch < whole
            self._post(at, Progress(job.number, _epoch(job, epoch), waits))
            if waits:
                return
        self._post(
            at, Outcome(job.number, "complete", curve(job, whole), seconds=self.seconds, device="simulated")
        )


def _epoch(job: Job, epoch: int) -> Epoch:
    noise = random.Random(f"{_digest(job.spec)}:{job.seed}").gauss(0, 0.7)
    return Epoch(epoch, 1.0, 1.0, true_error(job.spec, epoch) + noise, float(epoch))


def _digest(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()


def true_error(spec: Mapping[str, Any], epoch: int = EPOCHS) -> float:
    """Error of an arch without the noise of its seeds, in percent."""
    return 20 + int(_digest(spec)[:4], 16) / 65536 * 5 + 10 / epoch


def found(record: StudyRecord) -> float:
    """Hypervolume of true error and log10 cost, up to the space's worst, of all archs that were trained to the end."""
    cost, bounds = record.info.costs.chosen[0], record.info.costs.range
    assert bounds is not None
    done = {
        row.key: (true_error(row.spec), math.log10(row.costs[cost])) for row in record.trials if row.finished
    }
    worst = 25 + 10 / EPOCHS, math.log10(bounds[1]) + 0.01
    return hypervolume(list(done.values()), worst)


def curve(job: Job, epochs: int) -> tuple[Epoch, ...]:
    """The learning curve of a simulated training."""
    return tuple(_epoch(job, epoch) for epoch in range(1, epochs + 1))


@contextmanager
def _clocked(spent: dict[str, list[float]]) -> Iterator[None]:
    """Count the CPU seconds of the coordinator's two sides: giving out a job, hearing a message."""
    sides = {"dispatch": "_dispatch_next", "handle": "_handle"}
    originals = {name: getattr(Coordinator, method) for name, method in sides.items()}

    def clocked(name: str) -> Any:
        def call(self: Coordinator, *args: Any) -> None:
            began = time.process_time()
            try:
                originals[name](self, *args)
            finally:
                spent[name].append(time.process_time() - began)

        return call

    for name, method in sides.items():
        setattr(Coordinator, method, clocked(name))
    try:
        yield
    finally:
        for name, method in sides.items():
            setattr(Coordinator, method, originals[name])


def simulate(
    workers: int,
    trials: int,
    seconds: float = 20.0,
    *,
    space: str = "cbam_variants",
    folder: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """One simulated study; shares in percent, times in milliseconds of CPU unless they say otherwise.

    Args:
        folder: of a study that exists and is gone on with; None begins one that is thrown away.
    """
    fleet = Fleet(workers, seconds)
    spent: dict[str, list[float]] = {"dispatch": [], "handle": []}
    with tempfile.TemporaryDirectory() as temporary:
        options = {"data": "digits", "out": folder or Path(temporary), "device": "cpu", "epochs": EPOCHS}
        options |= settings
        run = Run(load_space(space), Settings(trials=trials, workers=workers, **options).check(), Observer())
        quiet = patch("attnsearch.study.coordinator.write_report", lambda *_, **__: "")
        quiet_too = patch("attnsearch.study.run.write_report", lambda *_, **__: "")
        engine = patch("attnsearch.train.local_engine.LocalPool", lambda *_, **__: fleet)
        with quiet, quiet_too, engine, _clocked(spent):
            study = run.execute()
    dispatched = sorted(spent["dispatch"])
    return {
        "workers": workers,
        "trials": fleet.finished,
        "settings": {name: str(value) for name, value in settings.items()},
        "virtual_s": round(fleet.now, 1),
        "trials_per_s": round(fleet.finished / fleet.now, 2),
        "hypervolume": round(found(study.record), 4),
        "startup_s": round(fleet.first_start or 0.0, 1),
        "idle_pct": round(100 * fleet.idle(ramp=True), 1),
        "idle_after_ramp_pct": round(100 * fleet.idle(ramp=False), 1),
        "idle_with_the_end_pct": round(100 * (1 - fleet.busy / (workers * fleet.now)), 1),
        "at_rungs_pct": round(100 * fleet.at_rungs / (workers * fleet.now), 2),
        "dispatch_median_ms": round(1e3 * statistics.median(dispatched), 1),
        "dispatch_p95_ms": round(1e3 * dispatched[int(0.95 * len(dispatched))], 1),
        "cpu_ms_per_trial": round(1e3 * (sum(dispatched) + sum(spent["handle"])) / max(1, fleet.finished), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--space", default="cbam_variants")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--pruner", default="par")
    parser.add_argument("--confirm", type=float)
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the study `ten_thousand`")
    parser.add_argument("--out", type=Path, help="JSON file of the table")
    args = parser.parse_args()
    more = {} if args.confirm is None else {"confirm": args.confirm}
    if args.workers:
        settings = {"sampler": args.sampler, "pruner": args.pruner, "folder": args.resume, **more}
        if args.resume:
            settings |= {"study": "ten_thousand", "resume": True}
        print(
            json.dumps(
                simulate(args.workers, args.trials, args.seconds, space=args.space, **settings), indent=2
            )
        )
        return
    rows = []
    for workers, trials, settings, target in TARGETS:
        row = {**simulate(workers, trials, args.seconds, **settings), "idle_target_pct": target}
        rows.append(row)
        print(json.dumps(row), flush=True)
    if args.out:
        import torch

        machine = {"processor": device_name(torch.device("cpu")), **versions()}
        args.out.write_text(
            json.dumps(
                {
                    "machine": machine,
                    "date": time.strftime("%Y-%m-%d"),
                    "seconds_per_trial": args.seconds,
                    "load": round(os.getloadavg()[0], 1),
                    "rows": rows,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
