"""Trials per hour: the script that one would write instead and attnsearch, in turns, in processes of their own."""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import psutil

from attnsearch.core.messages import DataSource, Job, Outcome
from attnsearch.core.trial import Recipe
from attnsearch.train.local_engine import MEMORY, LocalPool, environment
from benchmarks.speed.steps import BLOCKS, arch_of, recipe_of

MEGABYTE = 1e6
Figures = dict[str, list[float]]


def side(args: argparse.Namespace) -> Figures:
    """Script and attnsearch in turns on a quiet machine: times faster, images per second, memory."""
    return _side(args, recipe_of(args))


def busy(args: argparse.Namespace) -> Figures:
    """The same beside one process that never sleeps, on a quarter of the images."""
    with neighbour():
        found = _side(args, replace(recipe_of(args), train_images=max(args.images // 4, args.batch)))
    return {name: values for name, values in found.items() if "memory" not in name}


def _side(args: argparse.Namespace, recipe: Recipe) -> Figures:
    turns: dict[str, list[dict[str, Any]]] = {"script": [], "attnsearch": []}
    for turn in range(args.rounds):
        turns["script"].append(in_process(_script, args, recipe, turn))
        turns["attnsearch"].append(in_process(_attnsearch, args, recipe, turn))
    found: Figures = {}
    for measure in ("wall", "cpu"):
        for block in BLOCKS:
            pairs = zip(turns["script"], turns["attnsearch"], strict=True)
            faster = [a[block][measure] / b[block][measure] for a, b in pairs]
            found[f"times faster by {measure} time, {_named(block)}"] = faster
    for side_, runs in turns.items():
        for block in BLOCKS:
            rates = [r[block]["images"] / r[block]["wall"] for r in runs]
            found[f"{side_}: images/s, {_named(block)}"] = rates
            found[f"{side_}: trials/h, {_named(block)}"] = [3600 / r[block]["wall"] for r in runs]
        found[f"{side_}: peak memory of all processes (MB)"] = [
            max(r[b]["peak_mb"] for b in BLOCKS) for r in runs
        ]
    return found


def accuracy(args: argparse.Namespace) -> Figures:
    """Validation accuracy after one schedule, a ResNet-8, of both sides, with as many seeds as `--seeds`."""
    small = argparse.Namespace(**{**vars(args), "host": "resnet8"})
    recipe = replace(recipe_of(args), epochs=4 * args.epochs, train_images=args.images // 2)
    ours = in_process(_attnsearch, small, recipe, 0, args.seeds)
    theirs = in_process(_script, small, recipe, 0, args.seeds)
    found: Figures = {}
    for block in BLOCKS:
        a, b = ours[block]["accuracies"], theirs[block]["accuracies"]
        found[f"script: accuracy of {_named(block)} (%)"] = b
        found[f"attnsearch: accuracy of {_named(block)} (%)"] = a
        found[f"difference of the means, {_named(block)} (points), with its 95 % interval"] = _difference(
            a, b
        )
    return found


def _difference(a: list[float], b: list[float]) -> list[float]:
    """(low, difference, high) by Welch's t."""
    from scipy.stats import ttest_ind

    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return [float(interval.low), statistics.mean(a) - statistics.mean(b), float(interval.high)]


def workers(args: argparse.Namespace) -> Figures:
    """Trials per hour of two workers over one, in turns, the pools staying warm; and each beside a neighbour."""
    recipe = replace(recipe_of(args), train_images=args.images // 2)
    found: Figures = {}
    with ExitStack() as stack:
        pools = {n: stack.enter_context(warm_pool(args, n, recipe)) for n in (1, 2)}
        for words in ("", " beside a busy neighbour"):
            if words:
                stack.enter_context(neighbour())
            walls: dict[int, list[float]] = {1: [], 2: []}
            for turn in range(args.rounds):
                for n, pool in pools.items():
                    walls[n].append(run_jobs(pool, args.host, "none", recipe, [turn] * 2 * n)["wall"])
            found[f"two workers / one{words}"] = [a / b for a, b in zip(walls[1], walls[2], strict=True)]
    return found


def _script(args: argparse.Namespace, recipe: Recipe, seed: int, seeds: int = 1) -> dict[str, Any]:
    """One trial after another, by block: seconds of one, and accuracies."""
    import torch

    from attnsearch.data import open_data, subset
    from benchmarks.speed import loader_script

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # torch's own default, whatever OMP_NUM_THREADS says
    loader_script.HOST = args.host
    data = open_data(args.data)
    data = replace(data, train=subset(data.train, recipe.train_images))
    found = {}
    for block in BLOCKS:
        with measured() as used:
            rows = [
                row for i in range(seeds) for row in loader_script.search(data, recipe, [block], seed + i)
            ]
        accuracies = [row["accuracy"] for row in rows]
        found[block] = {**_each(used, seeds), "images": _images(recipe), "accuracies": accuracies}
    return found


def _attnsearch(args: argparse.Namespace, recipe: Recipe, seed: int, seeds: int = 1) -> dict[str, Any]:
    """The same trials in a warm pool, each worker training as many as the script does."""
    found = {}
    with warm_pool(args, args.workers, recipe) as pool:
        for block in BLOCKS:
            chosen = [seed + i for i in range(seeds)] * (args.workers if seeds == 1 else 1)
            found[block] = {
                **run_jobs(pool, args.host, block, recipe, chosen),
                "images": _images(recipe),
            }
    return found


def run_jobs(pool: LocalPool, host: str, block: str, recipe: Recipe, seeds: list[int]) -> dict[str, Any]:
    """Train one arch with these seeds: seconds of one training as the pool gets through them, and accuracies."""
    spec = arch_of(host, block).to_dict()
    with measured() as used:
        outcomes = drain(pool, [Job(i, spec, seed, recipe) for i, seed in enumerate(seeds)])
    accuracies = [100 - o.curve[-1].val_error for o in sorted(outcomes, key=lambda o: o.number)]
    return {**_each(used, len(seeds)), "accuracies": accuracies}


@contextmanager
def warm_pool(args: argparse.Namespace, workers: int, recipe: Recipe) -> Iterator[LocalPool]:
    """A pool whose workers have opened the data and trained each block for two steps: a search does so once."""
    pool = LocalPool(DataSource(args.data), workers=workers, devices=["cpu"])
    short = replace(recipe, epochs=1, train_images=2 * recipe.batch_size)
    try:
        for block in BLOCKS:
            run_jobs(pool, args.host, block, short, [0] * workers)
        yield pool
    finally:
        pool.close()


def drain(pool: LocalPool, jobs: list[Job]) -> list[Outcome]:
    """What became of the jobs, run as their number and the pool's places allow."""
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


def _each(used: dict[str, float], count: int) -> dict[str, float]:
    return {**used, "wall": used["wall"] / count, "cpu": used["cpu"] / count}


def _images(recipe: Recipe) -> int:
    assert recipe.train_images is not None
    return recipe.epochs * recipe.train_images


def _named(block: str) -> str:
    return {"none": "plain host", "cbam": "CBAM in every unit"}[block]


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that never sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Wall and CPU seconds, and peak resident memory, of this process and all below it."""
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
