"""The test split: frozen archs, one opening, a ledger that only grows."""

from __future__ import annotations

import json
import math

import pytest

import attnsearch
from attnsearch.core.errors import UsageError
from attnsearch.core.metrics import METRICS
from attnsearch.core.study_attrs import TestResult
from attnsearch.report import as_json, build
from attnsearch.report.provenance import ledger
from attnsearch.report.test_result import final_table as table_of
from attnsearch.study import test_split
from attnsearch.study.study import open_study
from tests.engine import instead_of_workers

SPACE = """
question: Which?
host: {name: resnet8, width: 4}
stages: {attention: [none, simam, gct]}
tied: true
recipe: {epochs: 1, batch_size: 64, train_images: 256}
"""


def error(arch, seed, epochs):
    return {"gct": 10.0, "simam": 30.0}.get(arch.stages[0].attention.name, 20.0) + seed % 3


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished design of three variants, of which `gct` is on the front beside the baseline."""
    instead_of_workers(monkeypatch, error)
    monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
    (tmp_path / "which.yaml").write_text(SPACE)
    given = {
        "data": "digits",
        "out": tmp_path,
        "study": "s",
        "design": "add",
        "controls": "none",
        "workers": 1,
    }
    attnsearch.run(str(tmp_path / "which.yaml"), seeds=2, **given)
    return tmp_path


TESTED = test_split.Tested({"k": {}}, {"k": {}}, val_images=1, test_images=1)


def test_the_front_and_the_baseline_are_tested_once_and_the_ledger_says_so(study):
    began = []
    first = test_split.open_test_split("s", out=study, device="cpu", notify=began.append)
    assert [str(arch).split("(")[0] for arch in first.archs.values()] == ["plain", "all stages gct"]
    assert len(began) == 2 * 3  # archs x fresh seeds
    used = {trial.seed for trial in open_study("s", out=study).record.trials}
    assert not used & set(first.seeds)
    assert all(0 <= e <= 100 for found in first.errors.values() for e in found["test"])

    again = test_split.open_test_split("s", out=study, device="cpu", notify=began.append)
    assert again == first
    assert len(began) == 6  # nothing was trained, nothing opened
    lines = [json.loads(line) for line in (study / "s" / test_split.LEDGER).read_text().splitlines()]
    # written before the images are read, and after
    assert [("errors" in line) for line in lines] == [False, True]

    record = open_study("s", out=study).record
    assert len(as_json(build(record))["tables"]["test"]["rows"]) == 2
    assert ledger(record.info.test.openings).startswith("opened once: ")


def test_other_archs_are_a_second_opening_and_the_user_is_told(study, monkeypatch):
    monkeypatch.setattr(test_split, "evaluate_all", lambda *given, before, **more: before() or TESTED)
    test_split.open_test_split("s", out=study)
    said = []
    second = test_split.open_test_split("s", out=study, seeds=4, notify=said.append)
    assert second.opening == 2
    assert "opened 1 time(s)" in said[0]
    assert len((study / "s" / test_split.LEDGER).read_text().splitlines()) == 4


def test_an_opening_that_broke_off_still_counts(study, monkeypatch):
    def breaks(*given, before, **more):
        before()
        raise KeyboardInterrupt

    monkeypatch.setattr(test_split, "evaluate_all", breaks)
    with pytest.raises(KeyboardInterrupt):
        test_split.open_test_split("s", out=study)
    monkeypatch.setattr(test_split, "evaluate_all", lambda *given, before, **more: before() or TESTED)
    assert test_split.open_test_split("s", out=study).opening == 2


def test_the_interval_takes_in_seeds_and_images():
    errors = {
        "a": {"val": [9.0, 11.0, 10.0], "test": [10.0, 12.0, 11.0]},
        "b": {"val": [5.0, 7.0, 6.0], "test": [8.0, 10.0, 9.0]},
    }
    archs = {"a": "plain", "b": "se"}
    table = table_of(
        [TestResult(1, "f", archs, (1, 2, 3), errors=errors, val_images=400, test_images=900)],
        METRICS["error"],
    )
    _, seeds, test, _, gap = table.rows[0]
    # by hand: pooled sd 1 on 4 degrees of freedom, t = 2.7764; share .11 of 900 images
    half = math.sqrt(2.776445**2 / 3 + 1.96**2 * 1e4 * 0.11 * 0.89 / 900)
    assert (seeds, test.mean) == (3, 11.0)
    assert test.half == pytest.approx(half, abs=1e-3)
    assert gap.mean == -1.0


def test_one_seed_is_no_test(tmp_path):
    with pytest.raises(UsageError, match="takes 3 seeds at least"):
        test_split.open_test_split("s", seeds=1, out=tmp_path)
