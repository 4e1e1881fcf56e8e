"""What goes wrong, and what must be left whole: kills, signals, full disks, damaged files, changed questions."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from attnsearch.core.errors import DataError, EnvironmentFault, NoResultError, UsageError
from attnsearch.core.messages import Began, DataSource, Job, Outcome
from attnsearch.core.trial import Recipe
from attnsearch.store import connections, database
from attnsearch.study import coordinator
from attnsearch.study import resume as study_resume
from attnsearch.study import run as study_run
from attnsearch.study.study import open_study
from attnsearch.train import local_engine
from attnsearch.train.local_engine import LocalPool
from tests.faults import (
    ROOT,
    STARTED,
    TINY,
    Instant,
    assert_sound,
    await_rows,
    cells,
    children,
    killed,
    question,
    rows,
    run,
    start,
)

SEEDS = random.Random(0)
ENDED = ("COMPLETE", "PRUNED")


def db(folder: Path) -> Path:
    return folder / "results" / "attnsearch.db"


# Killed coordinators.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), trials=12)


@pytest.mark.parametrize("commit", [1, *sorted(SEEDS.sample(range(20, 170), 4))])
def test_a_killed_run_resumes_to_what_an_uninterrupted_one_gives(tmp_path, whole, commit):
    assert killed(tmp_path, commit, trials=12)
    acknowledged = frozenset()
    if commit > 30:
        acknowledged = frozenset(r.number for r in _record(tmp_path).trials if r.state == "complete")
    resumed = run(tmp_path, trials=12, resume=True)
    assert cells(resumed) == cells(whole)
    assert_sound(db(tmp_path), acknowledged=acknowledged)


def test_no_finished_trial_is_lost_or_repeated_over_many_kills(tmp_path, whole):
    finished: dict[int, float | None] = {}
    chance, kills = random.Random(1), 0
    while killed(tmp_path, chance.randrange(30, 110), trials=12, resume=True, retries=99):
        kills += 1
        assert kills < 40
        now = {r.number: r.error for r in _record(tmp_path).trials if r.state == "complete"}
        assert now.items() >= finished.items()
        finished = now
    assert kills >= 3
    assert cells(open_study("tiny", out=tmp_path / "results")) == cells(whole)
    assert_sound(db(tmp_path), acknowledged=frozenset(finished))


@pytest.mark.slow
def test_a_training_that_takes_its_run_down_is_given_up_after_its_retries(tmp_path):
    class Deadly(Instant):
        def submit(self, job):
            if "attention" in job.spec["stages"][0]:
                os.kill(os.getpid(), signal.SIGKILL)
            super().submit(job)

    deaths = 0
    while _killed_by(tmp_path, Deadly()):
        deaths += 1
        assert deaths < 60
    found = open_study("tiny", out=tmp_path / "results").record.trials
    given_up = [row for row in found if row.state == "failed" and not row.lost]
    assert given_up
    assert deaths == 3 * len(given_up)
    assert {row.reason for row in given_up} == {"the run ended before this training did, 3 times"}


def _killed_by(folder, engine) -> bool:
    child = os.fork()
    if child == 0:
        try:
            run(folder, engine, trials=3, confirm=0.0, resume=True)
        except NoResultError:
            os._exit(5)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _record(folder):
    try:
        return open_study("tiny", out=folder / "results").record
    except (EnvironmentFault, UsageError):
        return type("Empty", (), {"trials": ()})


# Workers.


def test_a_training_whose_worker_dies_each_time_fails_at_last(tmp_path):
    class Dying(Instant):
        def submit(self, job):
            if "attention" in job.spec["stages"][0]:
                self.messages.append(Outcome(job.number, "failed", reason="killed by signal 11", lost=True))
            else:
                super().submit(job)

    rows = run(tmp_path, Dying(), trials=9, confirm=0.0).record.trials
    failed = [row for row in rows if row.state == "failed" and not row.lost]
    assert failed
    assert {row.reason for row in failed} == {"killed by signal 11, 3 times"}
    for row in failed:
        assert [r.attempt for r in rows if (r.key, r.seed) == (row.key, row.seed)] == [0, 1, 2]
    assert sum(not row.lost for row in rows) == 9
    assert_sound(db(tmp_path))


def test_a_run_in_which_most_trials_fail_ends_at_the_tenth(tmp_path):
    class Failing(Instant):
        def submit(self, job):
            self.messages.append(Outcome(job.number, "failed", reason="RuntimeError: shapes"))

    with pytest.raises(
        NoResultError, match=r"10 of the first 10 trials failed: RuntimeError: shapes \(10 times\)"
    ):
        run(tmp_path, Failing(), trials=30)


def test_eight_workers_train_nothing_twice(tmp_path):
    rows = run(tmp_path, Instant(slots=8), trials=80).record.trials
    assert len({(row.key, row.seed) for row in rows}) == len(rows)
    assert_sound(db(tmp_path))


# The database.


def _flip(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(seed).integers(0, len(data), 200):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE moz_places (url TEXT)")
        connection.commit()


DAMAGE = {
    "empty": (lambda p: p.write_bytes(b""), "it is empty"),
    "text": (lambda p: p.write_text("not a database at all"), "it is not a database"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:30_000]), "cannot be used as a study database"),
    "other": (_other_database, "it is a database of something else"),
    "flipped": (lambda p: _flip(p, 3), "cannot be used as a study database"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder, trials=6)
    with closing(sqlite3.connect(db(folder))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_database_is_named_and_left_as_it_is(copied, damage):
    spoil, words = DAMAGE[damage]
    spoil(db(copied))
    before = db(copied).read_bytes()
    with pytest.raises(EnvironmentFault, match=words) as told:
        run(copied, trials=8, resume=True)
    assert str(db(copied)) in str(told.value)
    with pytest.raises(EnvironmentFault, match=words):
        open_study("tiny", out=copied / "results")
    assert db(copied).read_bytes() == before


def test_a_damaged_database_names_its_backup(copied):
    run(copied, trials=7, resume=True)  # makes one of the six trials that were there
    db(copied).write_bytes(b"")
    with pytest.raises(EnvironmentFault, match=r"restore .*attnsearch\.db\.bak of \d{4}-"):
        run(copied, trials=8, resume=True)
    shutil.copy(f"{db(copied)}.bak", db(copied))
    assert len(run(copied, trials=8, resume=True).record.trials) == 8


def test_a_copy_without_its_log_opens_and_goes_on(tmp_path):
    assert killed(tmp_path, 90, trials=12)
    assert (tmp_path / "results" / "attnsearch.db-wal").stat().st_size > 0
    (tmp_path / "cut" / "results").mkdir(parents=True)
    shutil.copy(
        db(tmp_path), db(tmp_path / "cut")
    )  # as if a power cut had taken all since the last checkpoint
    assert len(run(tmp_path / "cut", trials=12, resume=True).record.trials) >= 12
    assert_sound(db(tmp_path / "cut"))


def test_opening_a_study_again_keeps_the_locks_of_this_process(copied):
    """Another process that closes last takes the log away; with a connection of ours open it is not the last."""
    with closing(sqlite3.connect(db(copied))) as ours:
        ours.execute("PRAGMA journal_mode=WAL")
        ours.execute("SELECT count(*) FROM trials").fetchone()
        open_study("tiny", out=copied / "results")
        theirs = (
            f"import sqlite3; c = sqlite3.connect({str(db(copied))!r}); c.execute('SELECT 1 FROM trials')"
        )
        subprocess.run([sys.executable, "-c", theirs + "; c.close()"], check=True)
        assert db(copied).with_name(f"{db(copied).name}-wal").exists()


def test_a_locked_database_is_waited_for(tmp_path):
    run(tmp_path, trials=2, confirm=0.0)
    lock = sqlite3.connect(db(tmp_path), isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    threading.Timer(3, lambda: lock.execute("ROLLBACK")).start()
    began = time.monotonic()
    rows = run(tmp_path, trials=5, confirm=0.0, resume=True).record.trials
    assert time.monotonic() - began > 2.5
    assert [row.state for row in rows] == ["complete"] * 5
    assert_sound(db(tmp_path))


def test_a_full_disk_ends_the_run_and_a_resume_goes_on(tmp_path, monkeypatch, whole):
    run(tmp_path, trials=3, confirm=0.0, study="other")
    with closing(sqlite3.connect(db(tmp_path))) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]

    class Full(connections._Run):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.execute(f"PRAGMA max_page_count={pages + 6}")  # SQLite answers as on a full disk

    with monkeypatch.context() as patched:
        patched.setattr(connections, "_Run", Full)
        with pytest.raises(
            EnvironmentFault, match=r"No space left on .*results \(database or disk is full\)"
        ):
            run(tmp_path, trials=12)
    kept = [row for row in _record(tmp_path).trials if row.state == "complete"]
    assert kept
    assert cells(run(tmp_path, trials=12, resume=True)) == cells(whole)
    assert_sound(db(tmp_path), acknowledged=frozenset(row.number for row in kept))


def test_a_database_removed_under_a_run_is_noticed(tmp_path):
    class Removing(Instant):
        def submit(self, job):
            if job.number == 3:
                db(tmp_path).rename(tmp_path / "away.db")
            super().submit(job)

    with pytest.raises(
        EnvironmentFault, match=r"attnsearch.db was removed or replaced while the run wrote to it"
    ):
        run(tmp_path, Removing(), trials=6)


def test_one_coordinator_at_a_time(tmp_path):
    with (
        database.owned(f"sqlite:///{_made(tmp_path)}", "tiny"),
        pytest.raises(EnvironmentFault, match=r"study 'tiny' is being run by pid \d+ on "),
    ):
        run(tmp_path, trials=2)


def test_processes_that_start_together_make_one_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'new' / 'attnsearch.db'}"
    code = f"from attnsearch.store.database import open_storage; open_storage({url!r}, create=True).get_all_studies()"
    line = [sys.executable, "-W", "error", "-c", code]
    started = [subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 4
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if "new" in p.name) == []


def _made(folder: Path) -> Path:
    path = db(folder)
    database.open_storage(f"sqlite:///{path}", create=True)
    return path


# A study that is no longer the same question.


def _npz(folder: Path, shift: int) -> str:
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (60, 12, 12, 3), dtype=np.uint8) + np.uint8(shift)
    np.savez(folder / "images.npz", images=images, labels=np.arange(60) % 3)
    return str(folder / "images.npz")


def test_changed_images_are_refused_unless_allowed(tmp_path):
    run(tmp_path, trials=2, confirm=0.0, data=_npz(tmp_path, 0))
    changed = _npz(tmp_path, 1)
    with pytest.raises(DataError, match="have changed since study 'tiny' began; --allow-changed-data"):
        run(tmp_path, trials=3, confirm=0.0, data=changed, resume=True)
    rows = run(tmp_path, trials=3, confirm=0.0, data=changed, resume=True, allow_changed_data=True)
    assert len(rows.record.trials) == 3


def test_a_changed_space_is_told_with_the_difference(tmp_path, monkeypatch):
    run(tmp_path, trials=2, confirm=0.0)
    monkeypatch.setattr(
        "tests.faults.question", lambda folder: question(folder, TINY.replace("eca]", "simam]"))
    )
    with pytest.raises(
        UsageError,
        match=r"the space has changed .*stage1: -eca\(kernel=1\) \+simam; stage2: -eca\(kernel=3\) \+simam",
    ):
        run(tmp_path, trials=3, resume=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 1}, "began with --seed 0, not 1"),
        ({"costs": ("params",)}, "began with --cost macs, not params"),
        ({"design": "loo"}, "began with --design search, not loo"),
        ({"epochs": 9}, r"the recipe has changed since study 'tiny' began \(epochs\)"),
        ({"resume": False}, r"study 'tiny' exists \(6 trials\). Use --resume or another --study"),
    ],
)
def test_a_study_stays_one_question(copied, given, words):
    with pytest.raises(UsageError, match=words):
        run(copied, **{"trials": 8, "resume": True, **given})


def test_changed_versions_are_told_and_kept_with_the_trials(copied, monkeypatch):
    notes = []
    monkeypatch.setattr(coordinator.Observer, "note", lambda self, message: notes.append(message))
    for module in (study_run, study_resume, coordinator):
        monkeypatch.setattr(module, "versions", lambda: {"torch": "9.9"})
    rows = run(copied, trials=8, resume=True).record.trials
    assert any("versions have changed since this study began" in note and "-> 9.9" in note for note in notes)
    assert len({str(row.versions) for row in rows}) == 2


def test_a_jump_of_the_clock_changes_no_duration(tmp_path, monkeypatch):
    jumps = iter([1e9, 0.0] * 10_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    rows = run(tmp_path, trials=3, confirm=0.0).record.trials
    assert all(0 < row.seconds < 60 for row in rows)


def test_the_study_is_plain_optuna(finished):
    code = (
        "import optuna, sys; s = optuna.load_study(study_name='tiny', storage=sys.argv[1]);"
        "t = s.best_trials[0]; assert 'attnsearch' not in sys.modules;"
        "assert s.metric_names == ['validation error (%)', 'macs (multiply-adds)'], s.metric_names;"
        "assert set(t.params) == {'stage1', 'stage2', 'stage3'};"
        "assert all(v.split('(')[0] in ('none', 'se', 'eca') for v in t.params.values()), t.params"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{db(finished)}"], check=True)


# The real thing: processes, signals, a terminal.


@pytest.fixture
def place(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def test_an_eventful_run(place):
    """Workers killed in their trainings, a second coordinator, SIGTERM; resumed, tables gone, Ctrl-C; resumed."""
    (place / "tiny.yaml").write_text(TINY.replace("eca]", "eca, gct, simam, cbam]"))
    command = ("--confirm", "0", "--workers", "2", "--epochs", "40", "--trials")
    first = start(place, *command, "200")  # more than a fast machine comes to before it is stopped
    await_rows(db(place), ("RUNNING",), 2)
    _kill_a_worker(place, first.pid)
    second = start(place, *command, "200", "--resume")
    await_rows(db(place), ("COMPLETE",), 1)
    assert "is being run by pid" in second.communicate(timeout=90)[1]
    assert second.returncode == 4
    assert _ended(first, signal.SIGTERM) == 143
    done = {number for number, state in rows(db(place)) if state == "COMPLETE"}
    assert "RUNNING" not in {state for _, state in rows(db(place))}
    shutil.rmtree(place / "results" / "tiny", ignore_errors=True)
    ended = sum(state in ENDED for _, state in rows(db(place)))
    third = start(place, *command, "200", "--resume")
    await_rows(db(place), ENDED, ended + 1)
    assert _ended(third, signal.SIGINT, group=True) == 130
    assert "Traceback" not in third.stderr.read()
    wanted = sum(state in ENDED for _, state in rows(db(place))) + 2
    last = start(place, *command, str(wanted), "--resume")
    _, errors = last.communicate(timeout=240)
    assert last.returncode == 0, errors
    found = open_study("tiny", out=place / "results").record.trials
    assert sum(not row.lost for row in found) == wanted
    assert max(row.attempt for row in found if row.state == "complete") == 1
    assert_sound(db(place), acknowledged=frozenset(done))


@pytest.mark.slow
def test_four_workers_one_of_them_killed(place):
    """40 trials: numbers unique, each with its mirror among the curves, none left running, the lost one run again."""
    started = start(place, "--workers", "4", "--epochs", "6", "--trials", "40")
    await_rows(db(place), ("COMPLETE",), 5)
    while "FAIL" not in {state for _, state in rows(db(place))}:  # one between two trainings loses none
        os.kill(max(children(started.pid), key=_work_done), signal.SIGKILL)
        time.sleep(2)
    _, errors = started.communicate(timeout=400)
    assert started.returncode == 0, errors
    assert_sound(db(place))
    found = open_study("tiny", out=place / "results").record.trials
    assert sum(not row.lost for row in found) == 40
    (lost,) = [row for row in found if row.lost]
    (again,) = [row for row in found if (row.key, row.seed, row.lost) == (lost.key, lost.seed, False)]
    assert (again.state in ("complete", "stopped"), again.attempt) == (True, 1)


def _work_done(worker: int) -> int:
    """Ticks of the processor: one that is still starting has done the least."""
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[11])


def _kill_a_worker(place, coordinator) -> None:
    """Kill one whose training has begun: its first epoch is in the study's curves."""
    asked = "SELECT count(*) FROM trial_intermediate_values"
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with closing(sqlite3.connect(f"file:{db(place)}?mode=ro", uri=True)) as connection:
            if connection.execute(asked).fetchone()[0]:
                break
        time.sleep(0.02)
    for worker in children(coordinator):
        os.kill(worker, signal.SIGKILL)


def _ended(process, number, *, group: bool = False, within: float = 90) -> int:
    (os.killpg if group else os.kill)(process.pid, number)
    return process.wait(within)


@pytest.fixture(autouse=True)
def _pipes_closed():
    """Pipes of the commands that a test started are closed with it."""
    yield
    for process in STARTED:
        process.stdout.close()
        process.stderr.close()
    STARTED.clear()


FAULTY = """
import time
import torch
from torch import nn
from attnsearch.blocks.registry import block

class Same(nn.Module):
    def __init__(self, channels):
        super().__init__()

@block("wrong_shape")
class WrongShape(Same):
    def forward(self, x):
        return x[..., :-1] if self.training else x

@block("infinite")
class Infinite(Same):
    def forward(self, x):
        return x * float("inf") if self.training else x

@block("greedy")
class Greedy(Same):
    def forward(self, x):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x

@block("stuck")
class Stuck(Same):
    def forward(self, x):
        time.sleep(3600 if self.training else 0)
        return x
"""


@pytest.mark.slow
def test_faulty_blocks_fail_each_with_its_reason(place):
    (place / "faulty.py").write_text(FAULTY)
    blocks = "none, wrong_shape, infinite, greedy, stuck"
    (place / "tiny.yaml").write_text(TINY.replace("none, se, eca]", f"{blocks}]"))
    command = (
        "--plugin faulty.py --design swap --seeds 1 --controls none --workers 2 --epochs 2 --trial-timeout 20"
    )
    doing = start(place, *command.split())
    _, errors = doing.communicate(timeout=280)
    assert doing.returncode == 0, errors
    assert "Traceback" not in errors
    ends = {row.sites["stage1"]: (row.state, row.reason) for row in _record(place).trials}
    assert ends.pop("none") == ("complete", "")
    assert {state for state, _ in ends.values()} == {"failed"}
    said = {block: reason for block, (_, reason) in ends.items()}
    assert said["wrong_shape"].startswith("RuntimeError: ")
    assert said["infinite"].startswith("diverged in epoch 1: training loss ")
    assert said["greedy"] == "oom: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert said["stuck"] == "timeout: longer than 20 s"
    assert len(said) == 4
    assert_sound(db(place))


@pytest.mark.slow
def test_thirty_signals_leave_nothing_running(tmp_path):
    """The first ends the run in order, the next ones at once, wherever they meet it; a resume puts all in order."""
    question(tmp_path)
    began = start(tmp_path, "--trials", "3", "--workers", "2", "--epochs", "30")
    await_rows(db(tmp_path), "RUNNING", 2)
    for _ in range(30):
        if began.poll() is not None:
            break
        began.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    began.communicate(timeout=60)
    assert began.returncode in (143, -signal.SIGTERM)
    again = start(tmp_path, "--trials", "3", "--workers", "2", "--epochs", "30", "--resume")
    assert (again.communicate(timeout=300), again.returncode)[1] == 0
    states = [state for _, state in rows(db(tmp_path))]
    assert "RUNNING" not in states
    assert states.count("COMPLETE") == 3
    assert_sound(db(tmp_path))


def test_a_suspended_worker_is_given_up(tmp_path):
    pool = LocalPool(DataSource("digits"), workers=1, devices=["cpu"], heartbeat_timeout=8.0)
    try:
        arch = question(tmp_path).baseline()
        job = Job(7, arch.to_dict(), 0, Recipe(epochs=2000, train_images=128))
        pool.submit(job)
        while not (first := pool.wait(1)):
            pass
        assert first[0] == Began(7)
        (worker,) = children(os.getpid())
        os.kill(worker, signal.SIGSTOP)
        messages: list = []
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(isinstance(m, Outcome) for m in messages):
            messages = pool.wait(1)
        (lost,) = [m for m in messages if isinstance(m, Outcome)]
        assert (lost.number, lost.lost, lost.reason) == (7, True, "no heartbeat for 8 s")
        assert worker not in children(os.getpid())
    finally:
        pool.close()


def test_workers_that_cannot_start_end_the_run(tmp_path):
    pool = LocalPool(DataSource(str(tmp_path / "gone")), workers=1, devices=["cpu"])
    try:
        pool.submit(Job(0, {}, 0, Recipe()))
        with pytest.raises(DataError, match=r"workers cannot start: .*gone"):
            _wait_for_ever(pool)
    finally:
        pool.close()


def _wait_for_ever(pool) -> None:
    while True:
        assert pool.wait(1) == []


def test_workers_are_spawned_and_never_forked():
    assert local_engine._SPAWN.get_start_method() == "spawn"


SCRIPT = """
import attnsearch
options = dict(data="digits", trials=1, epochs=1, train_images=64, workers=1, device="cpu", out="results")
print(len(attnsearch.run("tiny.yaml", **options).record.trials))
"""


def test_a_script_needs_no_guard_and_may_come_from_a_pipe(place):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT, cwd=place, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
