r"""What a Ray cluster of two nodes does under kills, and how many jobs pass through the engine.

    make ray                                                all parts, as in results/ray.json
    unshare -n python -m benchmarks.speed.ray_cluster --trials 24 --kills 3 --parts killed,one

`unshare -n` gives it a network of its own (loopback alone), so that nothing else on the machine can reach the cluster.
Each node offers one place, so two trainings run at once; the head offers none.

killed    a search, one node of two killed by SIGKILL and replaced every so many trials
stopped   a search, all processes of a node stopped by SIGSTOP in its midst and continued after it was given up
one       the search of `killed` on one place of the cluster; must be the local one's table
rate      jobs that train nothing, on two nodes of two places: jobs and messages a second, all processes on one core

Each search is compared with one on a single local worker. Trainings are eight epochs of 100 images; a node is killed or
stopped after an epoch of one of them, so that most kills meet a training.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default, which whatever else runs here would starve
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

import psutil  # noqa: E402  # loopback first
import torch  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from attnsearch.core.machine import device_name, versions  # noqa: E402
from attnsearch.core.messages import DataSource, Job, Outcome, Progress  # noqa: E402
from attnsearch.core.settings import Settings  # noqa: E402
from attnsearch.core.trial import Recipe, TrialResult  # noqa: E402
from attnsearch.space.space import load_space  # noqa: E402
from attnsearch.study.observer import Observer  # noqa: E402
from attnsearch.study.run import Run  # noqa: E402
from attnsearch.train.ray_engine import RayNodes  # noqa: E402

TINY = """
question: Does a tiny host want a gate?
host: {name: resnet8, width: 4}
stages: {attention: [none, se, eca, gct, simam, sge, cbam]}
recipe: {epochs: 8, lr: 0.1, batch_size: 50, train_images: 100}
"""
# A plug-in is code of the user's own, which every worker runs when it starts.
EMPTY = '''"""Makes every training empty: its epochs are reported at once."""

from torch import nn

from attnsearch.core.messages import Outcome, Progress
from attnsearch.core.trial import Epoch
from attnsearch.registry import block
from attnsearch.train.worker import Worker


def run(self, job, tell):
    curve = tuple(Epoch(epoch, 1.0, 1.0, 50.0, 0.0) for epoch in range(1, job.recipe.epochs + 1))
    for epoch in curve:
        tell(Progress(job.number, epoch))
    return Outcome(job.number, "complete", curve)


Worker.run = run


@block("unused")
class Unused(nn.Identity):
    def __init__(self, channels: int) -> None:
        super().__init__()
'''
MEMORY = 80 * 2**20
RATE_SECONDS = 15.0
ATTEMPTS = 5  # to start a node


class Witness(Observer):
    """Does something to the cluster every so many finished trials, on the main thread as Ray wants it."""

    def __init__(self, act: Callable[[], float] | None = None, every: int = 1, times: int = 0) -> None:
        self.act, self.every, self.left = act, every, times
        self.finished = 0
        self.acted: float | None = None  # when, until the loss is noticed
        self.noticed: list[float] = []  # seconds from the act to the note of the lost node

    def trial_ended(self, row: TrialResult) -> None:
        self.finished += row.state == "complete"
        print(f"{time.strftime('%X')} trial {row.number} {row.state} {row.reason}", file=sys.stderr)

    def epoch(self, row: TrialResult, progress: Progress) -> None:
        if self.act and self.left and self.acted is None and self.finished >= self.every:
            self.left, self.finished = self.left - 1, 0
            self.acted = self.act()

    def note(self, message: str) -> None:
        print(f"{time.strftime('%X')} {message}", file=sys.stderr)  # stdout is for the figures
        if self.acted is not None and "was lost" in message:
            self.noticed.append(time.monotonic() - self.acted)
            self.acted = None


class Nodes:
    """The worker nodes of a cluster."""

    def __init__(self, cluster: Cluster, places: int = 1) -> None:
        self.cluster, self.places = cluster, places
        self.alive = [self._added(), self._added()]
        self.stopped: list[psutil.Process] = []

    def _added(self) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return self.cluster.add_node(num_cpus=self.places, object_store_memory=MEMORY)
            except Exception as error:  # on a loaded machine a node may take more than Ray's 30 s
                if not left:
                    raise
                print(error, file=sys.stderr)
        return None

    def kill(self) -> float:
        """Kill the oldest node and add another; gives back when."""
        at = time.monotonic()
        self.cluster.remove_node(self.alive.pop(0), allow_graceful=False)
        self.alive.append(self._added())
        return at

    def stop(self) -> float:
        """Stop all processes of the oldest node; gives back when."""
        started = [each.process.pid for each in self.alive[0].all_processes["raylet"]]
        parents = [psutil.Process(pid) for pid in started]
        self.stopped = parents + [child for each in parents for child in each.children(recursive=True)]
        for process in self.stopped:
            process.suspend()
        return time.monotonic()

    def go_on(self) -> None:
        for process in self.stopped:
            if process.is_running():
                process.resume()

    def remove(self) -> None:
        for node in self.alive:
            self.cluster.remove_node(node, allow_graceful=False)


def search(folder: Path, name: str, trials: int, observer: Observer, **more: Any) -> Sequence[TrialResult]:
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    settings = Settings(
        data="digits",
        out=folder / name,
        device="cpu",
        sampler="random",
        confirm=0.0,
        pruner="none",
        trials=trials,
        **more,
    ).check()
    return Run(load_space(path), settings, observer).execute().record.trials


def compared(folder: Path, rows: Sequence[TrialResult], alone: Sequence[TrialResult]) -> dict[str, Any]:
    """Counts of a search that must be 0 where they are faults, against one local worker's."""
    finished = [row for row in rows if row.state == "complete"]
    trainings = Counter((row.key, row.seed) for row in finished)
    errors = {(row.key, row.seed): row.error for row in alone}
    common = [row for row in finished if (row.key, row.seed) in errors]
    with closing(sqlite3.connect(folder / "attnsearch.db")) as database:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
    return {
        "finished": len(finished),
        "lost": sum(row.lost for row in rows),
        "running": sum(row.state == "running" for row in rows),
        "twice": sum(n > 1 for n in trainings.values()),
        "common": len(common),
        "other_errors": sum(row.error != errors[row.key, row.seed] for row in common),
        "integrity_check": sound,
    }


def killed(
    cluster: Cluster, folder: Path, alone: Sequence[TrialResult], trials: int, kills: int
) -> dict[str, Any]:
    nodes = Nodes(cluster)
    witness = Witness(nodes.kill, every=trials // (kills + 2), times=kills)
    rows = search(folder, "killed", trials, witness, engine="ray", address=cluster.address)
    nodes.remove()
    seconds = witness.noticed
    return {
        "trials": trials,
        "kills": kills - witness.left,
        **compared(folder / "killed", rows, alone),
        "noticed_s": {"least": min(seconds), "median": statistics.median(seconds), "most": max(seconds)},
    }


def stopped(cluster: Cluster, folder: Path, alone: Sequence[TrialResult], trials: int) -> dict[str, Any]:
    nodes = Nodes(cluster)

    class Continued(Witness):
        """Lets the stopped node go on once it was given up, while the others train."""

        def note(self, message: str) -> None:
            super().note(message)
            if self.noticed:
                nodes.go_on()

    witness = Continued(nodes.stop, every=4, times=1)
    rows = search(folder, "stopped", trials, witness, engine="ray", address=cluster.address)
    nodes.go_on()
    nodes.remove()
    return {"trials": trials, **compared(folder / "stopped", rows, alone), "noticed_s": witness.noticed}


def one(cluster: Cluster, folder: Path, alone: Sequence[TrialResult], trials: int) -> dict[str, Any]:
    nodes = Nodes(cluster)
    rows = search(folder, "one", trials, Observer(), engine="ray", address=cluster.address, workers=1)
    nodes.remove()
    differ = [(a.key, a.seed, a.error) != (b.key, b.seed, b.error) for a, b in zip(rows, alone, strict=True)]
    return {"trials": trials, "rows_that_differ": sum(differ)}


def cpu_of_all() -> float:
    """CPU seconds of this process and of all that it started and that are alive."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def rate(cluster: Cluster, folder: Path, epochs: int) -> dict[str, Any]:
    """Jobs through the engine for some seconds, a new one for each that ends.

    `per_cpu_s` is what one core that nobody else uses would do: jobs by the CPU seconds of all processes of the
    cluster, driver and servers included.
    """
    nodes = Nodes(cluster, places=2)
    plugin = folder / "empty.py"
    plugin.write_text(EMPTY)
    engine = RayNodes(DataSource("digits"), address=cluster.address, plugins=[plugin])
    while engine.slots < 4:
        for notice in engine.wait(0.5):
            print(notice.sentence, file=sys.stderr)
    number = jobs = messages = running = 0
    deadline, cpu, whole, began = float("inf"), 0.0, 0.0, 0.0
    while running or time.monotonic() < deadline:
        if deadline == float("inf") and jobs == 20:  # every worker has taken its first one
            cpu, whole, began, jobs, messages = time.process_time(), cpu_of_all(), time.monotonic(), 0, 0
            deadline = began + RATE_SECONDS
        while running < engine.slots and time.monotonic() < deadline:
            engine.submit(Job(number, {}, 0, Recipe(epochs=epochs)))
            number, running = number + 1, running + 1
        for message in engine.wait(0.5):
            messages += isinstance(message, Progress | Outcome)
            if isinstance(message, Outcome):
                jobs, running = jobs + 1, running - 1
    seconds, cpu, whole = time.monotonic() - began, time.process_time() - cpu, cpu_of_all() - whole
    engine.close()
    nodes.remove()
    return {
        "epochs": epochs,
        "jobs": jobs,
        "jobs_per_s": round(jobs / seconds, 1),
        "messages_per_s": round(messages / seconds, 1),
        "jobs_per_cpu_s": round(jobs / whole, 1),
        "messages_per_cpu_s": round(messages / whole, 1),
        "driver_ms_per_job": round(1e3 * cpu / jobs, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--parts", default="killed,stopped,one,rate")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    args = parser.parse_args()
    parts = args.parts.split(",")
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": device_name(torch.device("cpu")), "cores": len(os.sched_getaffinity(0))},
        "versions": versions(),
        "load": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if set(parts) - {"rate"}:
            alone = search(folder, "local", args.trials, Witness(), workers=1)
        if "killed" in parts:
            figures["killed"] = killed(cluster, folder, alone, args.trials, args.kills)
        if "stopped" in parts:
            figures["stopped"] = stopped(cluster, folder, alone, min(args.trials, 40))
        if "one" in parts:
            figures["one"] = one(cluster, folder, alone, args.trials)
        if "rate" in parts:
            figures["rate"] = [rate(cluster, folder, epochs) for epochs in (1, 9)]
    print(json.dumps(figures))
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")
    cluster.shutdown()


if __name__ == "__main__":
    main()
