"""`attnsearch init --data`: a space file that fits images and weights, and that `run` takes at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnsearch.__main__ import main
from attnsearch.build.resnet import build
from attnsearch.space.presets import read_arch
from attnsearch.space.space import load_space
from tests.test_dry_run import Clocked


def photos(folder: Path, classes: dict[str, int], shape: tuple[int, int] = (60, 80)) -> Path:
    """A folder of pictures, so many of each class."""
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a ResNet-18 for 1,000 classes, as a trainer may have written it."""
    state = build(read_arch({"host": "resnet18"}), classes=1000).state_dict()
    path = tmp_path / "it's r18.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


@pytest.fixture(autouse=True)
def clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained."""
    monkeypatch.setattr(
        "attnsearch.train.local_engine.LocalPool", lambda *args, **options: Clocked(lambda arch: 0.1)
    )


def test_it_fits_the_images_and_runs_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = photos(tmp_path / "my photos", {"ant": 40, "bee": 20}, (120, 160)), tmp_path / "s.yaml"
    assert main(["init", str(file), "--data", str(folder)]) == 0
    said = capsys.readouterr()
    text = file.read_text(encoding="utf-8")
    assert "Images: 42 train, 9 val, 9 test; 64×64 pixels" in text
    assert "2 (ant, bee); 'bee' has the fewest, 14 training images" in text
    assert "resized to 64×64" in said.err
    assert load_space(file).recipe.batch_size == 4  # eight steps of 42 images and more
    assert f"run --space {file} --data '{folder}'" in " ".join(said.out.split())
    assert (
        main(["run", "--space", str(file), "--data", str(folder), "--out", str(tmp_path), "--dry-run"]) == 0
    )


def test_it_fits_the_weights(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = photos(tmp_path / "photos", {"ant": 12, "bee": 12}), tmp_path / "s.yaml"
    assert main(["init", str(file), "--data", str(folder), "--weights", str(weights)]) == 0
    space = load_space(file)
    assert (space.host.name, space.weights) == ("resnet18", str(weights))
    assert space.recipe.head_lr == 10  # of the recipe finetune
    assert "224×224 pixels" in file.read_text(encoding="utf-8")
    said = capsys.readouterr()
    assert "all images are smaller than 224×224 (at most 60×80) and enlarged" in said.err
    command = ["run", "--space", str(file), "--data", str(folder), "--out", str(tmp_path), "--dry-run"]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "images are 224×224 pixels; weights of this stem were made for 224×224" in told


MISTAKES = {
    "weights without images": (["--weights", "FILE"], 2, "add --data"),
    "a size without images": (["--image-size", "64"], 2, "add --data"),
    "no images": (["--data", "nowhere"], 3, "nowhere"),
    "no weights": (["--data", "digits", "--weights", "IMAGES"], 2, "is not a checkpoint"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_write_nothing(
    mistake: str, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, code, message = MISTAKES[mistake]
    (tmp_path / "text.pth").write_text("no weights")
    places = {"FILE": str(weights), "IMAGES": str(tmp_path / "text.pth")}
    file = tmp_path / "s.yaml"
    assert main(["init", str(file), *(places.get(word, word) for word in words)]) == code
    assert message in capsys.readouterr().err
    assert not file.exists()


# What cannot be split or seen well, and its sentence: {folder: {class: images}}.
BAD = {
    "a class in val alone": (
        {"train": {"a": 4, "b": 4}, "val": {"a": 2, "b": 2, "c": 2}},
        3,
        "class 'c' is in val but not in train",
    ),
    "a class in train alone": (
        {"train": {"a": 4, "b": 4, "c": 4}, "val": {"a": 2, "b": 2}},
        3,
        "class 'c' has no image in val",
    ),
    "a class of one image": (
        {"": {"a": 8, "b": 1}},
        3,
        "class 'b' has 1 image; cannot be in both train and val",
    ),
    "all images smaller than asked": (
        {"": {"a": 8, "b": 8}},
        0,
        "all images are smaller than 96×96 (at most 60×80) and enlarged, which adds no detail",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_images_that_cannot_be_split_or_seen(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts, code, message = BAD[case]
    for part, classes in parts.items():
        photos(tmp_path / "photos" / part, classes)
    options = ["--host", "resnet8", "--blocks", "eca", "--image-size", "96", "--device", "cpu", "--dry-run"]
    command = ["run", *options, "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "results")]
    assert main(command) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results").exists()


SIZES = [
    ("spaces cbam_variants --data cifar10 --image-size 64", "3×64×64"),
    ("cost resnet18 --image-size 96", "3×96×96"),
]


@pytest.mark.parametrize(("command", "size"), SIZES)
def test_costs_are_told_at_a_size(command: str, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 0
    assert size in capsys.readouterr().out


def test_small_last_maps_are_told_with_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "resnet18", "--image-size", "64"]) == 0
    assert "maps of 2×2 at images of 64×64" in capsys.readouterr().err
    assert main(["cost", "resnet18", "--image", "3x64x64", "--image-size", "64"]) == 2
    assert "give one of them" in capsys.readouterr().err
