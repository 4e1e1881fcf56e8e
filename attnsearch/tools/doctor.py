"""Doctor: what a run will find on this machine, and what stands in its way.

examine(out, storage) -> [Sign, ...]
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from attnsearch.core.checks import masked
from attnsearch.core.errors import AttnsearchError, EnvironmentFault
from attnsearch.core.settings import Settings
from attnsearch.store.sqlite import sqlite_path

EXTRAS = {  # extra -> module that it brings
    "dashboard": "optuna_dashboard",
    "onnx": "onnxscript",
    "postgres": "psycopg",
    "hf": "datasets",
}
ROOM = 1e9  # bytes: decoded CIFAR-10 takes 0.2 GB, a study of 10,000 trials 0.02 GB


@dataclass(frozen=True)
class Sign:
    """One thing looked at: `state` is ok, note (works, but could be better) or bad (a run would fail)."""

    name: str
    found: str
    state: Literal["ok", "note", "bad"] = "ok"
    advice: str = ""


def examine(out: Path = Path("results"), storage: str | None = None) -> list[Sign]:
    """Everything that can be looked at without training."""
    cache = _cache()
    return [
        *_versions(),
        *_machine(),
        *(_precision() if cache.state != "bad" else ()),  # what is measured is kept there
        cache,
        _results(out),
        *_extras(),
        *_studies(Settings(out=out, storage=storage).url()),
    ]


def _versions() -> Iterator[Sign]:
    yield Sign("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    for package in ("attnsearch", "torch", "optuna", "numpy"):
        try:
            yield Sign(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Sign(package, "not installed as a package", "note", "run from a checkout")


def _machine() -> Iterator[Sign]:
    from attnsearch.core.machine import cores

    load = os.getloadavg()[0]
    busy = load > cores() + 0.5
    yield Sign(
        "cores",
        f"{cores()} for this process, load {load:.1f}",
        "note" if busy else "ok",
        "others keep this machine busy: latencies and times will be noisy" if busy else "",
    )


def _precision() -> Iterator[Sign]:
    import torch

    from attnsearch.core.machine import device_name
    from attnsearch.train.precision import calibrate

    def arithmetic(device: torch.device) -> str:
        found = calibrate(device)
        if found.float32_ms is None or found.bfloat16_ms is None:
            return found.dtype
        single, half = found.float32_ms, found.bfloat16_ms
        return f"{found.dtype} (a small step: {single:.1f} ms in float32, {half:.1f} in bfloat16)"

    cpu = torch.device("cpu")
    yield Sign("cpu", f"{device_name(cpu)}; trains in {arithmetic(cpu)}")
    if not torch.cuda.is_available():
        yield Sign("cuda", f"none (torch {torch.__version__}); runs use the CPU")
    for index in range(torch.cuda.device_count()):
        gpu = torch.device("cuda", index)
        memory = torch.cuda.get_device_properties(gpu).total_memory / 1e9
        yield Sign(f"cuda:{index}", f"{device_name(gpu)}, {memory:.0f} GB; trains in {arithmetic(gpu)}")


def _cache() -> Sign:
    from attnsearch.data.store import cache_folder

    try:
        folder, chosen = cache_folder()
    except EnvironmentFault as error:
        return Sign("cache", str(error), "bad")
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    used = sum(512 * file.st_blocks if hasattr(file, "st_blocks") else file.st_size for file in files) / 1e9
    sign = _place("cache", folder, f", {used:.2f} GB used", "set ATTNSEARCH_CACHE to another folder")
    # The platform's own is done without.
    return sign if chosen or sign.state == "ok" else replace(sign, state="note")


def _results(out: Path) -> Sign:
    from attnsearch.store.database import SHARED, file_system

    sign = _place("results", out, "", "choose another folder with --out")
    kind = file_system(out)
    if sign.state == "ok" and kind in SHARED:
        advice = "SQLite is not safe there; keep the database on a local disk with --storage sqlite:////tmp/studies.db"
        return Sign("results", f"{sign.found}, on {kind}", "bad", advice)
    return sign


def _place(name: str, folder: Path, also: str, advice: str) -> Sign:
    near = _existing(folder.absolute())
    free = shutil.disk_usage(near).free
    found = f"{folder}{also}, {free / 1e9:.1f} GB free"
    if not os.access(near, os.W_OK):
        return Sign(name, f"{folder}: cannot be written", "bad", advice)
    if free < ROOM / 100:
        return Sign(name, found, "bad", f"no room; {advice}")
    if free < ROOM:
        return Sign(name, found, "note", f"less than {ROOM / 1e9:.0f} GB free; {advice}")
    return Sign(name, found)


def _extras() -> Iterator[Sign]:
    for extra, module in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Sign(f"extra {extra}", "installed")
        else:
            yield Sign(f"extra {extra}", "not installed", "ok", f"pip install 'attnsearch[{extra}]'")


def _studies(url: str) -> Iterator[Sign]:
    """The database, and trials that are RUNNING in it although nobody runs their study."""
    from attnsearch.store import database
    from attnsearch.store.read import read_record, study_names

    yield Sign("sqlite", sqlite3.sqlite_version)
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        yield Sign("studies", f"none yet in {masked(url)}")
        return
    try:
        opened = database.open_storage(url, create=False)
        names = study_names(opened)
    except AttnsearchError as error:
        yield Sign("studies", str(error), "bad")
        return
    yield Sign("studies", f"{len(names)} in {masked(url)}")
    for name in names:
        running = sum(row.state == "running" for row in read_record(opened, name).trials)
        if running and not database.is_owned(url, name):
            found = f"{running} RUNNING and nobody runs it"
            yield Sign(f"study {name}", found, "note", "--resume closes and repeats them")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return path if path.exists() else _existing(path.parent)


__all__ = ["Sign", "examine"]
