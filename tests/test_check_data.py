"""`attnsearch check --data`: a folder with every fault that a folder has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnsearch.__main__ import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes in two splits: one torn file, one page of HTML, one picture that is in both splits."""
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for kind in ("ant", "bee"):
            (root / part / kind).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (120, 100, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / kind / f"{i}.png")
    torn = root / "train" / "ant" / "0.png"
    torn.write_bytes(torn.read_bytes()[:2000])
    (root / "train" / "bee" / "1.png").write_text("<html>not found</html>")
    (root / "val" / "bee" / "0.png").write_bytes((root / "train" / "bee" / "0.png").read_bytes())
    return root


def test_every_fault_is_listed_and_nothing_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--data", str(folder), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"train": {"ant": 5, "bee": 5}, "val": {"ant": 3, "bee": 3}}
    assert [sorted(path for path in ("ant/0.png", "bee/1.png") if path in bad) for bad in found["bad"]] == [
        ["ant/0.png"],
        ["bee/1.png"],
    ]
    assert any("1 val image also in train" in warning for warning in found["warnings"])
    assert any("resized to 64×64" in warning for warning in found["warnings"])
    assert main(["check", "--data", str(folder)]) == 3
    said = capsys.readouterr().out
    assert "2 classes, 3×64×64" in " ".join(said.split())
    assert "Bad: not an image:" in " ".join(said.split())


def test_a_sound_data_set_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bad in ("ant/0.png", "bee/1.png"):
        (folder / "train" / bad).unlink()
    assert main(["check", "--data", str(folder)]) == 0
    assert "Bad:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message", "code"),
    [
        (["check"], "one of them", 2),
        (["check", "se", "--data", "digits"], "one of them", 2),
        (["check", "--data", "nope"], "Data folder not found: nope", 3),
    ],
)
def test_mistakes(given: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == code
    assert message in capsys.readouterr().err


def test_one_image_classes_and_a_class_in_one_split_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "val" / "bee").rename(folder / "val" / "wasp")
    assert main(["check", "--data", str(folder)]) == 3
    assert "class 'wasp' is in val but not in train" in capsys.readouterr().err
