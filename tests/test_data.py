"""Data sets: what is read, how it is split, what is refused and in which words."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from attnsearch.core.data_sets import DATA_SETS
from attnsearch.core.errors import DataError, EnvironmentFault, UsageError
from attnsearch.data import open_data, open_test, subset
from attnsearch.data.dataset import Split
from attnsearch.data.digits import clutter, cue
from attnsearch.data.open import NAMED
from attnsearch.data.split import stratified


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(folder))
    return folder


def png(colour: Any = (200, 30, 90), size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, "PNG")
    return stream.getvalue()


def noise(seed: int, size: tuple[int, int] = (32, 32), form: str = "PNG") -> bytes:
    """A picture unlike any other of another seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def total(split: Split) -> int:
    return len(split.labels)


# Embedded sets


def test_every_data_set_known_by_name_can_be_opened():
    assert set(NAMED) == set(DATA_SETS)


@pytest.mark.parametrize("name", ["cued-digits", "cluttered-digits", "digits"])
def test_a_data_set_is_what_is_known_of_it_before_it_is_opened(name):
    data = open_data(name, limit=None if name == "digits" else 200)
    assert (data.image, len(data.classes)) == (DATA_SETS[name].image, DATA_SETS[name].classes)


def test_cluttered_digits_by_default_are_8000_colour_images_in_balanced_splits():
    data = open_data("cluttered-digits")
    assert data.image == (3, 32, 32)
    assert data.classes == tuple("0123456789")
    assert (total(data.train), total(data.val), total(open_test("cluttered-digits"))) == (5600, 1200, 1200)
    assert {count for split in data.counts.values() for count in split.values()} == {560, 120}
    assert "flip" not in data.augment
    assert data.warnings == ()


def test_cluttered_digits_are_the_same_bytes_on_every_machine():
    digest = hashlib.sha256(open_data("cluttered-digits", limit=200).train.images.tobytes()).hexdigest()
    assert digest == "7a3d3a1596438801c65196c4e332543df37d1d78ae47e94d9c5813621c22f372"


def test_another_seed_makes_other_images_and_another_fingerprint():
    first, second = (open_data("cluttered-digits", limit=200, seed=seed) for seed in (0, 1))
    assert first.fingerprint != second.fingerprint
    assert (first.train.images != second.train.images).any()


def test_no_digit_image_is_in_two_splits(monkeypatch):
    seen = []

    def watch(ink, kinds, images, side, rng):
        seen.append({digit.tobytes() for digit in ink})
        return clutter(ink, kinds, images, side, rng)

    monkeypatch.setattr("attnsearch.data.digits.clutter", watch)
    open_data("cluttered-digits", limit=100)
    train, val, test = seen
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == len(
        {digit.tobytes() for digit in load_digits().images.astype(np.int64)}
    )


def test_a_canvas_without_clutter_would_show_the_digit_it_is_labelled_with(monkeypatch):
    """The label is the class of the whole digit, which is painted last."""
    painted: list[Any] = []
    monkeypatch.setattr("attnsearch.data.digits._paint", lambda canvas, ink, *where: painted.append(ink))
    bunch = load_digits()
    ink, kinds = bunch.images.astype(np.int64), bunch.target.astype(np.int64)
    for kind in range(10):  # the whole ink of a class is its number
        ink[kinds == kind] = kind + 1
    _, labels, shown = clutter(ink, kinds, 40, 32, np.random.default_rng(0))
    assert kinds[shown].tolist() == labels.tolist()
    whole = painted[6::7]
    assert [int(patch.max()) // 16 - 1 for patch in whole] == labels.tolist()
    assert {patch.shape[0] for patch in whole} <= set(range(12, 19))
    assert all(min(patch.shape) * 2 <= max(patch.shape) + 1 for i, patch in enumerate(painted) if i % 7 != 6)


def test_cluttered_digits_take_a_size_and_a_number():
    data = open_data("cluttered-digits", image_size=48, limit=100)
    assert data.train.images.shape == (70, 3, 48, 48)


def test_cued_digits_by_default_are_9000_small_images_in_balanced_splits():
    data = open_data("cued-digits")
    assert data.image == (3, 20, 20)
    assert (total(data.train), total(data.val), total(open_test("cued-digits"))) == (5000, 2000, 2000)
    assert {count for split in data.counts.values() for count in split.values()} == {500, 200}
    assert data.augment == (), "a shift would push the strip out of the image"


def test_the_strip_of_a_cued_digit_has_the_colour_of_the_digit_to_name():
    """Ink is made of the class's number, so that the digit to name can be told from the other one."""
    bunch = load_digits()
    kinds = bunch.target.astype(np.int64)
    ink = np.broadcast_to((kinds + 6)[:, None, None], (len(kinds), 8, 8)).astype(np.int64)
    images, labels, _ = cue(ink, kinds, 400, 20, np.random.default_rng(0))
    strip, lower = images[:, :2].astype(int), images[:, 12:].astype(int)
    is_red = strip[..., 0].mean((1, 2)) > strip[..., 1].mean((1, 2))
    assert 0.74 < is_red.mean() < 0.86  # 80 of a hundred, three standard deviations of 400 draws each way
    red, green = lower[..., 0] - lower[..., 1], lower[..., 1] - lower[..., 0]
    excess = np.where(is_red[:, None, None], red, green).max(
        (1, 2)
    )  # ink of the strip's colour: grows with the class
    assert np.corrcoef(excess, labels)[0, 1] > 0.7
    assert (images[:, 2:12].max((1, 2, 3)) < 64).all(), "nothing lies between the strip and the digits"


def test_a_fifth_of_cued_images_show_one_digit():
    ink = np.full((1797, 8, 8), 16, np.int64)
    images, _, _ = cue(ink, load_digits().target.astype(np.int64), 1000, 20, np.random.default_rng(1))
    bright = images[:, 12:].max(3) > 150
    alone = ~(bright[:, :, :10].any((1, 2)) & bright[:, :, 10:].any((1, 2)))
    assert 0.16 < alone.mean() < 0.24  # 20 of a hundred


def test_cued_digits_are_the_same_bytes_on_every_machine():
    digest = hashlib.sha256(open_data("cued-digits", limit=200).train.images.tobytes()).hexdigest()
    assert digest == "f5b41e7802a7c36a84fd6cabaa1723754bf211264439beab7e9d660af08b2677"


def test_digits_are_the_1797_grey_images_of_scikit_learn():
    data = open_data("digits")
    everything = [data.train, data.val, open_test("digits")]
    assert sum(map(total, everything)) == 1797
    assert data.image == (1, 8, 8)
    ours = sorted(image.tobytes() for split in everything for image in split.images)
    theirs = sorted((image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images)
    assert ours == theirs


def test_mean_and_std_are_those_of_the_training_images_alone():
    data = open_data("digits")
    pixels = np.asarray(data.train.images, np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)), rtol=1e-12)


# Parquet


def write_parquet(
    path: Path, labels: list[Any], names: list[str] | None = None, first: int = 0, **columns: Any
) -> Path:
    images = [{"bytes": noise(first + i), "path": None} for i in range(len(labels))]
    table = pa.table({columns.get("image", "img"): images, columns.get("label", "label"): labels})
    if names:
        features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return path


def test_parquet_in_one_file_is_split_in_three(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 20, names=["cat", "dog"])
    data = open_data(str(path))
    assert data.classes == ("cat", "dog")
    assert [total(split) for split in (data.train, data.val, open_test(str(path)))] == [28, 6, 6]
    pixels = np.asarray(Image.open(io.BytesIO(noise(0))))
    everything = [data.train, data.val, open_test(str(path))]
    assert any((image.transpose(1, 2, 0) == pixels).all() for split in everything for image in split.images)


def test_parquet_folder_keeps_its_test_file_apart(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1] * 20)
    write_parquet(tmp_path / "test.parquet", [1, 0] * 5, first=100)
    data, test = open_data(str(tmp_path)), open_test(str(tmp_path))
    assert (total(data.train), total(data.val), total(test)) == (36, 4, 10)
    assert test.labels.tolist() == [1, 0] * 5
    expected = np.asarray(Image.open(io.BytesIO(noise(103))))
    np.testing.assert_array_equal(test.images[3].transpose(1, 2, 0), expected)


def test_parquet_over_several_files_and_batches(tmp_path, monkeypatch):
    """As cloned from the hub: shards in data/, `validation` for val; rows are read seven at a time."""
    monkeypatch.setattr("attnsearch.data.parquet.BATCH", 7)
    for shard in range(2):
        write_parquet(tmp_path / "data" / f"train-{shard}-of-2.parquet", [0, 1] * 10, first=20 * shard)
    write_parquet(tmp_path / "data" / "validation-0-of-1.parquet", [0, 1] * 3, first=40)
    write_parquet(tmp_path / "data" / "test-0-of-1.parquet", [0, 1] * 5, first=46)
    data, test = open_data(str(tmp_path)), open_test(str(tmp_path))
    for first, split in ((0, data.train), (40, data.val), (46, test)):
        expected = [np.asarray(Image.open(io.BytesIO(noise(first + i)))) for i in range(total(split))]
        np.testing.assert_array_equal(split.images.transpose(0, 2, 3, 1), expected)
        assert split.labels.tolist() == [0, 1] * (total(split) // 2)
    assert [total(split) for split in (data.train, data.val, test)] == [40, 6, 10]


def test_a_limit_picks_parquet_rows_across_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("attnsearch.data.parquet.BATCH", 7)
    path = str(write_parquet(tmp_path / "a.parquet", [i % 3 for i in range(60)]))
    label_of = {np.asarray(Image.open(io.BytesIO(noise(i)))).tobytes(): i % 3 for i in range(60)}
    data = open_data(path, limit=30)
    found = [
        label_of[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in data.train.images
    ]
    assert found == data.train.labels.tolist()
    assert 20 <= len(found) <= 24


def test_parquet_rows_keep_image_and_label_together(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", [i % 3 for i in range(60)], image="image", label="fine_label"
    )
    data = open_data(str(path))
    label_of = {np.asarray(Image.open(io.BytesIO(noise(i)))).tobytes(): i % 3 for i in range(60)}
    for split in (data.train, data.val, open_test(str(path))):
        found = [label_of[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in split.images]
        assert found == split.labels.tolist()


def test_parquet_labels_may_be_words(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ["dog", "cat"] * 10)
    assert open_data(str(path)).classes == ("cat", "dog")


PARQUET_MISTAKES = {
    "no image column": ({"image": "foto"}, "no image column .* it has: foto, label"),
    "no label column": ({"label": "kind"}, "no label column .* it has: img, kind"),
}


@pytest.mark.parametrize("mistake", PARQUET_MISTAKES)
def test_parquet_without_its_columns_is_refused(tmp_path, mistake):
    columns, words = PARQUET_MISTAKES[mistake]
    path = write_parquet(tmp_path / "a.parquet", [0, 1], **columns)
    with pytest.raises(DataError, match=words):
        open_data(str(path))


def test_a_file_that_only_claims_to_be_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable parquet file"):
        open_data(str(tmp_path / "a.parquet"))


# NumPy archives


def write_npz(path: Path, **changes: Any) -> str:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x": rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        "y": np.arange(40) % 2,
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return str(path)


def test_npz_of_one_part_is_split_and_keeps_its_pixels(tmp_path):
    path = write_npz(tmp_path / "a.npz", classes=np.array(["cat", "dog"]))
    data, x = open_data(path), np.load(path)["x"]
    assert data.classes == ("cat", "dog")
    everything = [data.train, data.val, open_test(path)]
    assert [total(split) for split in everything] == [28, 6, 6]
    labels = {image.tobytes(): i % 2 for i, image in enumerate(x)}
    for split in everything:
        found = [labels[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in split.images]
        assert found == split.labels.tolist()


def test_npz_test_arrays_are_the_test_split(tmp_path):
    x_test = np.arange(4 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 32, 32, 3)
    path = write_npz(tmp_path / "a.npz", x_test=x_test, y_test=np.array([1, 0, 1, 1]))
    test = open_test(path)
    np.testing.assert_array_equal(test.images.transpose(0, 2, 3, 1), x_test)
    assert test.labels.tolist() == [1, 0, 1, 1]


RAMP = np.linspace(0, 1, 40 * 16 * 16).reshape(40, 16, 16)
NPZ_PIXELS = {  # an array of numbers -> the image shape, and its lightest pixel
    "grey": ((RAMP * 255).astype(np.uint8), (1, 16, 16), 255),
    "channels first": (np.repeat((RAMP * 255).astype(np.uint8)[:, None], 3, 1), (3, 16, 16), 255),
    "0..1": (RAMP.astype(np.float32)[..., None], (1, 16, 16), 255),
    "16 bit": ((RAMP * 65_535).astype(np.uint16), (1, 16, 16), 255),
    "16 bit, dark": ((RAMP * 25_700).astype(np.uint16), (1, 16, 16), 100),
}


@pytest.mark.parametrize("kind", NPZ_PIXELS)
def test_npz_of_other_numbers_and_layouts(tmp_path, kind):
    x, image, white = NPZ_PIXELS[kind]
    data = open_data(write_npz(tmp_path / "a.npz", x=x))
    assert data.image == image
    assert max(split.images.max() for split in (data.train, data.val, open_test(data.name))) == white
    assert data.augment == (("flip", "crop") if image[0] == 3 else ("crop",))


def test_npz_parts_share_one_scale(tmp_path):
    """-1..1 in train and -1..0 in test: 0 is the same grey in both."""
    x = np.tile(np.linspace(-1, 1, 256).reshape(16, 16), (40, 1, 1))
    path = write_npz(tmp_path / "a.npz", x=x, x_test=np.minimum(x[:2], 0), y_test=np.array([0, 1]))
    assert open_data(path).train.images.max() == 255
    assert open_test(path).images.max() == 128


NPZ_MISTAKES = {
    "no x": ({"x": None}, "no arrays x and y .* it has: y"),
    "objects": ({"y": np.array([{}] * 40, object)}, "holds Python objects, which are not read"),
    "shape": ({"x": np.zeros((40, 9), np.uint8)}, r"has shape \(40, 9\)"),
    "lengths": ({"y": np.arange(39)}, "x has 40 images, y 39 labels"),
    "text": ({"x": np.full((40, 8, 8), "a")}, "not numbers"),
    "nan": ({"x": np.full((40, 8, 8), np.nan)}, "holds NaN"),
    "fractions": ({"y": np.linspace(0, 1, 40)}, "labels must be whole numbers or text"),
    "too few names": ({"classes": np.array(["cat"])}, "labels run from 0 to 1, but there are 1 class names"),
}


@pytest.mark.parametrize("mistake", NPZ_MISTAKES)
def test_npz_mistakes_are_named(tmp_path, mistake):
    changes, words = NPZ_MISTAKES[mistake]
    with pytest.raises(DataError, match=words):
        open_data(write_npz(tmp_path / "a.npz", **changes))


def test_a_file_that_only_claims_to_be_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match=r"a\.npz: not a readable \.npz file"):
        open_data(str(tmp_path / "a.npz"))


def test_a_file_of_no_known_kind(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip: not a folder, a \.parquet or an \.npz file"):
        open_data(str(tmp_path / "a.zip"))


# Hugging Face


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvironmentFault, match=re.escape("pip install 'attnsearch[hf]'")):
        open_data("hf:cifar10")


# Splits


@pytest.mark.parametrize("name", ["digits", "cluttered-digits", "cued-digits"])
def test_the_search_cannot_reach_the_test_images(name):
    data = open_data(name, limit=300)
    hidden = {image.tobytes() for image in open_test(name, limit=300).images}
    arrays = [value for value in vars(data).values() if isinstance(value, Split)]
    assert len(arrays) == 2
    assert not any(image.tobytes() in hidden for split in arrays for image in split.images)


def test_limit_is_a_stratified_part_of_every_split():
    data = open_data("digits", limit=200)
    sizes = [sum(data.counts[split].values()) for split in ("train", "val", "test")]
    assert sizes == [142, 29, 29]  # 200 x 269 / 1797 = 29.9
    assert all(count >= 2 for split in data.counts.values() for count in split.values())


def test_the_lowest_limit_is_one_image_per_class_and_split():
    data = open_data("digits", limit=30)
    assert {count for split in data.counts.values() for count in split.values()} == {1}
    with pytest.raises(DataError, match="a limit of 29 images is too low: one per class and split makes 30"):
        open_data("digits", limit=29)


def test_a_stratified_part_of_unequal_classes_keeps_every_class():
    labels = np.repeat([0, 1, 2], [96, 3, 1])
    assert np.bincount(labels[stratified(labels, 10)]).tolist() == [8, 1, 1]
    assert np.bincount(labels[stratified(labels, 50)]).tolist() == [48, 1, 1]
    assert len(stratified(labels, 1000)) == 100


def test_subset_is_stratified_and_fixed():
    train = open_data("digits").train
    part = subset(train, 100)
    assert np.bincount(part.labels).tolist() == [10] * 10
    np.testing.assert_array_equal(part.images, subset(train, 100).images)
    assert subset(train, None) is train


# Cache


def test_second_opening_reads_the_cache(monkeypatch):
    first = open_data("digits")
    monkeypatch.setattr("attnsearch.data.digits._handwritten", None)
    second = open_data("digits")
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert (first.fingerprint, first.mean, first.counts) == (second.fingerprint, second.mean, second.counts)


def test_damaged_cache_is_made_again(cache):
    data = open_data("digits")
    before = data.train.images.copy()
    stored = next(cache.glob("images/*/train.npy"))
    stored.write_bytes(stored.read_bytes()[:1000])
    np.testing.assert_array_equal(open_data("digits").train.images, before)


def test_processes_that_prepare_the_same_data_at_once_share_one_copy(cache):
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: open_data("digits"), range(8)))
    assert len({data.train.images.tobytes() for data in opened}) == 1
    assert len(list(cache.glob("images/*"))) == 1
    assert list(cache.glob("images/.*")) == []


def test_remains_of_killed_processes_are_swept_after_a_day(cache):
    for name in ("old", "new"):
        (cache / "images" / f".unfinished-{name}").mkdir(parents=True)
    os.utime(cache / "images" / ".unfinished-old", (1, 1))
    open_data("digits")
    assert [path.name for path in cache.glob("images/.unfinished-*")] == [".unfinished-new"]


def test_nothing_half_written_is_left_when_decoding_fails(cache, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [0])
    with pytest.raises(DataError):
        open_data(str(path))
    assert list(cache.glob("images/*")) + list(cache.glob("images/.*")) == []


def test_a_chosen_cache_that_cannot_be_written_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write the image cache"):
        open_data("digits", cache=tmp_path / "file")


def test_a_full_disk_is_a_fault_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(
        EnvironmentFault, match=r"cannot write the image cache .*: 0\.1 GB wanted, 0\.0 GB free"
    ):
        open_data("digits", image_size=224, cache=tmp_path)
    assert list(tmp_path.glob("images/*")) + list(tmp_path.glob("images/.*")) == []


def test_without_a_usable_default_cache_images_stay_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("ATTNSEARCH_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    data = open_data("digits")
    assert total(data.train) == 1259
    assert total(open_test("digits")) == 269
    assert "not cached" in data.warnings[0]


# Mistakes


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"Data folder not found: digit\. Did you mean 'digits'\?"):
        open_data("digit")


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"image_size": -1}, {"image_size": 100_000}, {"on_bad_image": "ignore"}]
)
def test_senseless_options_are_usage_errors(arguments):
    with pytest.raises(UsageError):
        open_data("digits", **arguments)
