"""`--group-by`: no patient, scene or video stands in two splits, whatever is cut from what."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from attnsearch.__main__ import main
from attnsearch.core.errors import DataError
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Recipe
from attnsearch.data import Data, open_data, open_test
from attnsearch.data.grouping import split_groups
from attnsearch.train.images import device_data, resplit, with_half_of_val

PATIENTS, OF_EACH = 24, 6


def picture(patient: int, take: int) -> Image.Image:
    """8 x 8 pixels whose colour is the patient's number: what tells in a split whom a picture shows."""
    pixels = np.full((8, 8, 3), 10 * patient, np.uint8)
    pixels[take, 0] = 255 - take
    return Image.fromarray(pixels)


def kind(patient: int, take: int) -> str:
    """Most patients have one class, every third has both."""
    return ("ill", "well")[(patient + (take if patient % 3 == 0 else 0)) % 2]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same pictures as a folder of patients, a folder of speaking names, a parquet and an npz file."""
    root = tmp_path_factory.mktemp("patients")
    rows: dict[str, list[Any]] = {"image": [], "label": [], "patient": []}
    for patient in range(PATIENTS):
        for take in range(OF_EACH):
            word, image = kind(patient, take), picture(patient, take)
            for path in (
                root / "nested" / word / f"p{patient}" / f"{take}.png",
                root / "named" / word / f"p{patient}-{take}.png",
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
            stream = io.BytesIO()
            image.save(stream, "PNG")
            rows["image"].append({"bytes": stream.getvalue(), "path": f"x/p{patient}-{take}.png"})
            rows["label"].append(word)
            rows["patient"].append(f"p{patient}")
    pq.write_table(pa.table(rows), root / "t.parquet")
    pixels = np.stack([np.asarray(picture(p, t)) for p in range(PATIENTS) for t in range(OF_EACH)])
    np.savez(root / "t.npz", x=pixels, y=np.array(rows["label"]), patient=np.array(rows["patient"]))
    return {name: str(root / name) for name in ("nested", "named", "t.parquet", "t.npz")}


WAYS = [
    ("nested", "folder:1"),
    ("named", r"(p\d+)-"),
    ("t.parquet", "patient"),
    ("t.parquet", r"(p\d+)-"),
    ("t.npz", "patient"),
]


def patients(images: Any) -> set[int]:
    """Whom the pictures (N, C, H, W) show."""
    return set(np.asarray(images)[:, 0, 7, 7].tolist())


def split_by(
    places: dict[str, str], way: tuple[str, str], cache: Path, seed: int = 0
) -> tuple[Data, list[set[int]]]:
    name, by = way
    options: dict[str, Any] = {"group_by": by, "seed": seed, "cache": cache}
    data = open_data(places[name], **options)
    test = open_test(places[name], **options)
    return data, [patients(data.train.images), patients(data.val.images), patients(test.images)]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_no_group_stands_in_two_splits(way: tuple[str, str], places: dict[str, str], tmp_path: Path) -> None:
    data, (train, val, test) = split_by(places, way, tmp_path)
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == PATIENTS
    assert data.groups is not None
    for counts in data.counts.values():
        assert min(counts.values()) > 0  # every class in every split
    sizes = [sum(data.counts[split].values()) for split in ("train", "val", "test")]
    assert sum(sizes) == PATIENTS * OF_EACH
    assert 0.1 < sizes[1] / sum(sizes) < 0.25  # near the 15 % of a split without groups
    assert 0.1 < sizes[2] / sum(sizes) < 0.25
    assert "24 groups by" in data.note


def test_without_it_they_do(places: dict[str, str], tmp_path: Path) -> None:
    data = open_data(places["t.npz"], cache=tmp_path)
    assert patients(data.train.images) & patients(data.val.images)


def test_the_fingerprint_includes_it(places: dict[str, str], tmp_path: Path) -> None:
    plain = open_data(places["named"], cache=tmp_path)
    by_patient = open_data(places["named"], cache=tmp_path, group_by=r"(p\d+)-")
    by_take = open_data(places["named"], cache=tmp_path, group_by=r"-(\d)")
    assert len({plain.fingerprint, by_patient.fingerprint, by_take.fingerprint}) == 3
    assert Settings(group_by="patient").data_options()["group_by"] == "patient"
    assert "group_by" not in Settings().data_options()


@pytest.mark.parametrize("seed", range(5))
def test_new_splits_of_each_seed_keep_groups_together(
    seed: int, places: dict[str, str], tmp_path: Path
) -> None:
    data, _ = split_by(places, ("t.npz", "patient"), tmp_path)
    images = resplit(device_data(data, Recipe(), "cpu"), seed)
    assert not patients(images.train_images[:]) & patients(images.val_images[:])
    assert len(images.val_labels) > 0


def test_halves_of_the_validation_images_share_no_group(places: dict[str, str], tmp_path: Path) -> None:
    data, _ = split_by(places, ("t.npz", "patient"), tmp_path)
    whole = device_data(data, Recipe(), "cpu")
    first, second = (with_half_of_val(whole, which) for which in ("first", "second"))
    assert not patients(first.val_images[:]) & patients(second.val_images[:])
    assert len(first.val_labels) + len(second.val_labels) == len(data.val)


def test_what_is_taken_is_near_its_share_with_every_class() -> None:
    # 10 groups of 4 images, of one class each: a fifth of them is one group of each class.
    groups = np.repeat(np.arange(10), 4)
    labels = groups % 2
    taken, left = split_groups(labels, groups, 0.2, seed=3)
    assert sorted([*taken, *left]) == list(range(40))
    assert np.bincount(labels[taken]).tolist() == [4, 4]
    assert not set(groups[taken]) & set(groups[left])


MISTAKES = {
    "an unknown column": ("t.parquet", "pateint", "Did you mean 'patient'?"),
    "an unknown array": ("t.npz", "pateint", "Did you mean 'patient'?"),
    "no such folder": ("named", "folder:1", "lies in no folder:1 below its class"),
    "no match": ("named", r"(q\d+)", "is not found in 144 paths, as ill/"),
    "no expression": ("named", "(p", "no regular expression"),
    "no groups there": ("digits", "patient", "--group-by is for image folders, parquet files and .npz files"),
    "one group": ("named", "png", "class 'ill' is in 1 group; class 'well' is in 1 group: 3 are needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    mistake: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, by, message = MISTAKES[mistake]
    words = ["--host", "resnet8", "--blocks", "eca", "--device", "cpu", "--out", str(tmp_path / "results")]
    assert main(["run", *words, "--data", places.get(name, name), "--group-by", by]) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_an_owners_splits_that_share_a_group_are_refused(tmp_path: Path) -> None:
    for part, numbers in (("train", (1, 2, 3)), ("val", (3, 4))):
        for word in ("ill", "well"):
            for patient in numbers:
                path = tmp_path / "d" / part / word / f"p{patient}-{word}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(patient, 0).save(path)
    with pytest.raises(DataError, match="1 group in both train and val, as 'p3'"):
        open_data(str(tmp_path / "d"), group_by=r"(p\d+)", cache=tmp_path)
