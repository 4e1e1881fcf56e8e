"""Half the budget, for real: fronts of `--sampler pool --pruner par` against random search, by the command line.

    python -m benchmarks.search.half_budget --data cifar10/ [--space cbam_variants] [--out DIR]

Each repetition has a seed, that of both its searches: random search trains `--trials` archs to the end, PoolEHVI with
PAR spends half as many epochs, those of stopped trainings counted; what stops save it trains more archs with. The front
that a search saw on its one seed counts with the mean errors of `--fresh` seeds that no search had. Hypervolume is in
points x log10(cost), up to the highest cost of the space and (a) the median error of what random search trained, or
(b) the baseline's error on the fresh seeds: improvement on doing nothing. Intervals are 95 % t intervals over
repetitions, which share the fresh seeds. All is trained on the first `--images` of train.parquet, of which the tool
holds out 15 % each for validation and for a test that nobody takes. Begun again with the same --out, it goes on where
it stood. Writes half_budget.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attnsearch import open_study
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.statistics.pareto import hypervolume, pareto
from benchmarks.search.hypervolume import _interval

POOL = ("--sampler", "pool", "--pruner", "par")
RANDOM = ("--sampler", "random", "--pruner", "none")
FRESH_SEED = 900  # studies from here on hold the fresh seeds


@dataclass(frozen=True)
class Found:
    """One search: what it spent, in whole trainings, and the archs of the front it saw."""

    method: str
    repetition: int
    spent: float
    trained: int
    stopped: int
    front: tuple[str, ...]


class Runs:
    """Studies under one folder, all by `attnsearch run` with the same recipe."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        self.out.mkdir(parents=True, exist_ok=True)
        options.data = str(part_of(options.whole, options.images, self.out / "data"))
        names = ("space", "data", "image_size", "train_images", "epochs", "batch_size", "lr", "cost")
        self.recipe = [word for n in names for word in (f"--{n.replace('_', '-')}", str(getattr(options, n)))]

    def run(self, study: str, seed: int, trials: int, *more: str) -> StudyRecord:
        """The study with so many trials in all; what it has already is kept."""
        command = [
            sys.executable,
            "-m",
            "attnsearch",
            "run",
            *self.recipe,
            "--study",
            study,
            "--seed",
            str(seed),
        ]
        command += [
            "--trials",
            str(trials),
            "--confirm",
            "0",
            "--workers",
            "1",
            "--device",
            "cpu",
            "--resume",
        ]
        with (self.out / f"{study}.log").open("a") as log:
            subprocess.run(
                [*command, "--out", str(self.out / study), *more], stdout=log, stderr=log, check=True
            )
        return open_study(study, out=self.out / study).record

    def random(self, repetition: int) -> Found:
        record = self.run(f"random-{repetition}", repetition, self.options.trials, *RANDOM)
        return self._found("random", repetition, record)

    def pool(self, repetition: int) -> Found:
        """Runs on while another whole training fits into half the epochs."""
        limit, trials, left = self.options.trials / 2, 0, self.options.trials // 2
        while left > 0:
            record = self.run(f"pool-{repetition}", repetition, trials + left, *POOL)
            ended_early = len(record.trials) < trials + left
            trials = len(record.trials)
            left = 0 if ended_early else int(limit - self._spent(record.trials))
        return self._found("pool", repetition, record)

    def fresh(self, archs: Sequence[str], seed: int) -> list[TrialResult]:
        """Those archs and the baseline, trained once with a seed that no search had."""
        asked = [word for arch in archs for word in ("--enqueue", arch)]
        record = self.run(f"fresh-{seed}", seed, 1 + len(archs), *asked, *RANDOM)
        return list(record.trials)

    def _spent(self, trials: Sequence[TrialResult]) -> float:
        return sum(len(row.curve) for row in trials) / self.options.epochs

    def _found(self, method: str, repetition: int, record: StudyRecord) -> Found:
        done = [row for row in record.trials if row.error is not None]
        points = np.array([(row.costs[self.options.cost], row.error) for row in done])
        front = tuple(named(done[i]) for i in np.flatnonzero(pareto(points)))
        stopped = sum(row.state == "stopped" for row in record.trials)
        return Found(method, repetition, self._spent(record.trials), len(done), stopped, front)


def part_of(whole: Path, images: int, to: Path) -> Path:
    """A folder with the first `images` rows of a folder's train.parquet."""
    from pyarrow import parquet

    to.mkdir(exist_ok=True)
    parquet.write_table(parquet.read_table(whole / "train.parquet").slice(0, images), to / "train.parquet")
    return to


def named(row: TrialResult) -> str:
    """The arch as `--enqueue` reads it: an option for each site."""
    return " | ".join(row.sites.values())


def volumes(
    found: Sequence[Found], known: dict[str, tuple[float, float]], bound: tuple[float, float]
) -> list[float]:
    """Each front's hypervolume; known: arch -> (mean fresh error, log10 cost)."""
    return [hypervolume([known[arch] for arch in search.front], bound) for search in found]


def measured(fresh: Sequence[TrialResult], cost: str) -> dict[str, tuple[float, float]]:
    errors: dict[str, list[float]] = {}
    for row in fresh:
        if row.error is None:
            raise SystemExit(f"no fresh error of {named(row)}: {row.reason}")
        errors.setdefault(named(row), []).append(row.error)
    log_cost = {named(row): float(np.log10(row.costs[cost])) for row in fresh}
    return {arch: (statistics.fmean(values), log_cost[arch]) for arch, values in errors.items()}


def main() -> None:
    options = _parse()
    runs = Runs(options)
    with ThreadPoolExecutor(options.at_once) as threads:
        jobs = [threads.submit(f, r) for r in range(options.repetitions) for f in (runs.random, runs.pool)]
        found = [job.result() for job in jobs]
        archs = sorted({arch for search in found for arch in search.front})
        seeds = [FRESH_SEED + i for i in range(options.fresh)]
        blocks = threads.map(lambda seed: runs.fresh(archs, seed), seeds)
        fresh = [row for block in blocks for row in block]
    report(found, fresh, options)


def report(found: Sequence[Found], fresh: Sequence[TrialResult], options: argparse.Namespace) -> None:
    """Print and write each method's volumes by both references, their ratio and the paired difference."""
    records = [
        open_study(f"random-{r}", out=options.out / f"random-{r}").record for r in range(options.repetitions)
    ]
    highest = float(np.log10(max(record.attrs["cost_range"][1] for record in records)))
    median = statistics.median(
        row.error for record in records for row in record.trials if row.error is not None
    )
    known = measured(fresh, options.cost)
    plain = next(named(row) for row in fresh if row.key == records[0].attrs["baseline"])
    facts: dict[str, object] = {"options": {k: str(v) for k, v in vars(options).items()}}
    facts["searches"] = [asdict(search) for search in found]
    for search in found:
        counts = f"{search.trained} trained, {search.stopped} stopped, front of {len(search.front)}"
        print(f"{search.method} {search.repetition}: {search.spent:.2f} trainings spent, {counts}")
    for name, error in (("median of random", median), ("baseline", known[plain][0])):
        by = {
            method: volumes([s for s in found if s.method == method], known, (error, highest))
            for method in ("pool", "random")
        }
        paired = [a - b for a, b in zip(by["pool"], by["random"], strict=True)]
        pool, random = (statistics.fmean(by[method]) for method in ("pool", "random"))
        ratio = pool / random if random else float("nan")
        facts[name] = {"error": error, "log10 cost": highest, **by, "ratio": ratio}
        print(f"reference {name} ({error:.2f} %): pool + par at half {_interval(by['pool'])}, ", end="")
        print(f"random {_interval(by['random'])}, ratio {ratio:.3f}, difference {_interval(paired)}")
    facts["fresh"] = {arch: {"error": e, "log10 cost": c} for arch, (e, c) in known.items()}
    (options.out / "half_budget.json").write_text(json.dumps(facts, indent=1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", dest="whole", type=Path, required=True, help="folder with train.parquet")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--space", default="cbam_variants")
    parser.add_argument("--cost", default="macs")
    parser.add_argument(
        "--trials", type=int, default=40, help="of random search; the other has half the epochs"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=3, help="fresh seeds for every arch of a front")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train-images", type=int, default=1500)
    parser.add_argument("--image-size", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.15)
    parser.add_argument("--at-once", type=int, default=2, help="studies side by side, each with one worker")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/half_budget"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
