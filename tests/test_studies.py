"""Commands on whole studies: list, remove, resume, pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from typer.testing import CliRunner

from attnsearch.cli import app
from attnsearch.cli.resume import run_arguments
from attnsearch.core.errors import AttnsearchError, EnvironmentFault, UsageError
from attnsearch.store import database
from attnsearch.store.listing import list_studies, remove_study
from attnsearch.study.study import open_study
from tests.faults import ROOT, TINY, run


@pytest.fixture
def finished(tmp_path):
    run(tmp_path, trials=6)
    return tmp_path / "results"


def url(out: Path) -> str:
    return f"sqlite:///{out / 'attnsearch.db'}"


def invoke(*words: str):
    return CliRunner().invoke(app, list(words))


def test_a_study_is_listed_with_its_question_state_and_count(finished):
    (entry,) = list_studies(url(finished))
    assert (entry.name, entry.state, entry.trainings) == ("tiny", "ended", 6)
    assert entry.question == "Does a tiny host want a gate?"
    assert entry.ended == "all 6 trials are done"
    told = json.loads(invoke("studies", "--json", "--out", str(finished)).stdout)
    assert told == [entry.to_dict()]
    shown = invoke("studies", "--out", str(finished)).stdout
    assert "1 study" in shown
    assert "tiny" in shown


def test_a_study_that_is_being_run_is_neither_removed_nor_called_ended(finished):
    with database.owned(url(finished), "tiny"):
        assert list_studies(url(finished))[0].state == "running"
        with pytest.raises(EnvironmentFault, match="is being run by"):
            remove_study(url(finished), "tiny")
    assert len(list_studies(url(finished))) == 1


def test_removing_takes_the_curves_along_and_leaves_other_studies(finished):
    optuna.create_study(study_name="other", storage=url(finished))
    states = {entry.name: entry.state for entry in list_studies(url(finished))}
    assert states == {"tiny": "ended", "other": "not attnsearch's"}
    done = invoke("studies", "remove", "tiny", "--yes", "--out", str(finished))
    assert done.exit_code == 0, done.output
    assert optuna.get_all_study_names(url(finished)) == ["other"]
    with pytest.raises(UsageError, match="'other' was not made by attnsearch"):
        remove_study(url(finished), "other")


def test_nothing_is_removed_without_an_answer(finished):
    done = invoke("studies", "remove", "tiny", "--out", str(finished))
    assert isinstance(done.exception, UsageError)
    assert "add --yes" in str(done.exception)
    assert len(list_studies(url(finished))) == 1


def test_an_unknown_study_is_named_with_the_nearest(finished):
    done = invoke("studies", "remove", "tny", "--yes", "--out", str(finished))
    assert isinstance(done.exception, AttnsearchError)
    assert "Did you mean 'tiny'?" in str(done.exception)


def test_the_command_that_began_a_study_is_taken_apart():
    command = "attnsearch run --space cbam_variants --out=here --storage sqlite:///x.db --trials 4 --study s --resume"
    assert run_arguments("s", command) == ["run", "--space", "cbam_variants", "--trials", "4"]
    with pytest.raises(
        UsageError, match=r"not begun by `attnsearch run`: .*resume=True: attnsearch\.run\('x'\)"
    ):
        run_arguments("s", "attnsearch.run('x')")


def test_packed_curves_are_the_studys(finished, tmp_path):
    file = tmp_path / "bench.parquet"
    done = invoke("bench", "pack", "tiny", "--file", str(file), "--out", str(finished))
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(file)
    trials = [row for row in open_study("tiny", out=finished).record.trials if row.curve]
    assert len(table) == sum(len(row.curve) for row in trials)
    last = table[(table.key == trials[0].key) & (table.seed == trials[0].seed)].iloc[-1]
    assert last.val_error_pct == trials[0].curve[-1].val_error
    assert last.macs == trials[0].costs["macs"]
    assert {site: last[f"site:{site}"] for site in trials[0].sites} == trials[0].sites


@pytest.mark.slow
def test_resume_goes_on_by_the_command_that_began_the_study(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    begin = (
        "run --space tiny.yaml --data digits --epochs 1 --train-images 64 --workers 1 --device cpu --trials 1"
    )
    for words, trained in ((begin, 1), ("resume tiny --trials 2", 2)):
        done = subprocess.run(
            [sys.executable, "-m", "attnsearch", *words.split()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert len(open_study("tiny", out=tmp_path / "results").record.trials) == trained
