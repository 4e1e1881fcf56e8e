"""Studies on a PostgreSQL server that is restarted, held down, and asked by others; needs Debian's `postgresql`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from attnsearch.core.errors import EnvironmentFault
from attnsearch.core.messages import Outcome
from attnsearch.core.study_attrs import RunInfo
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.store import database, owner
from attnsearch.store.read import read_record, to_result
from attnsearch.store.study_store import StudyStore
from tests import faults

pytestmark = pytest.mark.slow
SITES = {"stage1": ("none", "se")}


class Server:
    """A server of its own in a folder of its own, on a port of this machine alone."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.data = programs, folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._call("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data}"
        self._call("pg_ctl", "-D", self.data, "-w", "-l", self.data / "log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self.data, "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: object) -> None:
        user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        )  # it refuses root
        line = [str(self.programs / program), *map(str, arguments)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="no driver: pip install 'attnsearch[postgres]'")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        pytest.skip("no PostgreSQL server on this machine: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="attnsearch-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    running = Server(installed[-1].parent, folder)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
def quick(monkeypatch):
    """Signs of life every moment; the lease is longer than these restarts take on a busy machine."""
    monkeypatch.setattr(owner, "LEASE", 40.0)
    monkeypatch.setattr(owner, "BEAT", 0.3)


def states(url: str, study: str) -> list[str]:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        query = "SELECT state::text FROM trials JOIN studies USING (study_id) WHERE study_name = :s"
        found = [state for (state,) in connection.execute(sqlalchemy.text(query), {"s": study})]
    engine.dispose()
    return found


@pytest.mark.parametrize("down", [3, 30])
def test_a_server_that_goes_down_in_mid_run_loses_nothing(server, tmp_path, down):
    study = f"down{down}"
    faults.question(tmp_path)
    process = faults.start(
        tmp_path, "--storage", server.url, "--study", study, "--trials", "14", "--workers", "2", "--confirm", "0",
        "--design", "add", "--seeds", "2",
    )  # fmt: skip
    until = time.monotonic() + 120
    while True:  # some are done, and some run
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
            if states(server.url, study).count("COMPLETE") >= 2:
                break
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    server.stop()
    time.sleep(down)
    assert process.poll() is None
    server.start()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "does not answer" in err
    for name in (study, f"{study}::curves"):
        assert set(states(server.url, name)) == {"COMPLETE"}, "none lost, none running"
    rows = read_record(database.open_storage(server.url, create=False), study).trials
    assert [row.number for row in rows] == list(range(len(rows)))
    assert len({(row.key, row.seed) for row in rows}) == len(rows), "none twice"
    assert all(len(row.curve) == row.epochs for row in rows)


def test_a_study_on_a_server_is_plain_optuna_and_reads_as_it_does_there(server):
    storage = database.open_storage(server.url, create=True)
    store = StudyStore(storage, "plain", SITES, ["error", "MACs"], ["macs"])
    row = TrialResult("ab", "an arch", 3, 1, "running", spec={"host": "x"}, costs={"macs": 4.0})
    number = store.start(row, {"stage1": "se"}).number
    line = Epoch(1, 0.5, 0.6, 31.25, 1.5)
    store.add_epoch(number, line)
    store.finish(number, Outcome(number, "complete", (line,), seconds=2.0, device="cpu"))
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    study = optuna.load_study(study_name="plain", storage=url)
    (trial,) = study.get_trials()
    assert (trial.params, trial.values) == ({"stage1": "se"}, [31.25, 4.0])
    by_optuna = StudyRecord("plain", study.user_attrs, (to_result(trial),))
    assert read_record(database.open_storage(server.url, create=False), "plain") == by_optuna
    assert StudyStore.reopen(storage, "plain").results[0].curve == (line,)


def test_at_no_moment_two_owners_whenever_the_server_restarts(server, quick):
    """Ten restarts at random moments; a second coordinator tries all the time and is never let in."""
    refused, entered, done = [], [], threading.Event()

    def rival():
        while not done.is_set():
            try:
                with database.owned(server.url, "one"):
                    entered.append(time.monotonic())
            except EnvironmentFault as fault:
                refused.append(str(fault))
            time.sleep(0.05)

    storage = database.open_storage(server.url, create=True)
    with database.owned(server.url, "one", storage):
        store = StudyStore(storage, "one", SITES, ["error", "MACs"], ["macs"])
        thread = threading.Thread(target=rival)
        thread.start()
        try:
            chance = random.Random(0)
            for turn in range(10):
                time.sleep(chance.uniform(0, 1.5))
                server.stop()
                time.sleep(chance.uniform(0, 1.0))
                server.start()
                store.set_attrs(RunInfo(ended=f"turn {turn}"))  # a commit checks the owner
        finally:
            done.set()
            thread.join()
        assert entered == []
    assert any("is being run by pid" in line for line in refused)
    assert store.info.run.ended == "turn 9"


def test_whoever_lost_the_study_writes_no_more(server, quick):
    """The row is another's, as when the lock was cut and another came before the owner saw it."""
    storage = database.open_storage(server.url, create=True)
    with contextlib.ExitStack() as first:
        first.enter_context(database.owned(server.url, "two", storage))
        store = StudyStore(storage, "two", SITES, ["error", "MACs"], ["macs"])
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:  # as another coordinator would, in the moment between
            connection.execute(sqlalchemy.text(f"UPDATE {owner.TABLE} SET token = 'x' WHERE study = 'two'"))
        with pytest.raises(EnvironmentFault, match="has taken study 'two' over"):
            store.set_attrs(RunInfo(ended="never"))
        engine.dispose()
    assert read_record(database.open_storage(server.url, create=False), "two").info.run.ended is None


def test_a_lock_that_is_cut_is_taken_again(server, quick):
    storage = database.open_storage(server.url, create=True)
    with database.owned(server.url, "cut", storage):
        store = StudyStore(storage, "cut", SITES, ["error", "MACs"], ["macs"])
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.execute(sqlalchemy.text(cut)).scalar()
        engine.dispose()
        store.set_attrs(RunInfo(ended="on"))
        with pytest.raises(EnvironmentFault, match="is being run by pid"), database.owned(server.url, "cut"):
            pass


def test_a_killed_coordinator_frees_its_study_at_once(server):
    child = os.fork()
    if child == 0:
        with database.owned(server.url, "three"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    began = time.monotonic()
    with database.owned(server.url, "three"):
        assert time.monotonic() - began < 10
