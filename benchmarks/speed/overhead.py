"""What surrounds trainings: start-up of the commands, the coordinator's own time, memory over many trials."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from attnsearch.core.messages import DataSource, Job, Outcome
from attnsearch.core.trial import Recipe
from benchmarks.speed.steps import BLOCKS, arch_of
from benchmarks.speed.trials import MEGABYTE, Figures, in_process

REPEATS = 5
PROXY = 60.0  # seconds of the trial that the coordinator's time is compared with
COUNTS = {  # what is counted how -> the rest of the call
    "as `cost` does": "(3, 224, 224), computed=True).as_dict(fvcore=True)",
    "by shapes alone": "(3, 224, 224))",
}
MANY = {  # 10 options at each of 4 stages: 10,000 archs
    "host": {"name": "resnet18", "stem": "cifar"},
    "stages": {
        "attention": ["none", "se", "eca", "cbam", "simam", "gct", "gc", "sge", "shuffle", "coordatt"]
    },
}


def overhead(args: argparse.Namespace) -> Figures:
    """CPU seconds of the coordinator for a further trial: asking, counting, storing, deciding, reporting."""
    import attnsearch

    spent = {}
    for trials in (4, 24):
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            attnsearch.run(
                "cbam_variants", trials=trials, epochs=1, train_images=128, confirm=0.0, out=Path(folder)
            )
            spent[trials] = time.process_time() - began
    more = (spent[24] - spent[4]) / 20
    return {
        "coordinator: CPU time of a further trial (s)": [more],
        f"coordinator: share of a {PROXY:.0f} s trial (%)": [100 * more / PROXY],
    }


def startup(args: argparse.Namespace) -> Figures:
    """CPU seconds of short commands, a process's start included, and of a space's costs."""
    folder = Path(tempfile.mkdtemp())
    _study_of(1000, folder)
    python = [sys.executable, "-m", "attnsearch"]
    commands = {
        "importing torch alone (s)": [sys.executable, "-c", "import torch"],
        "--help (s)": [*python, "--help"],
        "report of 1,000 trials, on the screen (s)": [
            *python,
            "report",
            "bench",
            "--no-files",
            "--out",
            str(folder),
        ],
        "report of 1,000 trials, all its files too (s)": [*python, "report", "bench", "--out", str(folder)],
        "cost of cbam_resnet18 at 224 px (s)": [*python, "cost", "cbam_resnet18"],
    }
    found = {name: [_cpu_of(command) for _ in range(REPEATS)] for name, command in commands.items()}
    for name, how in COUNTS.items():
        found[f"counting cbam_resnet18 at 224 px {name}, torch loaded (s)"] = [
            _count(how) for _ in range(REPEATS)
        ]
    found["costs of all archs of a space of 10,000 (s)"] = [_cost_range()]
    return found


def _cpu_of(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _count(how: str) -> float:
    """CPU seconds of a process's first count, the network's making included."""
    command = (
        "import time, torch, attnsearch; began = time.process_time();"
        f"attnsearch.measure(attnsearch.create_model('cbam_resnet18'), {how};"
        "print(time.process_time() - began)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _cost_range() -> float:
    import yaml

    from attnsearch.cost.cost_table import CostTable
    from attnsearch.space.space import load_space

    path = Path(tempfile.mkdtemp()) / "many.yaml"
    path.write_text(yaml.safe_dump(MANY))
    space = load_space(str(path))
    if space.size() != 10_000:
        raise RuntimeError(f"the space has {space.size()} archs")
    began = time.process_time()
    CostTable(space, (3, 32, 32), 10).range("macs")
    return time.process_time() - began


def _study_of(trials: int, folder: Path) -> None:
    """A search of `cbam_variants` on CIFAR-10 as it is stored: the baseline, 900 archs, fresh seeds of 33 of them."""
    import numpy as np
    import optuna

    from attnsearch.core.study_attrs import CostsInfo, SpaceInfo
    from attnsearch.core.trial import Epoch, TrialResult
    from attnsearch.cost.cost_table import CostTable
    from attnsearch.space.space import load_space
    from attnsearch.store import database
    from attnsearch.store.study_store import StudyStore

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_space("cbam_variants")
    table, rng = CostTable(space, (3, 32, 32), 10), np.random.default_rng(0)
    sites = {site: tuple(options) for site, options in space.sites.items()}
    opened = database.open_storage(f"sqlite:///{folder / 'attnsearch.db'}", create=True)
    store = StudyStore(
        opened,
        "bench",
        sites,
        ["validation error (%)", "macs (MACs)"],
        ["macs"],
    )
    archs = [space.baseline(), *(space.sample(seed) for seed in range(trials))]
    store.set_attrs(
        SpaceInfo(sites=sites, size=space.size(), baseline=archs[0].key),
        CostsInfo(drawn="macs", chosen=("macs",)),
    )
    repeats = trials // 10
    plan = [(arch, 0, "search") for arch in archs[: trials - repeats]]
    plan += [(archs[i % 33], 900 + i // 33, "confirm") for i in range(repeats)]
    means = rng.normal(30, 3, len(archs))
    for arch, seed, role in plan:
        choice = space.choice(arch)
        costs = table.of(arch, choice)
        row = store.start(
            TrialResult(
                arch.key,
                str(arch),
                seed,
                6,
                "running",
                spec=arch.to_dict(),
                costs=costs,
                role=role,
                sites=choice or {},
            ),
            choice,
        )
        error = float(means[archs.index(arch)] + rng.normal(0, 1))
        curve = tuple(Epoch(e + 1, 1.0, 1.0, error + 8 * (5 - e), 1.0) for e in range(6))
        for epoch in curve:
            store.add_epoch(row.number, epoch, None)
        store.finish(row.number, Outcome(row.number, "complete", curve))


def memory(args: argparse.Namespace) -> Figures:
    """Resident memory of one worker over many short trials: after a fifth of them, and after all."""
    recipe = Recipe(epochs=1, batch_size=32, train_images=64)
    early, late = in_process(_leak, args, recipe, args.trials, as_worker=True)
    return {
        f"worker after {args.trials // 5} trials (MB)": [early],
        f"growth until {args.trials} trials (MB)": [late - early],
    }


def _leak(args: argparse.Namespace, recipe: Recipe, trials: int) -> tuple[float, float]:
    import torch

    from attnsearch.train.worker import Worker

    torch.set_num_threads(1)
    worker, process = Worker(DataSource(args.data), "cpu"), psutil.Process()
    early = 0.0
    for i in range(trials):
        spec = arch_of("resnet8", BLOCKS[i % 2]).to_dict()
        worker.run(Job(i, spec, i, recipe), lambda progress: True)
        if i + 1 == trials // 5:
            early = process.memory_info().rss / MEGABYTE
    return early, process.memory_info().rss / MEGABYTE
