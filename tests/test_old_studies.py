"""Studies that earlier versions wrote are read, reported and gone on with.

`fixtures/studies_0_1_0.db` was written by version 0.1.0 before its attributes were read by type: a search of 8 trials,
an ablation with a null gate, and a search of 12 that SIGTERM ended after three.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import attnsearch
from attnsearch import report
from attnsearch.core.study_attrs import plain
from attnsearch.core.study_info import StudyInfo
from attnsearch.study.study import open_study, space_of

STUDIES = Path(__file__).parent / "fixtures" / "studies_0_1_0.db"


@pytest.fixture
def out(tmp_path):
    shutil.copy(STUDIES, tmp_path / "attnsearch.db")
    return tmp_path


def _like(new: object, old: object) -> object:
    """What the old value has of the new one: later versions know more of a recipe or a design."""
    return {key: new[key] for key in old} if isinstance(new, dict) and isinstance(old, dict) else new


@pytest.mark.parametrize("name", ["search", "ablation", "interrupted"])
def test_what_is_written_is_what_was_read(out, name):
    """Every part gives back the attributes that it came from, under their old names."""
    record = open_study(name, out=out).record
    info = record.info
    parts = (info.space, info.costs, info.run, info.search, info.data, info.design)
    written = {key: value for part in parts if part for key, value in part.to_attrs().items()}
    assert {key: _like(written[key], value) for key, value in record.attrs.items()} == dict(record.attrs)
    assert StudyInfo.from_attrs({**record.attrs, "of a later version": 1}) == info


def test_a_search_is_read_and_reported(out):
    record = open_study("search", out=out).record
    assert record.info.space.size == 27  # three options in each of three stages
    assert record.info.costs.axes == ("macs",)
    assert record.info.recipe.epochs == 2
    assert record.info.design is None
    assert len(record.trials) == 8
    report.write(report.build(record), out / "search", pictures=False)
    told = json.loads((out / "search" / "report.json").read_text())
    assert told["facts"]["data"].startswith("digits; 10 classes")
    assert len(told["tables"]["trials"]["rows"]) == 8


def test_an_ablation_is_read_and_reported(out):
    record = open_study("ablation", out=out).record
    design = record.info.design
    assert design is not None
    assert (design.kind, design.seeds, list(design.controls.values())) == ("loo", 2, ["null gate"])
    assert record.info.run.margin == 1.0
    judged = report.build(record).verdicts
    assert judged is not None
    assert len(judged.rows) == 3  # plain, and the reference without each of its two gates


def test_an_interrupted_search_goes_on(out, tmp_path):
    before = open_study("interrupted", out=out).record
    done = [trial.number for trial in before.trials if trial.state == "complete"]
    assert 3 <= len(done) < 8
    after = attnsearch.run(
        space_of(before),
        data="digits",
        study="interrupted",
        out=out,
        resume=True,
        trials=8,
        pruner="none",
        budget="params<=1.5x",
        workers=1,
        device="cpu",
    ).record
    complete = [trial for trial in after.trials if trial.state == "complete"]
    assert len(complete) == 8
    assert complete[: len(done)] == [trial for trial in before.trials if trial.state == "complete"]
    assert after.info.run.started == before.info.run.started
    assert plain(after.info.space.to_attrs()) == plain(before.info.space.to_attrs())
