"""`attnsearch train`: a winner to full length, stopped and gone on with to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import attnsearch
from attnsearch.__main__ import main
from attnsearch.core.errors import DataError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch
from attnsearch.export import choose
from attnsearch.study.study import open_study, settings_of
from attnsearch.tools.full_training import MODEL, RESULT, STATE, Plan, Watcher, evaluate_on_test, train
from tests.test_pretrained import InThisProcess

# Averaged weights, moments of AdamW and augmentation are all part of what must be gone on with.
SPACE = """
question: Does ECA help?
host: {name: resnet8, width: 4}
design: add
tied: true
stages: {attention: [none, eca]}
recipe: {epochs: 1, batch_size: 64, train_images: 256, optimizer: adamw, lr: 0.01, ema: 0.9, augment: [crop]}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with the study `short`: the host and ECA on digits, two seeds."""
    out = tmp_path_factory.mktemp("study")
    space = out / "short.yaml"
    space.write_text(SPACE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attnsearch.train.local_engine.LocalPool", InThisProcess)
        patch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
        attnsearch.run(space, data="digits", out=out, seeds=2, controls="none", device="cpu", study="short")
    return out


@pytest.fixture
def record(results: Path) -> StudyRecord:
    return open_study("short", out=results).record


def settings(record: StudyRecord, results: Path) -> Settings:
    return settings_of(record, storage=f"sqlite:///{results / 'attnsearch.db'}", out=results)


class Killed(Exception):
    pass


class Kill(Watcher):
    """Ends the process, as it were, in the midst of an epoch, after so many whole ones."""

    def __init__(self, after: int) -> None:
        self.after, self.epochs = after, 0

    def step(self) -> None:
        if self.epochs == self.after:
            raise Killed

    def epoch(self, epoch: Epoch) -> None:
        self.epochs += 1


class Notes(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.trained: list[int] = []

    def epoch(self, epoch: Epoch) -> None:
        self.trained.append(epoch.epoch)

    def note(self, message: str) -> None:
        self.notes.append(message)


def folder_of(results: Path, plan: Plan) -> Path:
    return results / "short" / "train" / plan.name


def test_a_killed_training_goes_on_to_the_same_bits(
    record: StudyRecord, results: Path, tmp_path: Path
) -> None:
    plan = Plan(choose(record, "best"), 4)
    place = settings(record, results)
    whole = train(record, plan, place, Watcher())
    kept = (folder_of(results, plan) / MODEL).read_bytes()
    curve = (folder_of(results, plan) / "curve.csv").read_text(encoding="utf-8")
    folder_of(results, plan).rename(tmp_path / "whole")
    with pytest.raises(Killed):
        train(record, plan, place, Kill(after=2))
    assert not (folder_of(results, plan) / RESULT).exists()
    watcher = Notes()
    again = train(record, plan, place, watcher)
    assert watcher.trained == [3, 4]
    assert (folder_of(results, plan) / MODEL).read_bytes() == kept
    assert again["sha256"] == whole["sha256"]
    assert again["validation"] == whole["validation"]
    losses = [line.rsplit(",", 1)[0] for line in curve.splitlines()]  # without the seconds
    again_losses = (folder_of(results, plan) / "curve.csv").read_text(encoding="utf-8").splitlines()
    assert [line.rsplit(",", 1)[0] for line in again_losses] == losses
    assert not (folder_of(results, plan) / STATE).exists()


def test_the_result_says_what_it_is(record: StudyRecord, results: Path) -> None:
    plan = Plan(choose(record, "0"), 2)
    result = train(record, plan, settings(record, results), Watcher())
    assert (result["trial"], result["epochs"], result["validation"]["n"]) == (
        0,
        2,
        269,
    )  # 15 % of 1,797 digits
    assert result["test"] is None
    assert "1 thread" in result["device"]
    stored = json.loads((folder_of(results, plan) / RESULT).read_text(encoding="utf-8"))
    assert stored == result
    assert (
        open_study("short", out=results).record.info.trained.results[str(folder_of(results, plan))] == result
    )


def test_nothing_is_trained_or_written_twice(record: StudyRecord, results: Path) -> None:
    plan = Plan(choose(record, "1"), 1)
    first = train(record, plan, settings(record, results), Watcher())
    before = (folder_of(results, plan) / MODEL).stat().st_mtime_ns
    watcher = Notes()
    assert train(record, plan, settings(record, results), watcher) == first
    assert watcher.trained == []
    assert "nothing is trained again" in watcher.notes[0]
    assert (folder_of(results, plan) / MODEL).stat().st_mtime_ns == before


def changed_state(folder: Path, record: StudyRecord) -> None:
    """The state of a training by another recipe, in a folder of the same name."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(folder / STATE, "pt") as file:
        metadata, names = file.metadata(), list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    stamp = json.loads(metadata["stamp"])
    stamp["recipe"]["lr"] = 0.5
    save_file(tensors, folder / STATE, {**metadata, "stamp": json.dumps(stamp)})


def test_the_state_of_another_training_is_refused(record: StudyRecord, results: Path) -> None:
    plan = Plan(choose(record, "0"), 3)
    with pytest.raises(Killed):
        train(record, plan, settings(record, results), Kill(after=1))
    changed_state(folder_of(results, plan), record)
    with pytest.raises(UsageError, match=r"is of another training: recipe differ\. Remove its folder"):
        train(record, plan, settings(record, results), Watcher())
    (folder_of(results, plan) / STATE).write_bytes(b"no tensors")
    with pytest.raises(DataError, match="no state of a training can be read"):
        train(record, plan, settings(record, results), Watcher())


def test_the_test_images_are_read_on_request_and_written_down(record: StudyRecord, results: Path) -> None:
    plan = Plan(choose(record, "1"), 2)
    place = settings(record, results)
    train(record, plan, place, Watcher())
    opened = len(open_study("short", out=results).record.info.test.openings)
    result = evaluate_on_test(record, plan, place, Watcher())
    assert result["test"]["n"] == 269
    assert 0 <= result["test"]["error"] <= 100
    assert evaluate_on_test(record, plan, place, Watcher()) == result  # read, not opened again
    entries = open_study("short", out=results).record.info.test.openings
    assert len(entries) == opened + 1
    assert entries[-1].seeds == (plan.row.seed,)


def run(*words: Any) -> int:
    return main(["train", *map(str, words)])


def test_from_the_command_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("short", "--trial", "A1", "--epochs", 5, "--out", results, "--device", "cpu") == 0
    said = capsys.readouterr()
    assert "epoch 5/5" in said.err
    words = " ".join(said.out.split())
    assert "of 269 images" in words
    assert "n = 1 training. The test images were not read" in words
    assert run("short", "--trial", "A1", "--epochs", 5, "--out", results, "--device", "cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 5


MISTAKES = {
    "without a length": (["short"], "Missing option '--epochs'"),
    "no length": (["short", "--epochs", "0"], "must be an integer ≥ 1"),
    "an unknown trial": (
        ["short", "--epochs", "1", "--trial", "99"],
        "No trial '99' in study 'short': 0 to 3",
    ),
    "an unknown study": (["shorter", "--epochs", "1"], "Did you mean 'short'?"),
    "weights that it had not": (["short", "--epochs", "1", "--weights", "SPACE"], "began without weights"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = MISTAKES[mistake]
    words = [str(results / "short.yaml") if word == "SPACE" else word for word in words]
    assert run(*words, "--out", results) == 2
    assert message in capsys.readouterr().err
