"""The row of training images that a study keeps and its page shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import attnsearch
from attnsearch import report as reports
from attnsearch.core.study_attrs import SampleImages
from attnsearch.core.trial import Recipe
from attnsearch.data import Data, open_data
from attnsearch.report import html
from attnsearch.study.sample_images import GAP, LARGEST, SHOWN, sample_images
from tests.test_reports import record


def data_of(folder: Path, side: int, channels: int = 3) -> Data:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, side, side, channels), dtype=np.uint8)
    np.savez(folder / f"d{side}{channels}.npz", x_train=images, y_train=np.resize([0, 1], 40))
    return open_data(str(folder / f"d{side}{channels}.npz"), image_size=side)


def shown(kept: SampleImages, side: int) -> list[np.ndarray]:
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(kept.data))))
    return [picture[:, i * (side + GAP) : i * (side + GAP) + side] for i in range(SHOWN)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_augmentation_they_are_training_images_of_the_named_classes(
    tmp_path: Path, channels: int
) -> None:
    data = data_of(tmp_path, 12, channels)
    kept = sample_images(data, Recipe(augment=()), 0)
    assert kept.kind == "png"
    known = {
        image.transpose(1, 2, 0).tobytes(): label
        for image, label in zip(data.train.images, data.train.labels, strict=True)
    }
    labels = [known[np.ascontiguousarray(image).tobytes()] for image in shown(kept, 12)]
    assert [data.classes[label] for label in labels] == list(kept.classes)
    assert len(set(labels)) == 2


def test_a_seed_decides_and_the_recipe_is_followed(tmp_path: Path) -> None:
    data = data_of(tmp_path, 12)
    mixed = Recipe(augment=("mixup=1",))
    assert sample_images(data, mixed, 1) == sample_images(data, mixed, 1)
    assert sample_images(data, mixed, 1).data != sample_images(data, mixed, 2).data
    plain = shown(sample_images(data, Recipe(augment=()), 1), 12)
    changed = shown(sample_images(data, mixed, 1), 12)
    assert all((a != b).any() for a, b in zip(plain, changed, strict=True))


def test_large_photos_are_shown_smaller(tmp_path: Path) -> None:
    kept = sample_images(data_of(tmp_path, 160), Recipe(), 0)
    picture = Image.open(io.BytesIO(base64.b64decode(kept.data)))
    assert (kept.kind, picture.height) == ("jpeg", LARGEST)
    assert len(kept.data) < 200_000


@pytest.mark.parametrize("hidden", [False, True])
def test_a_study_keeps_them_unless_it_is_told_not_to(tmp_path: Path, hidden: bool) -> None:
    data_of(tmp_path, 12)
    (tmp_path / "s.yaml").write_text(
        "host: {name: resnet8, width: 4}\nstages: {attention: [none, se]}\ntied: true\n"
        "recipe: {epochs: 1, batch_size: 14, augment: [color_jitter]}\ndesign: add\n"
    )
    study = attnsearch.run(
        tmp_path / "s.yaml",
        data=str(tmp_path / "d123.npz"),
        out=tmp_path / "results",
        seeds=2,
        controls="none",
        workers=1,
        device="cpu",
        no_images=hidden,
    )
    assert (study.record.info.samples is None) == hidden
    page = (tmp_path / "results/s/report.html").read_text(encoding="utf-8")
    assert ("8 training images of 12x12 pixels as a network sees them, after color_jitter" in page) != hidden
    assert '"samples"' not in (tmp_path / "results/s/provenance.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "kept",
    [{"kind": "svg+xml", "data": "AAAA"}, {"kind": "png", "data": '"><script>'}, {"kind": "png", "data": ""}],
)
def test_what_is_no_picture_is_not_shown(kept: dict[str, str]) -> None:
    page = html.render(reports.build(record(samples=kept)), [])
    assert "Training images" not in page
