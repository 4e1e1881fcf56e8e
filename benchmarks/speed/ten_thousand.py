"""A study of ten thousand trainings: how large it is, and how long it takes to go on with it and to report it.

    python -m benchmarks.speed.ten_thousand                          make it, measure, throw it away
    python -m benchmarks.speed.ten_thousand --keep FOLDER            keep it there, or measure the one that is there
    python -m benchmarks.speed.ten_thousand --out results/ten_thousand.json

The study is made through the store's own functions: random archs of a space, a curve each, errors that follow from arch
and seed (see `fleet`). Nothing is trained: to go on with it is measured until the sixth further training is handed to
an engine of two simulated workers. Every measurement is a process of its own; its memory is the process's highest.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from attnsearch.core.messages import Job, Outcome
from attnsearch.core.settings import Settings
from attnsearch.core.trial import TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.data import open_data
from attnsearch.space.space import Space, load_space
from attnsearch.store import database
from attnsearch.store.study_store import StudyStore
from attnsearch.study.observer import Observer
from attnsearch.study.run import Run
from benchmarks.speed.fleet import EPOCHS, Fleet, curve

NAME = "ten_thousand"
STOPPED = 0.4  # of the trainings, at the rung after a third of the epochs
FURTHER = 6
BOUNDS = {  # what a study of ten thousand trainings may take
    "resume: to the first training (s)": 10.0,
    "resume: CPU time to the end (s)": 10.0,
    "resume: memory (MB)": 500.0,
    "report: time (s)": 10.0,
    "report: CPU time (s)": 10.0,
    "page (MB)": 5.0,
}


def options(folder: Path, space: str) -> dict[str, Any]:
    return {"data": "digits", "out": folder, "study": NAME, "device": "cpu", "epochs": EPOCHS, "workers": 2}


def make(folder: Path, space: str, trials: int) -> float:
    """Make the study; the seconds that it took."""
    began = time.monotonic()
    go_on(folder, space, 8)  # what a study says of itself, and its first rows
    question = load_space(space)
    data = open_data("digits")
    table = CostTable(question, data.image, len(data.classes))
    storage = database.open_storage(f"sqlite:///{folder / 'attnsearch.db'}", create=True)
    store = StudyStore.reopen(storage, NAME)
    like = next(iter(store.results.values()))
    for number in range(len(store.results), trials):
        train(store, question, table, like, number)
    return time.monotonic() - began


def train(store: StudyStore, question: Space, table: CostTable, like: TrialResult, number: int) -> None:
    """Write one training of a random arch from its start to its end."""
    arch = question.sample(number)
    choice = question.choice(arch)
    assert choice is not None
    row = TrialResult(
        key=arch.key,
        arch=str(arch),
        seed=like.seed,
        epochs=EPOCHS,
        state="running",
        spec=arch.to_dict(),
        costs=table.of(arch, choice),
        versions=like.versions,
        sites=choice,
    )
    row = store.start(row, choice)
    stopped = random.Random(number).random() < STOPPED
    epochs = EPOCHS // 3 if stopped else EPOCHS
    lines = curve(Job(row.number, row.spec, row.seed, question.recipe), epochs)
    for line in lines:
        store.add_epoch(row.number, line, {1: 0, 3: 1}.get(line.epoch))
    state = "stopped" if stopped else "complete"
    store.finish(row.number, Outcome(row.number, state, lines, seconds=20.0, device="simulated"))


class _Timed(Fleet):
    """Two simulated workers that remember when they got their first job."""

    first: float = 0.0

    def submit(self, job: Job) -> None:
        self.first = self.first or time.monotonic()
        super().submit(job)


def go_on(folder: Path, space: str, trials: int) -> dict[str, float]:
    """Resume until `trials` are done; the seconds to the first of them and to the end, and the memory in MB."""
    began, fleet = time.monotonic(), _Timed(2, 1.0)
    settings = Settings(trials=trials, resume=True, **options(folder, space)).check()
    with (
        patch("attnsearch.study.run.write_report", lambda *_, **__: ""),
        patch("attnsearch.train.local_engine.LocalPool", lambda *_, **__: fleet),
    ):
        Run(load_space(space), settings, Observer()).execute()
    return {
        "resume: to the first training (s)": fleet.first - began,
        f"resume: {FURTHER} trainings to the end (s)": time.monotonic() - began,
        "resume: CPU time to the end (s)": _cpu(resource.RUSAGE_SELF),
        "resume: memory (MB)": _memory(resource.RUSAGE_SELF),
    }


def report(folder: Path) -> dict[str, float]:
    """Time, memory and page of `attnsearch report` with all its files."""
    began = time.monotonic()
    command = [sys.executable, "-m", "attnsearch", "report", NAME, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {
        "report: time (s)": time.monotonic() - began,
        "report: CPU time (s)": _cpu(resource.RUSAGE_CHILDREN),
        "report: memory (MB)": _memory(resource.RUSAGE_CHILDREN),
        "page (MB)": (folder / NAME / "report.html").stat().st_size / 1e6,
    }


def database_size(file: Path) -> dict[str, float]:
    """Megabytes of the database, and of the options of every site, which Optuna repeats with every trial."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        repeated = connection.execute("SELECT sum(length(distribution_json)) FROM trial_params").fetchone()[0]
    return {"database (MB)": file.stat().st_size / 1e6, "database: options of sites (MB)": repeated / 1e6}


def plain_optuna(file: Path) -> dict[str, float]:
    """Seconds that `optuna.load_study` alone takes to read the study; attnsearch has no say in it."""
    code = (
        "import optuna, sys; s = optuna.load_study(study_name=sys.argv[1], storage=sys.argv[2]); "
        "print(len(s.get_trials(deepcopy=False)))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, NAME, f"sqlite:///{file}"], check=True, capture_output=True, text=True
    )
    return {
        "plain Optuna: trials read": float(done.stdout),
        "plain Optuna: time (s)": time.monotonic() - began,
        "plain Optuna: CPU time (s)": _cpu(resource.RUSAGE_CHILDREN),
    }


def _cpu(whose: int) -> float:
    """Seconds on one core, imports included: on a busy machine they say more than the clock."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def _memory(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Every part in a process of its own, on the study as it was made."""
    file = folder / "attnsearch.db"
    figures = database_size(file)
    for part in ("report", "optuna", "resume"):  # which adds to the study, so it is the last
        command = [
            sys.executable,
            "-m",
            "benchmarks.speed.ten_thousand",
            "--part",
            part,
            "--keep",
            str(folder),
        ]
        done = subprocess.run(
            [*command, "--space", args.space, "--trials", str(args.trials)],
            check=True,
            capture_output=True,
            text=True,
        )
        figures |= json.loads(done.stdout.splitlines()[-1])
    return {name: round(value, 2) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--space", default="cbam_variants")
    parser.add_argument("--keep", type=Path, help="folder of the study")
    parser.add_argument("--part", choices=("make", "report", "resume", "optuna"))
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        if args.part == "resume":
            done = database_trials(folder / "attnsearch.db")
            print(json.dumps(go_on(folder, args.space, done + FURTHER)))
        elif args.part == "report":
            print(json.dumps(report(folder)))
        elif args.part == "optuna":
            print(json.dumps(plain_optuna(folder / "attnsearch.db")))
        else:
            made = {}
            if not (folder / "attnsearch.db").is_file():
                made = {"made in (s)": round(make(folder, args.space, args.trials), 1)}
            if args.part != "make":
                show({**made, **measure(folder, args)}, args)


def database_trials(file: Path) -> int:
    """Trainings in the study."""
    from attnsearch.store.sqlite import trainings

    return trainings(file)[NAME]


def show(figures: dict[str, float], args: argparse.Namespace) -> None:
    for name, value in figures.items():
        bound = f"   (bound {BOUNDS[name]:g})" if name in BOUNDS else ""
        print(f"{name:<42}{value:>10.2f}{bound}")
    if args.out:
        import torch

        from attnsearch.core.machine import device_name, versions

        machine = {"processor": device_name(torch.device("cpu")), **versions()}
        args.out.write_text(
            json.dumps({"machine": machine, "trials": args.trials, "figures": figures}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
