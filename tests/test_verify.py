"""`make verify`: every trial of the committed studies can be built again, and an error that differs is told."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from attnsearch.core.errors import DataError
from attnsearch.core.messages import Outcome
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch
from attnsearch.study.study import space_of
from benchmarks import verify

FOLDERS = sorted(path.parent for path in verify.RESULTS.glob("*/provenance.json"))
FIRST_RUN = verify.RESULTS / "first_run"


def record(folder: Path) -> StudyRecord:
    return StudyRecord(folder.name, json.loads((folder / "provenance.json").read_text())["facts"], ())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_committed_arch_is_found_by_its_key(folder: Path) -> None:
    rows = pd.read_csv(folder / "trials.csv", keep_default_na=False).drop_duplicates("key")
    study = record(folder)
    for key, text in zip(rows["key"], rows["arch"], strict=True):
        assert str(verify.arch_of(space_of(study), study, key, text)) == text


class Repeated:
    """A worker whose trainings end with the error that is set."""

    error = 0.0

    def __init__(self, *args: object) -> None: ...

    def run(self, job: object, tell: object) -> Outcome:
        return Outcome(0, "complete", (Epoch(1, 1.0, 1.0, self.error, 1.0),), "", 1.0, "cpu, 1 thread")


@pytest.mark.parametrize(("moved", "equal", "word"), [(0.0, True, "equal"), (0.05, False, "NOT EQUAL")])
def test_one_wrong_image_in_two_thousand_is_seen(
    moved: float, equal: bool, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(FIRST_RUN / "trials.csv", keep_default_na=False)
    row = rows[rows["state"] == "complete"].iloc[
        random.Random(1).randrange(int((rows["state"] == "complete").sum()))
    ]
    monkeypatch.setattr(verify, "Worker", Repeated)
    monkeypatch.setattr(verify, "data_of", lambda info: None)
    monkeypatch.setattr(Repeated, "error", float(row["error_pct"]) + moved)
    assert verify.verify(FIRST_RUN, None, random.Random(1)) is equal
    assert f"trial {row['trial']}, " in (line := capsys.readouterr().out)
    assert line.split("now, ")[1].startswith(word)


def test_a_study_whose_images_are_not_at_hand_is_skipped_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.verify(verify.RESULTS / "pretrained", None, random.Random(0))
    line = capsys.readouterr().out
    assert line.startswith("pretrained: skipped, ")
    assert "use --files FOLDER" in line
    assert verify.verify(verify.RESULTS / "pretrained", tmp_path, random.Random(0))
    assert f"is not under {tmp_path}" in capsys.readouterr().out


def test_a_study_that_cannot_be_repeated_is_told_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(info: object) -> None:
        raise DataError("the images have changed since the study began")

    monkeypatch.setattr(verify, "data_of", changed)
    assert verify.verify(FIRST_RUN, None, random.Random(0)) is False
    assert capsys.readouterr().out == "first_run: the images have changed since the study began\n"
