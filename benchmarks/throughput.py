"""How many trials an hour, against the script that one would write instead, and where the time goes.

    python -m benchmarks.throughput [--parts side,step,gates,workers,shares,overhead,startup,memory]
                                    [--data NAME] [--host resnet20] [--rounds 3] [--images N] [--json FILE]

Both sides train the same archs on the same images by the same schedule, in turns (script, attnsearch, script, ...),
each in processes of its own under this one. Ratios are medians over turns. Beside a busy neighbour wall
time says more about the neighbour: CPU seconds, of a process and its children, are printed next to it.

Repeats as one network (several seeds stacked by grouped convolutions) are not offered. oneDNN trains a grouped
convolution of 4 x 16 channels slower than four convolutions of 16 one after the other: `--parts stacked` prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from attnsearch import registry
from attnsearch.arch import Arch
from attnsearch.engines import DataSource, Job, Outcome
from attnsearch.engines.local import MEMORY, environment
from attnsearch.trial import Recipe

BLOCKS = ("none", "cbam")
STEPS = 6  # of which the median counts
MEGABYTE = 1e6


def arch_of(host: str, block: str) -> Arch:
    stage = {} if block == "none" else {"attention": {"block": block}}
    return Arch.from_dict({"host": {"name": host}, "stages": [stage] * 3})


# ---------------------------------------------------------------------------------------------- side by side


def side(args: argparse.Namespace) -> dict[str, Any]:
    """Plain script and attnsearch in turns: trials per hour, images per second, accuracy, memory."""
    recipe = recipe_of(args)
    turns: dict[str, list[dict[str, Any]]] = {"script": [], "attnsearch": []}
    for turn in range(args.rounds):
        turns["script"].append(in_process(_script, args, recipe, turn))
        turns["attnsearch"].append(in_process(_attnsearch, args, recipe, turn))
    found: dict[str, Any] = {"recipe": recipe.to_dict(), "turns": turns}
    for measure in ("wall", "cpu"):
        ratios = [
            a[measure] / a["trials"] / (b[measure] / b["trials"])
            for a, b in zip(turns["script"], turns["attnsearch"], strict=True)
        ]
        found[f"times faster by {measure} time"] = statistics.median(ratios)
    for name, runs in turns.items():
        for block in BLOCKS:
            values = [row["accuracy"] for run in runs for row in run["rows"] if row["block"] == block]
            found[f"{name}: accuracy of {block} (%)"] = [round(v, 2) for v in values]
        found[f"{name}: trials per hour"] = statistics.median(3600 * r["trials"] / r["wall"] for r in runs)
        found[f"{name}: images per second"] = statistics.median(r["images"] / r["wall"] for r in runs)
        found[f"{name}: peak memory of all processes (MB)"] = max(r["peak_mb"] for r in runs)
    return found


def _script(args: argparse.Namespace, recipe: Recipe, seed: int) -> dict[str, Any]:
    import torch

    from attnsearch.data import open_data
    from benchmarks import plain

    torch.set_num_threads(
        len(os.sched_getaffinity(0))
    )  # torch's own default, whatever OMP_NUM_THREADS says here
    plain.HOST = args.host
    data = _part(open_data(args.data), recipe)
    rows = []
    with measured() as used:
        for _ in range(args.workers):  # as many trainings as attnsearch has workers, so that both end evenly
            rows += plain.search(data, recipe, list(BLOCKS), seed)
    return {
        **used,
        "rows": rows,
        "trials": len(rows),
        "images": len(rows) * recipe.epochs * len(data.train.labels),
    }


def _part(data: Any, recipe: Recipe) -> Any:
    from attnsearch.data import subset

    return replace(data, train=subset(data.train, recipe.train_images))


def _attnsearch(args: argparse.Namespace, recipe: Recipe, seed: int) -> dict[str, Any]:
    jobs = [
        Job(i, arch_of(args.host, block).to_dict(), seed, recipe)
        for i, block in enumerate(block for _ in range(args.workers) for block in BLOCKS)
    ]
    return run_jobs(args, jobs, args.workers)


def run_jobs(args: argparse.Namespace, jobs: list[Job], workers: int) -> dict[str, Any]:
    """Train the jobs in a warm pool: it has trained each block for a step before the clock starts."""
    from attnsearch.data import open_data
    from attnsearch.engines.local import LocalPool

    data = open_data(args.data)
    pool = LocalPool(DataSource(args.data), workers=workers, devices=["cpu"])
    short = replace(jobs[0].recipe, epochs=1, train_images=2 * jobs[0].recipe.batch_size)
    try:
        drain(
            pool, [replace(job, recipe=short, number=10_000 + i) for i, job in enumerate(jobs[: 2 * workers])]
        )
        with measured() as used:
            outcomes = drain(pool, jobs)
    finally:
        pool.close()
    rows = [
        {
            "block": "cbam" if "cbam" in str(jobs[o.number].spec) else "none",
            "seconds": o.seconds,
            "accuracy": 100 - o.curve[-1].val_error,
        }
        for o in outcomes
    ]
    count = min(jobs[0].recipe.train_images or 10**9, len(data.train.labels))
    return {**used, "rows": rows, "trials": len(rows), "images": len(rows) * jobs[0].recipe.epochs * count}


def drain(pool: Any, jobs: list[Job]) -> list[Outcome]:
    waiting, ended, running = list(jobs), [], 0
    while waiting or running:
        while waiting and running < pool.slots:
            pool.submit(waiting.pop(0))
            running += 1
        for message in pool.wait(0.5):
            if isinstance(message, Outcome):
                if message.state != "complete":
                    raise RuntimeError(message.reason)
                ended.append(message)
                running -= 1
    return ended


# ---------------------------------------------------------------------------------------------- one step


def step(args: argparse.Namespace) -> dict[str, float]:
    """One thread, one process: a step's arithmetic per CPU second against matrix products of the same dtype."""
    import torch

    from attnsearch import cost
    from attnsearch.host import build

    torch.set_num_threads(1)
    macs = cost.measure(build(arch_of(args.host, "none")), image=(3, 32, 32)).macs
    found: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        runs = {b: stepper(args.host, b, dtype, args.batch) for b in BLOCKS}
        a = torch.randn(1024, 1024).to(getattr(torch, dtype))
        times = in_turn({**runs, "matmul": lambda a=a: a @ a})
        rate, peak = 3 * 2 * macs * args.batch / times["none"], 2 * 1024**3 / times["matmul"]
        found[f"{dtype}: step of {args.host} (ms)"] = 1e3 * times["none"]
        found[f"{dtype}: arithmetic of a step (GFLOP/s)"] = rate / 1e9
        found[f"{dtype}: matrix product of 1024 (GFLOP/s)"] = peak / 1e9
        found[f"{dtype}: share of the product's rate"] = rate / peak
        found[f"{dtype}: CBAM everywhere / none"] = times["cbam"] / times["none"]
    return found


def gates(args: argparse.Namespace) -> dict[str, float]:
    """A training step with each gate in every unit, as a multiple of the step without; and of its MACs."""
    import torch

    from attnsearch import cost
    from attnsearch.host import build

    torch.set_num_threads(1)
    base = cost.measure(build(arch_of("resnet8", "none")), image=(3, 32, 32)).macs
    found: dict[str, float] = {}
    plain = stepper("resnet8", "none", "auto", args.batch)
    for name in sorted(registry.blocks()):
        if registry.info(name).slot != "attention":
            continue
        times = in_turn({"none": plain, name: stepper("resnet8", name, "auto", args.batch)}, 3)
        found[name] = times[name] / times["none"]
        found[f"{name} (MACs)"] = cost.measure(build(arch_of("resnet8", name)), image=(3, 32, 32)).macs / base
    return found


def stepper(host: str, block: str, dtype: str, batch: int) -> Callable[[], None]:
    """One call is one training step: what `fit` does for an epoch of one batch."""
    import torch

    from attnsearch import train
    from attnsearch.host import build

    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8, generator=drawn).permute(0, 3, 1, 2)
    labels = torch.randint(0, 10, (batch,), generator=drawn)
    halves = images, labels, images[:1], labels[:1]
    data = train.DeviceData(*halves, mean=(0.5,) * 3, std=(0.25,) * 3, augment=("flip", "crop"))
    recipe = Recipe(epochs=10**6, batch_size=batch, precision=dtype, lr=1e-4)  # type: ignore[arg-type]
    model = build(arch_of(host, block), seed=0)
    precision = train.precision(recipe, torch.device("cpu"))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, batches = train.make_optimizer(model, recipe), train._Batches(data, recipe, 0, precision)
    rates: Iterator[float] = iter(lambda: 1e-4, None)
    return lambda: (
        float(train._train_epoch(model, optimizer, batches, rates, recipe, precision, None)) and None
    )


def in_turn(runs: dict[str, Callable[[], Any]], repeats: int = STEPS) -> dict[str, float]:
    """Median CPU seconds of each, called in turns so that a neighbour hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, call in runs.items():
            began = time.process_time()
            call()
            if turn:  # the first warms up
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def shares(args: argparse.Namespace) -> dict[str, float]:
    """Where one training's time goes, in percent, by clocks around the parts of `fit`."""
    import torch

    from attnsearch import train
    from attnsearch.data import open_data
    from attnsearch.host import build

    torch.set_num_threads(1)
    data = open_data(args.data)
    recipe = replace(recipe_of(args), epochs=1)
    there = train.device_data(data, recipe, "cpu")
    clock: dict[str, float] = dict.fromkeys(("data", "forward", "backward", "optimiser", "validation"), 0.0)
    found: dict[str, float] = {}
    for block in BLOCKS:
        stepper(
            args.host, block, "auto", args.batch
        )()  # what is loaded or compiled once is no part of a trial
        clock = dict.fromkeys(clock, 0.0)
        model = build(arch_of(args.host, block), classes=len(data.classes), seed=0)
        with clocks(train, model, clock):
            began = time.process_time()
            train.fit(model, there, recipe, seed=0)
            whole = time.process_time() - began
        found |= {f"{block}: {name} (%)": 100 * seconds / whole for name, seconds in clock.items()}
        found[f"{block}: rest (%)"] = 100 * (1 - sum(clock.values()) / whole)
    return found


@contextmanager
def clocks(train: Any, model: Any, clock: dict[str, float]) -> Iterator[None]:
    """Count CPU seconds into `clock` while inside."""
    import torch

    inside = {"validation": False}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                if name == "validation" or not inside["validation"]:
                    clock[name] += time.process_time() - began

        return call

    def validation(*args: Any, **kwargs: Any) -> Any:
        inside["validation"] = True
        try:
            return timed("validation", evaluate)(*args, **kwargs)
        finally:
            inside["validation"] = False

    evaluate, before = train.evaluate, (train.augment, train.normalise, torch.Tensor.backward)
    torch.optim.SGD.step, step = timed("optimiser", torch.optim.SGD.step), torch.optim.SGD.step  # type: ignore[method-assign]
    train.augment, train.normalise = timed("data", train.augment), timed("data", train.normalise)
    train.evaluate, torch.Tensor.backward = validation, timed("backward", torch.Tensor.backward)
    model.forward = timed("forward", model.forward)
    try:
        yield
    finally:
        train.evaluate, (train.augment, train.normalise, torch.Tensor.backward) = evaluate, before
        torch.optim.SGD.step = step  # type: ignore[method-assign]
        del model.forward


def stacked(args: argparse.Namespace) -> dict[str, float]:
    """Four seeds of a layer as one grouped convolution against four convolutions: CPU time, forward and backward."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    found = {}
    for channels, size in ((16, 32), (64, 8)):
        x = torch.randn(args.batch, channels, size, size).bfloat16()
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        wide = torch.cat([x.detach()] * 4, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
        w = torch.randn(channels, channels, 3, 3, dtype=torch.bfloat16, requires_grad=True)
        wides = torch.randn(4 * channels, channels, 3, 3, dtype=torch.bfloat16, requires_grad=True)
        times = in_turn(
            {
                "one": lambda x=x, w=w: [F.conv2d(x, w, padding=1).sum().backward() for _ in range(4)],
                "grouped": lambda x=wide, w=wides: F.conv2d(x, w, padding=1, groups=4).sum().backward(),
            }
        )
        found[f"{channels} channels: grouped / four alone"] = times["grouped"] / times["one"]
    return found


# ---------------------------------------------------------------------------------------------- workers


def workers(args: argparse.Namespace) -> dict[str, float]:
    """Trials per hour of two workers over one, in turns; half the trials of a pair each."""
    recipe, ratios = recipe_of(args), []
    spec = arch_of(args.host, "none").to_dict()
    for turn in range(args.rounds):
        walls = [
            run_jobs(args, [Job(i, spec, turn, recipe) for i in range(n)], n)["wall"] / n for n in (1, 2)
        ]
        ratios.append(walls[0] / walls[1])
    return {"two workers / one (wall)": statistics.median(ratios)}


def overhead(args: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of the coordinator (asking, counting, storing, deciding) over those of a 60 s trial's workers."""
    import attnsearch

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        attnsearch.load_space("cbam_variants")
        study = attnsearch.run(
            "cbam_variants", trials=8, epochs=1, train_images=512, confirm=0.0, out=Path(folder), workers=1
        )
        spent = time.process_time() - began
        trained = sum(row.seconds for row in study.record.trials)
    return {
        "coordinator's CPU seconds per trial, opening and report included": spent / 8,
        "trial (s)": trained / 8,
    }


# ---------------------------------------------------------------------------------------------- start and memory


def startup(args: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of short commands, medians of 5; a process's start included."""
    folder = Path(tempfile.mkdtemp())
    _study_of(1000, folder)
    python = [sys.executable, "-m", "attnsearch"]
    commands = {
        "--help": [*python, "--help"],
        "report of 1,000 trials": [*python, "report", "--out", str(folder)],
        "cost of cbam_resnet18 at 224": [*python, "cost", "cbam_resnet18"],
    }
    found = {}
    for name, command in commands.items():
        times, code = [], 0
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            code = subprocess.run(command, capture_output=True, cwd=Path.cwd(), check=False).returncode
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        found[name if code == 0 else f"{name} [exit code {code}]"] = statistics.median(times)
    found["costs of all 10,000 archs of a space"] = _cost_range()
    return found


def _cost_range() -> float:
    from attnsearch.costing import CostTable
    from attnsearch.space import load_space

    table = CostTable(load_space("cbam_variants"), (3, 32, 32), 10)
    began = time.process_time()
    table.range("macs")
    return time.process_time() - began


def _study_of(trials: int, folder: Path) -> None:
    import optuna

    from attnsearch import storage
    from attnsearch.trial import Epoch, TrialResult

    opened = storage.open_storage(f"sqlite:///{folder / 'attnsearch.db'}", create=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    book = storage.Book(opened, "bench", {"a": ("none", "se")}, ["validation error (%)", "macs (MACs)"])
    book.facts(costs_chosen=["macs"], cost="macs", sites={"a": ["none", "se"]}, size=2)
    for i in range(trials):
        arch = arch_of("resnet20", BLOCKS[i % 2])
        row = TrialResult(
            arch.key,
            str(arch),
            i,
            2,
            "running",
            spec=arch.to_dict(),
            costs={"macs": 4e7 + i % 2},
            role="search",
        )
        row = book.begin(row, None)
        curve = tuple(Epoch(e + 1, 1.0, 1.0, 30.0 - i % 7, 1.0) for e in range(2))
        for epoch in curve:
            book.epoch(row.number, epoch, None)
        book.finish(row.number, Outcome(row.number, "complete", curve))


def memory(args: argparse.Namespace) -> dict[str, float]:
    """Resident memory of one worker over many short trials: after a fifth of them, and after all."""
    recipe = Recipe(epochs=1, batch_size=32, train_images=64)
    return in_process(_leak, args, recipe, args.trials, as_worker=True)


def _leak(args: argparse.Namespace, recipe: Recipe, trials: int) -> dict[str, float]:
    import torch

    from attnsearch.engines.work import Worker

    torch.set_num_threads(1)
    worker, process = Worker(DataSource(args.data), "cpu"), psutil.Process()
    early = 0.0
    for i in range(trials):
        spec = arch_of("resnet8", BLOCKS[i % 2]).to_dict()
        worker.run(Job(i, spec, i, recipe), lambda progress: True)
        if i == trials // 5:
            early = process.memory_info().rss / MEGABYTE
    return {"trials": trials, "early (MB)": early, "late (MB)": process.memory_info().rss / MEGABYTE}


# ---------------------------------------------------------------------------------------------- tools


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Wall and CPU seconds, and peak resident memory, of this process and all below it."""
    import threading

    used: dict[str, float] = {"wall": 0.0, "cpu": 0.0, "peak_mb": 0.0}
    me, done, ended = psutil.Process(), threading.Event(), resource.getrusage(resource.RUSAGE_CHILDREN)

    def living() -> list[psutil.Process]:
        return [me, *me.children(recursive=True)]

    def cpu() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        gone = children.ru_utime + children.ru_stime - ended.ru_utime - ended.ru_stime
        return gone + sum(sum(p.cpu_times()[:2]) for p in living())

    def watch() -> None:
        while not done.wait(0.5):
            try:
                used["peak_mb"] = max(used["peak_mb"], sum(p.memory_info().rss for p in living()) / MEGABYTE)
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began, before = time.perf_counter(), cpu()
    yield used
    used["wall"], used["cpu"] = time.perf_counter() - began, cpu() - before
    done.set()
    watcher.join()


def in_process(function: Callable[..., Any], *args: Any, as_worker: bool = False) -> Any:
    """The answer of a fresh process: no side inherits the other's caches, threads or memory."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_answer, args=(theirs, function, args))
    with environment(MEMORY if as_worker else {}):
        process.start()
    theirs.close()
    answer = ours.recv()
    process.join()
    return answer


def _answer(pipe: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    pipe.send(function(*args))


def recipe_of(args: argparse.Namespace) -> Recipe:
    return Recipe(epochs=args.epochs, batch_size=args.batch, lr=0.1, train_images=args.images)


def machine() -> dict[str, Any]:
    import numpy
    import torch

    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return {
        "processor": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "side": side,
    "step": step,
    "gates": gates,
    "workers": workers,
    "shares": shares,
    "stacked": stacked,
    "overhead": overhead,
    "startup": startup,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trials per hour, and where the time goes.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--data", default="cluttered-digits")
    parser.add_argument("--host", default="resnet20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=50, help="of the memory test")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine()}
    for part in args.parts.split(","):
        alone = part in ("step", "gates", "shares", "stacked")
        found[part] = in_process(PARTS[part], args, as_worker=True) if alone else PARTS[part](args)
        print(f"\n{part}")
        for name, value in found[part].items():
            if name not in ("turns", "recipe"):
                print(
                    f"  {name:<68} {value if isinstance(value, list) else format(value, ',.3g')}", flush=True
                )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
