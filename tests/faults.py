"""What the tests of faults share: a tiny question, an engine that answers at once, what must hold after a fault."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import optuna
import sqlalchemy

from attnsearch.core.messages import Job
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Epoch
from attnsearch.space.space import load_space
from attnsearch.study.observer import Observer
from attnsearch.study.run import Run
from attnsearch.study.study import open_study
from tests.engine import FakeEngine

TINY = """
question: Does a tiny host want a gate?
host: {name: resnet8, width: 4}
stages: {attention: [none, se, eca]}
recipe: {epochs: 3, lr: 0.1, batch_size: 64}
"""
ROOT = Path(__file__).parent.parent


class Instant(FakeEngine):
    """Errors follow from arch, seed and epoch by a hash."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__(by_hash, slots=slots)


def by_hash(job: Job) -> tuple[Epoch, ...]:
    digest = hashlib.sha256(f"{sorted(map(str, job.spec['stages']))}{job.seed}".encode()).digest()
    last = 20 + digest[0] / 51.3
    return tuple(Epoch(e, 1.0, 1.0, last + 10 / e, float(e)) for e in range(1, job.recipe.epochs + 1))


def question(folder: Path, text: str = TINY):
    path = folder / "tiny.yaml"
    path.write_text(text)
    return load_space(path)


def run(folder: Path, engine=None, **settings):
    """A whole run without training."""
    wanted = {"data": "digits", "out": folder / "results", "device": "cpu", "sampler": "random", **settings}
    doing = Run(question(folder), Settings(**wanted).check(), Observer())
    with (
        patch("attnsearch.train.local_engine.LocalPool", lambda *_, **__: engine or Instant()),
        patch("attnsearch.study.coordinator.write_report", lambda *_, **__: ""),
        patch(
            "attnsearch.study.run.write_report", lambda *_, **__: ""
        ),  # pictures would take most of the time
    ):
        return doing.execute()


def killed(folder: Path, commit: int, **settings) -> bool:
    """The same in a process that is killed right after its n-th commit; whether it came so far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(_):
            nonlocal seen
            seen += 1
            if seen > commit:  # told before the commit, so `commit` of them are done
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", count)
            run(folder, **settings)
        except BaseException as error:
            print(repr(error), file=sys.__stderr__, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


STARTED: list[subprocess.Popen[str]] = []  # by this test


def start(folder: Path, *arguments: str, command: str = "run") -> subprocess.Popen[str]:
    """The real command in its own process group, with a training of a second."""
    given = [
        "--space",
        str(folder / "tiny.yaml"),
        "--data",
        "digits",
        "--train-images",
        "128",
        "--device",
        "cpu",
    ]
    line = [sys.executable, "-m", "attnsearch", command, *(given if command == "run" else []), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    process = subprocess.Popen(
        line,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heeds_signals,
    )
    STARTED.append(process)
    return process


def _heeds_signals() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and a run respects that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def await_rows(database: Path, states: str, count: int, seconds: float = 120) -> None:
    """Until so many trials of the search are in one of the states."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if database.is_file() and sum(state in states for *_, state in rows(database)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"not {count} trials {states} within {seconds} s")


def rows(database: Path, study: str = "tiny") -> list[tuple[int, str]]:
    """Number and state of each trial, read past everything."""
    asked = (
        "SELECT number, state FROM trials JOIN studies USING (study_id) WHERE study_name = ? ORDER BY number"
    )
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return list(connection.execute(asked, (study,)))


def children(pid: int) -> list[int]:
    """Worker processes of a coordinator."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def cells(found) -> list[tuple[str, int, str, float | None, str]]:
    """What was trained and what came of it, in an order that does not depend on when."""
    kept = [row for row in found.record.trials if not row.lost]
    return sorted((row.key, row.seed, row.state, row.error, row.role) for row in kept)


def assert_sound(database: Path, study: str = "tiny", acknowledged: frozenset[int] = frozenset()) -> None:
    """What must hold after any fault, read with SQLite and plain Optuna, and against the report."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    plain = optuna.load_study(study_name=study, storage=f"sqlite:///{database}")
    trials = plain.get_trials()
    numbers = [trial.number for trial in trials]
    assert numbers == list(range(len(trials)))
    assert not [trial.number for trial in trials if not trial.state.is_finished()]
    complete = {t.number: t for t in trials if t.state == optuna.trial.TrialState.COMPLETE}
    assert acknowledged <= set(complete)
    trained = [(t.user_attrs["key"], t.user_attrs["seed"]) for t in complete.values()]
    assert len(trained) == len(set(trained)), "an arch was trained twice on one seed"
    _assert_mirrored(database, study, complete)
    _assert_reported(database, study, complete)
    brute = {n for n, t in complete.items() if not any(_dominates(other, t) for other in complete.values())}
    assert {t.number for t in plain.best_trials} == brute


def _assert_mirrored(database, study, complete) -> None:
    curves = optuna.load_study(study_name=f"{study}::curves", storage=f"sqlite:///{database}").get_trials()
    mirrors = [t for t in curves if t.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(t.user_attrs["search_trial"] for t in mirrors) == sorted(complete)
    for mirror in mirrors:
        trial = complete[mirror.user_attrs["search_trial"]]
        assert mirror.value == trial.values[0] == list(mirror.intermediate_values.values())[-1]
        assert mirror.user_attrs["arch"] == trial.user_attrs["arch"]
    assert not [t for t in curves if not t.state.is_finished()]


def _assert_reported(database, study, complete) -> None:
    from attnsearch import report as reports

    record = open_study(study, f"sqlite:///{database}").record
    folder = database.parent / "reported"
    reports.write(reports.build(record), folder, pictures=False)
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    numbers = [int(float(row[next(iter(row))])) for row in told]
    assert set(complete) <= set(numbers)
    assert len(numbers) == len(set(numbers))


def _dominates(one, other) -> bool:
    pairs = list(zip(one.values, other.values, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
