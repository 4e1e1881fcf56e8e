"""Where a study is kept: any path, one coordinator, waiting, reading only, secrets, other programs' studies."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from attnsearch.core import checks, secrets
from attnsearch.core.checks import check_url, masked
from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.core.settings import Settings
from attnsearch.store import connections, database, locks
from attnsearch.store.sqlite import read_only, read_sqlite, sqlite_path
from attnsearch.study.study import open_study
from tests.faults import Instant, run

# Paths

NAMES = ("a b#c&d", "My%20Project", "lr=0.1?bs=64", "50%25", "100%", "猫", "{x}", "a;b", "über")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["out", "storage"])
def test_a_path_is_a_path(tmp_path, name, how):
    if how == "out":
        place, file = {"out": tmp_path / name}, tmp_path / name / "attnsearch.db"
    else:
        file = tmp_path / f"{name}.db"
        place = {"storage": f"sqlite:///{file}"}
    run(tmp_path, trials=2, confirm=0.0, **place)
    assert file.is_file()
    where = {"out": place["out"]} if how == "out" else {"storage": place["storage"]}
    assert len(open_study("tiny", **where).record.trials) == 2
    run(tmp_path, trials=3, confirm=0.0, resume=True, **place)
    assert len(open_study("tiny", **where).record.trials) == 3


URLS = {
    "sqlite:///": "names no file",
    "sqlite:///folder/": "names no file",
    "sqlite:///:memory:": "has to outlast its run",
    "sqlite:///file:x.db?mode=ro&uri=true": "takes the path of a file and nothing else",
    "sqlite:///x.db?mode=ro": r"'\?mode=ro' is not supported",
    "sqlite:///x.db?timeout=3&cache=shared": "is not supported",
    "sqlite://x.db": "use sqlite:///FILE",
    "sqlite+aiosqlite:///x.db": "unsupported storage scheme 'sqlite\\+aiosqlite'",
    "x.db": "unsupported storage scheme ''",
}


@pytest.mark.parametrize("url", URLS)
def test_what_is_no_file_of_sqlite_gets_a_sentence(url):
    with pytest.raises(UsageError, match=URLS[url]):
        check_url(url)


def test_without_a_home_no_folder_is_named_after_it(monkeypatch):
    monkeypatch.setattr(checks.os.path, "expanduser", lambda path: str(path))
    for make in (lambda: Settings(out="~/results"), lambda: sqlite_path("sqlite:///~/x.db")):
        with pytest.raises(UsageError, match="there is no home folder here"):
            make()
    assert Settings(out="~x").out == Path("~x")


# One coordinator


def made(folder: Path) -> Path:
    run(folder, trials=1, confirm=0.0)
    return folder / "results" / "attnsearch.db"


def other(path: Path, name: str = "tiny") -> str:
    """What another process hears that wants the study."""
    code = (
        "import sys; from attnsearch.store.database import owned\n"
        f"with owned(sys.argv[1], {name!r}): print('mine')"
    )
    line = [sys.executable, "-c", code, f"sqlite:///{path}"]
    done = subprocess.run(
        line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return done.stdout + done.stderr


def ways(path: Path) -> dict[str, Path]:
    """The same database under other names, and with its lock removed by hand."""
    (path.parent / "link.db").symlink_to(path)
    (path.parent.parent / "door").symlink_to(path.parent)
    os.link(path, path.parent / "hard.db")
    return {
        "itself": path,
        "a link": path.parent / "link.db",
        "a linked folder": path.parent.parent / "door" / path.name,
        "a hard link": path.parent / "hard.db",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the second lock is Linux's")
@pytest.mark.parametrize("removed", [False, True])
def test_a_second_coordinator_never_shares_a_study(tmp_path, removed):
    path = made(tmp_path)
    with database.owned(f"sqlite:///{path}", "tiny"):
        if removed:
            for lock in path.parent.glob("*.lock"):
                lock.unlink()
        for way, place in ways(path).items():
            heard = other(place)
            assert f"study 'tiny' is being run by pid {os.getpid()} on" in heard, way
            assert database.is_owned(f"sqlite:///{place}", "tiny"), way
        assert other(path, "another") == "mine\n"
    assert not database.is_owned(f"sqlite:///{path}", "tiny")
    assert other(path) == "mine\n"


def test_a_lock_that_was_removed_while_waiting_for_it_is_taken_anew(tmp_path):
    file, order = tmp_path / "x.lock", []
    with locks.locked(file, wait=True):
        waiting = threading.Thread(target=lambda: _hold(file, order))
        waiting.start()
        time.sleep(0.3)
        file.unlink()
    waiting.join()
    assert order == [True]


def _hold(file: Path, order: list[bool]) -> None:
    with locks.locked(file, wait=True):
        order.append(file.exists())


# Waiting


def test_a_database_that_stays_locked_ends_the_run_with_a_note(tmp_path, monkeypatch, caplog):
    path = made(tmp_path)
    monkeypatch.setattr(connections, "BUSY", 3.0)
    monkeypatch.setattr(connections, "SLICE", 0.5)
    lock = sqlite3.connect(path, isolation_level=None)

    class Locking(Instant):
        def submit(self, job):
            if not lock.in_transaction:
                lock.execute("BEGIN IMMEDIATE")
            super().submit(job)

    began = time.monotonic()
    with (
        closing(lock),
        caplog.at_level(logging.WARNING, "attnsearch"),
        pytest.raises(EnvironmentFault, match="locked by another program"),
    ):
        run(tmp_path, Locking(), trials=4, confirm=0.0, resume=True)
    assert time.monotonic() - began < 20  # one wait, and short ones for what is left to close
    assert "is locked by another program; waiting for it" in caplog.text


# Reading only


@pytest.fixture
def shelf(tmp_path):
    """A finished study in a folder that cannot be written, even where rights mean nothing to the test's user."""
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.parent.chmod(0o555)
    yield path
    path.parent.chmod(0o755)


def test_a_study_in_a_folder_that_cannot_be_written_is_read(shelf, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    before = sorted(entry.name for entry in shelf.parent.iterdir())
    assert len(read_sqlite(shelf, "tiny").trials) == 1
    storage = database.open_storage(f"sqlite:///{shelf}", create=False)
    assert len(storage.get_all_trials(storage.get_study_id_from_name("tiny"))) == 1
    assert sorted(entry.name for entry in shelf.parent.iterdir()) == before


# Secrets

PASSWORDS = (
    "hunter2",
    "p@ss-word",
    "p%40ss-word",
    "two words here",
    "line\nbreak-in-it",
    "a:colon/and?query",
    "tab\there",
    "quote'and\"more",
)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(secrets, "_pieces", set())


def pieces(password: str) -> list[str]:
    import re

    return [piece for piece in re.split(r"[\s@/:?%'\"]+", password) if len(piece) > 2]


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_piece_of_a_password_is_shown(fresh, password):
    url = f"postgresql://me:{password}@db.example.org/studies"
    check_url(url)
    for said in (
        f"cannot connect to {url}",
        f'missing "=" after {password.split()[-1]!r} in connection info string',
        f'could not translate host name "{password.rpartition("@")[2]}@db.example.org"',
        repr(url),
        "\n".join(pieces(password)),
    ):
        shown = masked(said)
        assert not [piece for piece in pieces(password) if piece in shown], shown
    assert "db.example.org" in masked(f"cannot connect to {url}")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", ["--storage {}", "--storage={}"])
def test_the_command_is_kept_without_the_servers_address(fresh, monkeypatch, password, form):
    from attnsearch.study import run as running

    url = f"postgresql://me:{password}@db.example.org/studies"
    option, joint, _ = form.partition("{}")[0].partition(" ")
    words = [option, url] if joint else [option + url]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/attnsearch", "run", "--space", "s", *words, "--trials", "3"])
    assert running._command("s", Settings()) == "attnsearch run --space s --trials 3"
    monkeypatch.setattr(sys, "argv", ["script.py"])
    kept = running._command("cbam_variants", Settings(storage=url, trials=3))
    assert kept == "attnsearch.run('cbam_variants', trials=3)"


def test_the_path_of_a_file_stays_in_the_command(fresh, monkeypatch):
    from attnsearch.study import run as running

    monkeypatch.setattr(sys, "argv", ["/usr/bin/attnsearch", "run", "--storage", "sqlite:////tmp/a b.db"])
    assert running._command("s", Settings()) == "attnsearch run --storage 'sqlite:////tmp/a b.db'"


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_server_that_does_not_answer_is_named_without_its_password(fresh, password, capfd):
    from attnsearch.__main__ import main

    url = f"postgresql://me:{password}@127.0.0.1:1/studies"
    code = main(["report", "--storage", url])
    shown = "".join(capfd.readouterr())
    assert code in (2, 4)
    assert not [piece for piece in pieces(password) if piece in shown], shown


# Studies of other programs


def plain_study(path: Path, name: str, trials: int = 2) -> None:
    study = optuna.create_study(study_name=name, storage=f"sqlite:///{path}")
    for value in range(trials):
        study.add_trial(create_trial(value=float(value)))


def content(path: Path) -> list[str]:
    with read_only(path) as database:
        return list(database.iterdump())


COMMANDS = (
    "report theirs",
    "report theirs --json",
    "dashboard theirs",
    "export theirs",
    "validate theirs",
    "resume theirs",
    "studies remove theirs --yes",
    "run --space {space} --data digits --study theirs --trials 2",
    "run --space {space} --data digits --study theirs --trials 2 --resume",
)


@pytest.mark.parametrize("trials", [0, 2])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_study_that_attnsearch_did_not_make_is_left_alone(tmp_path, capsys, command, trials):
    from attnsearch.__main__ import main

    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / "attnsearch.db"
    plain_study(path, "theirs", trials)
    space = tmp_path / "s.yaml"
    space.write_text(
        "host: {name: resnet8, width: 4}\nstages: {attention: [none, se]}\nrecipe: {epochs: 1}\n"
    )
    before = content(path)
    words = [*command.format(space=space).split(), "--out", str(tmp_path / "results")]
    assert main(words) == 2
    assert "study 'theirs' was not made by attnsearch" in capsys.readouterr().err
    assert content(path) == before


def test_the_latest_study_is_the_latest_of_ours(tmp_path):
    path = made(tmp_path)
    plain_study(path, "theirs")
    assert open_study(None, f"sqlite:///{path}").name == "tiny"


MISTAKES = {
    "an arch outside the space": ({"enqueue": ("cbam",)}, "'cbam' is no option in this space"),
    "limits that nothing keeps": ({"budget": "params<=1"}, "no arch of the space keeps"),
    "an unknown study to extend": ({"extend": "nothing"}, "Unknown study 'nothing'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_leaves_no_empty_study(tmp_path, case):
    settings, words = MISTAKES[case]
    with pytest.raises(UsageError, match=words):
        run(tmp_path, trials=2, **settings)
    storage = database.open_storage(f"sqlite:///{tmp_path / 'results' / 'attnsearch.db'}", create=False)
    assert storage.get_all_studies() == []


def test_old_records_with_a_password_are_shown_without_it(tmp_path, fresh):
    path = made(tmp_path)
    line = "attnsearch run --storage postgresql://me:hunter2@h/db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'command'", (json.dumps(line),)
        )
        connection.commit()
    from attnsearch import report
    from attnsearch.report import provenance

    assert "hunter2" not in provenance.render(report.build(read_sqlite(path, "tiny")))
