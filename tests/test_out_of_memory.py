"""Out of memory: smaller parts of a batch with gradients added up, recorded in the row; or what did not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import attnsearch
from attnsearch.build.resnet import ResNet, build
from attnsearch.core.messages import DataSource, Job
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Host, plain
from attnsearch.space.question import written
from attnsearch.space.space import read_space
from attnsearch.study.observer import Observer
from attnsearch.study.study import open_study
from attnsearch.train.fit import Training
from attnsearch.train.images import DeviceData
from attnsearch.train.worker import Worker
from tests.test_pretrained import InThisProcess

RECIPE = Recipe(epochs=1, batch_size=64, train_images=256)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that trains on `room[0]` images at a time at most; `room[1:]` are the numbers it was given."""
    room = [64]
    forward = ResNet.forward

    def limited(self: ResNet, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            room.append(len(x))
            if len(x) > room[0]:
                raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")
        return forward(self, x)

    monkeypatch.setattr(ResNet, "forward", limited)
    return room


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {"recipe": RECIPE, "spec": plain(Host("resnet8", width=4)).to_dict(), "seed": 3}
    return Job(number=1, **values | changes)


def run(work: Job) -> Any:
    return Worker(DataSource("digits"), "cpu").run(work, lambda progress: True)


@pytest.mark.parametrize(("fits", "parts"), [(64, 1), (40, 2), (16, 4), (4, 16)])
def test_batches_are_halved_until_they_fit(fits: int, parts: int, room: list[int]) -> None:
    room[0] = fits
    outcome = run(job())
    assert (outcome.state, outcome.parts) == ("complete", parts), outcome.reason
    assert max(room[-4:]) == 64 // parts
    assert len(outcome.curve) == 1


def test_what_does_not_fit_is_said(room: list[int]) -> None:
    room[0] = 3
    outcome = run(job())
    assert outcome.state == "failed"
    assert outcome.reason == (
        "oom: tried to allocate 2.00 GiB; 4 images at a time do not fit: a smaller --image-size or host may"
    )


def test_timed_steps_are_those_of_the_parts(room: list[int]) -> None:
    room[0] = 32
    outcome = run(job(timed=True))
    assert outcome.timing is not None
    assert outcome.parts == 2


def test_parts_add_up_to_the_whole_batch() -> None:
    """In eval mode, where no norm sees the batch, the gradients are those of one pass."""
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 8, 8, 3), dtype=torch.uint8, generator=drawn).permute(0, 3, 1, 2)
    labels = torch.randint(0, 3, (12,), generator=drawn)
    gradients = []
    for parts in (1, 3, 5):  # 5 parts of 12 images are 3, 3, 3 and 3
        model = build(plain(Host("resnet8", width=4)), classes=3, seed=1)
        data = DeviceData(images, labels, images, labels, mean=(0.5,) * 3, std=(0.25,) * 3, augment=())
        recipe = Recipe(epochs=1, batch_size=12, precision="float32")
        training = Training(model, data, recipe, seed=0, parts=parts)
        model.eval()
        x = images.float() / 255
        training.step(x.contiguous(memory_format=torch.channels_last), labels)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for other in gradients[1:]:
        for ours, theirs in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_the_row_keeps_it_and_the_user_is_told(
    room: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room[0] = 32
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", InThisProcess)
    monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
    watcher = Notes()
    space = read_space(written("resnet8", ["eca"]), "q")
    values: dict[str, Any] = {
        "data": "digits",
        "out": tmp_path,
        "seeds": 2,
        "controls": "none",
        "device": "cpu",
    }
    attnsearch.run(space, observer=watcher, study="s", epochs=1, batch_size=64, train_images=128, **values)
    rows = open_study("s", out=tmp_path).record.trials
    assert {row.parts for row in rows} == {2}
    told = [note for note in watcher.notes if "ran out of memory" in note]
    assert len(told) == len(rows) == 4
    assert "batches of 64 images went through the network in 2 parts" in told[0]
    assert "--batch-size 32 makes all trials alike" in told[0]
