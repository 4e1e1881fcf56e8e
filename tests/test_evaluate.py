"""`attnsearch evaluate`: accuracy and recalls counted again by hand, and its answers to mistakes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnsearch
from attnsearch.__main__ import main
from attnsearch.build.resnet import build
from attnsearch.core.errors import UsageError
from attnsearch.core.normalisation import convention
from attnsearch.space.presets import read_arch

HOST = {"name": "resnet8", "width": 8, "shortcut": "pad"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three unequal classes, weights of a network for them, and an arch file."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 40), ("test", 90)):
        labels = np.resize([0, 0, 0, 1, 1, 2], count)
        images = rng.integers(0, 256, (count, 16, 16, 3)) // 2 + 60 * labels[:, None, None, None]
        arrays |= {f"x_{part}": images.clip(0, 255).astype(np.uint8), f"y_{part}": labels}
    np.savez(folder / "d.npz", **arrays)
    model = build(read_arch({"host": HOST}), classes=3, seed=3)
    torch.save({"net": model.state_dict(), "acc": np.float64(1.0)}, folder / "w.pth")
    (folder / "arch.yaml").write_text("host: {name: resnet8, width: 8, shortcut: pad}\n")
    return folder


@dataclass
class Run:
    """Runs the command on the folder's weights and images; what it printed stands in `out` and `err`."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def __call__(self, *more: str, arch: str = "") -> int:
        given = ["evaluate", arch or str(self.folder / "arch.yaml"), "--weights", str(self.folder / "w.pth")]
        code = main([*given, "--data", str(self.folder / "d.npz"), *more])
        self.out, self.err = self.capture.readouterr()
        return code


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(folder / "cache"))
    return Run(folder, capsys)


def test_the_answer_is_the_networks_own(run: Run, folder: Path) -> None:
    assert run("--split", "test", "--normalise", "imagenet", "--json") == 0, run.err
    found = json.loads(run.out)
    held = np.load(folder / "d.npz")
    model = build(read_arch({"host": HOST}), classes=3, seed=3).eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    x = torch.from_numpy(held["x_test"]).permute(0, 3, 1, 2).float() / 255
    guesses = model((x - mean) / std).argmax(1).numpy()
    right = guesses == held["y_test"]
    recalls = [100 * right[held["y_test"] == kind].mean() for kind in range(3)]
    assert found["n"] == 90
    assert found["split"] == "test"
    assert found["accuracy"] == pytest.approx(100 * right.mean())
    assert found["error"] == pytest.approx(100 - 100 * right.mean())
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert [row["recall"] for row in found["classes"].values()] == pytest.approx(recalls)
    assert [row["n"] for row in found["classes"].values()] == [45, 30, 15]


def test_a_person_reads_the_same(run: Run) -> None:
    assert run("--split", "all") == 0, run.err
    assert "of 130 images right" in run.out
    assert "normalised by data" in run.out  # a CIFAR stem and no word: the data's own
    assert "tensors loaded" in run.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--normalise", "imagnet"], "Did you mean 'imagenet'"),
        (["--normalise", "0.5,0.5/0.2,0.2,0.2"], "standard deviations above 0"),
        (["--split", "tset"], "Did you mean 'test'"),
    ],
)
def test_mistakes(run: Run, more: list[str], message: str) -> None:
    assert run(*more) == 2
    assert message in run.err
    assert "Traceback" not in run.err


def test_weights_of_another_host_are_named(run: Run) -> None:
    assert run(arch="resnet20") == 2
    assert "The host that fits it: host: {name: resnet8, width: 8, shortcut: pad}" in run.err


def spoiled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value * torch.nan if value.is_floating_point() else value for key, value in state.items()}


BAD_WEIGHTS = {
    "truncated": (lambda path, model: path.write_bytes(path.read_bytes()[:5000]), "damaged"),
    "code": (lambda path, model: torch.save(model, path), "save its weights anew"),
    "NaN": (lambda path, model: torch.save(spoiled(model.state_dict()), path), "NaN or infinity in"),
    "no match": (
        lambda path, model: torch.save({"a.b": torch.zeros(2)}, path),
        "No tensor of the checkpoint fits",
    ),
    "channels": (
        lambda path, model: torch.save(build(read_arch({"host": HOST}), in_channels=1).state_dict(), path),
        "takes images of 1 channels",
    ),
    "classes": (
        lambda path, model: torch.save(build(read_arch({"host": HOST}), classes=7).state_dict(), path),
        "it is for 7 classes, here there are 3",
    ),
    "gone": (lambda path, model: path.unlink(), "Checkpoint not found"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_cannot_be_used_end_with_2_and_a_sentence(
    case: str, folder: Path, run: Run, tmp_path: Path
) -> None:
    spoil, message = BAD_WEIGHTS[case]
    path = tmp_path / "w.pth"
    path.write_bytes((folder / "w.pth").read_bytes())
    spoil(path, build(read_arch({"host": HOST}), classes=3))
    assert run("--weights", str(path)) == 2
    assert message in run.err
    assert "Traceback" not in run.err


def test_conventions() -> None:
    assert convention("imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert convention("0.5/0.25", 1) == ((0.5,), (0.25,))
    assert convention("data") is None
    with pytest.raises(UsageError, match="3 channels, these have 1"):
        convention("imagenet", 1)
    with pytest.raises(UsageError, match="above 0"):
        convention("0.5/0", 1)


def test_weights_that_the_arch_file_names(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """As they stand beside it, from wherever the program runs; those on the command line go before them."""
    (folder / "started.yaml").write_text("host: {name: resnet8, width: 8, shortcut: pad, weights: w.pth}\n")
    assert run("--json") == 0, run.err
    expected = json.loads(run.out)["accuracy"]
    given = ["evaluate", str(folder / "started.yaml"), "--data", str(folder / "d.npz"), "--json"]
    assert main(given) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == expected
    assert main([*given, "--weights", str(folder / "gone.pth")]) == 2
    assert "gone.pth" in capsys.readouterr().err
    model = attnsearch.create_model(folder / "started.yaml", num_classes=3)
    trained = build(read_arch({"host": HOST}), classes=3, seed=3).state_dict()
    torch.testing.assert_close(model.state_dict()["fc.weight"], trained["fc.weight"], atol=0, rtol=0)
    (folder / "wrong.yaml").write_text("host: {name: resnet8, weights: [w.pth]}\n")
    assert main(["cost", str(folder / "wrong.yaml")]) == 2
    assert "host.weights: expected a file of weights, got" in capsys.readouterr().err
    assert main(["evaluate", str(folder / "arch.yaml"), "--data", str(folder / "d.npz")]) == 2
    assert "evaluate takes weights: --weights FILE" in capsys.readouterr().err
