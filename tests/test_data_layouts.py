"""Data sets as they lie about: how splits are named, what labels look like, which cells are pictures."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from attnsearch.core.errors import DataError
from attnsearch.data import open_data, open_test
from attnsearch.data.split_names import split_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def pixels(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(seed)).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, images: int = 6, classes: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> None:
    """`folder/CLASS/NUMBER.png`, all images different."""
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            (folder / name / f"{i}.png").write_bytes(png(first + 1000 * kind + i))


def sizes(name: object) -> dict[str, int]:
    return {split: sum(counts.values()) for split, counts in open_data(str(name)).counts.items()}


# The words of a split

NAMES = {
    "train": "train",
    "Training": "train",
    "TRAIN": "train",
    "trainset": "train",
    "train2017": "train",
    "x_train": "train",
    "xTrain": "train",
    "images-train": "train",
    "train-00000-of-00002": "train",
    "01_train": "train",
    "val": "val",
    "VALID": "val",
    "validation-0": "val",
    "dev": "val",
    "Eval": "val",
    "Testing": "test",
    "cifar10.test": "test",
    "testSet": "test",
    "attest": None,
    "trainer": None,
    "evaluate_me": None,
    "train_and_test": None,
    "devices": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_split_is_a_word_of_the_name(name):
    assert split_of(name) == NAMES[name]


# Folders

FOLDERS = [
    ("Training", "Testing"),
    ("TRAIN", "TEST"),
    ("train_images", "test_images"),
    ("flowers-train", "flowers-test"),
    ("train", "Testset"),
]


@pytest.mark.parametrize(("train", "test"), FOLDERS)
def test_folders_named_for_splits_are_no_classes(tmp_path, train, test):
    fill(tmp_path / train, 10)
    fill(tmp_path / test, 3, first=500)
    data = open_data(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert sizes(tmp_path) == {"train": 18, "val": 2, "test": 6}


@pytest.mark.parametrize("val", ["dev", "Eval", "valid", "Validation"])
def test_each_word_for_val_is_val(tmp_path, val):
    fill(tmp_path / "train")
    fill(tmp_path / val, 2, first=500)
    assert sizes(tmp_path) == {"train": 12, "val": 4}


def test_a_stray_file_beside_train_and_val(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", 2, first=500)
    (tmp_path / "train" / "cat" / ".DS_Store").write_bytes(b"\0")
    summary = open_data(str(tmp_path)).summary()
    assert summary.endswith("12 train + 4 val images, 1 file ignored")


UNNAMED = {
    "parts of other names": (("a", "b"), "a and b hold the same class folders ('cat', 'dog')"),
    "no train": (("test", "val"), "test and val hold the same class folders"),
    "train and another": (("holdout", "train"), "holdout and train hold the same class folders"),
}


@pytest.mark.parametrize("case", UNNAMED)
def test_folders_that_hold_the_same_folders_are_refused_as_classes(tmp_path, case):
    folders, words = UNNAMED[case]
    for k, folder in enumerate(folders):
        fill(tmp_path / folder, first=500 * k)
    with pytest.raises(DataError, match="they are splits and no classes") as caught:
        open_data(str(tmp_path))
    assert words in str(caught.value)


def test_splits_below_the_classes_are_refused(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, classes=("train", "test"), first=500 * k)
    with pytest.raises(DataError, match="put train, val and test above the classes"):
        open_data(str(tmp_path))


def test_classes_may_hold_one_folder_each_or_folders_of_their_own(tmp_path):
    for k, (name, inner) in enumerate({"cat": ("images",), "dog": ("images",)}.items()):
        fill(tmp_path / "a" / name, 6, inner, first=500 * k)
    for k, (name, inner) in enumerate({"cat": ("manx", "persian"), "dog": ("pug", "persian")}.items()):
        fill(tmp_path / "b" / name, 6, inner, first=500 * k)
    for folder in ("a", "b"):
        assert open_data(str(tmp_path / folder)).classes == ("cat", "dog")


def test_classes_may_have_a_word_for_a_split_in_their_name(tmp_path):
    fill(tmp_path, classes=("bullet_train", "test_tube"))
    assert open_data(str(tmp_path)).classes == ("bullet_train", "test_tube")


def test_what_is_of_no_split_is_left_out_with_a_word(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", 2, first=500)
    fill(tmp_path / "extra", 2, first=600)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "1.png").write_bytes(png(9))
    warnings = open_data(str(tmp_path)).warnings
    assert "left out, being of no split: extra" in warnings
    assert "left out, having no class folders with images: test" in warnings


@pytest.mark.skipif(os.name != "posix", reason="a pipe with a name")
def test_a_pipe_in_a_folder_is_not_read(tmp_path):
    fill(tmp_path / "pets")
    os.mkfifo(tmp_path / "pets" / "cat" / "x.png")
    os.mkfifo(tmp_path / "x.npz")
    assert open_data(str(tmp_path / "pets")).ignored == 1
    with pytest.raises(DataError, match=r"not a folder, a \.parquet or an \.npz file"):
        open_data(str(tmp_path / "x.npz"))


def test_class_folders_need_not_be_text(tmp_path):
    fill(tmp_path, classes=(os.fsdecode(b"caf\xe9"), "tea\n"))
    data = open_data(str(tmp_path))
    assert data.classes == (r"caf\udce9", r"tea\n")
    assert json.dumps(data.facts(), ensure_ascii=False).encode()


# npz

Y = np.arange(40) % 4
X = (np.random.default_rng(0).random((40, 12, 12)) * 60 + 60 * Y[:, None, None]).astype(np.uint8)
ONE = {"train": 28, "val": 4, "test": 8}  # of 40 images, 10 a class: 1.5 of each in val and in test
NPZ: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "MedMNIST": (
        {f"{p}_{k}": v for p in ("train", "val", "test") for k, v in (("images", X), ("labels", Y[:, None]))},
        {"train": 40, "val": 40, "test": 40},
    ),
    "x_valid": (
        {"x_train": X, "y_train": Y, "x_valid": X[:8], "y_valid": Y[:8], "x_test": X[:8], "y_test": Y[:8]},
        {"train": 40, "val": 8, "test": 8},
    ),
    "capitals": (
        {"X_train": X, "y_train": Y, "X_TEST": X[:8], "Y_TEST": Y[:8]},
        {"train": 36, "val": 4, "test": 8},
    ),
    "camels": (
        {"trainX": X, "trainY": Y, "devX": X[:8], "devY": Y[:8], "testX": X[:8], "testY": Y[:8]},
        {"train": 40, "val": 8, "test": 8},
    ),
    "glued": ({"xtrain": X, "ytrain": Y, "xtest": X[:8], "ytest": Y[:8]}, {"train": 36, "val": 4, "test": 8}),
    "data and targets": ({"data": X, "targets": Y}, ONE),
    "no suffix beside test": (
        {"x": X, "y": Y, "x_test": X[:8], "y_test": Y[:8]},
        {"train": 36, "val": 4, "test": 8},
    ),
    "one-hot": ({"x": X, "y": np.eye(4)[Y]}, ONE),
    "one-hot of bool": ({"x": X, "y": np.eye(4, dtype=bool)[Y]}, ONE),
    "column": ({"x": X, "y": Y[:, None]}, ONE),
    "floats": ({"x": X, "y": Y.astype(np.float32)}, ONE),
    "bytes": ({"x": X, "y": np.array([b"ant", b"bee", b"caf\xe9", b"dog"])[Y]}, ONE),
    "column of text": ({"x": X, "y": np.array(["ant", "bee", "cow", "dog"])[Y][:, None]}, ONE),
    "unsigned": ({"x": X, "y": Y.astype(np.uint64)}, ONE),
}


@pytest.mark.parametrize("case", NPZ)
def test_npz_as_they_lie_about(tmp_path, case):
    arrays, split_sizes = NPZ[case]
    np.savez(tmp_path / "a.npz", **arrays)
    data = open_data(str(tmp_path / "a.npz"))
    assert sizes(tmp_path / "a.npz") == split_sizes
    assert len(data.classes) == 4
    # Brightness tells the class, so images and labels have stayed together.
    assert (data.train.images.mean((1, 2, 3)) // 60 == data.train.labels).all()


SEVERAL = {
    "several": (
        {"x": X, "y": (np.arange(560).reshape(40, 14) % 3 == 0).astype(np.uint8)},
        "y gives 14 labels to",
    ),
    "shares": ({"x": X, "y": np.full((40, 4), 0.25)}, "y gives 4 labels to an image; one class for each"),
    "map of labels": ({"x": X, "y": np.zeros((40, 12, 12), np.uint8)}, r"y has shape \(40, 12, 12\)"),
    "dates": (
        {"x": X, "y": np.zeros(40, "datetime64[s]")},
        "labels must be whole numbers or text, not datetime64",
    ),
    "mixed": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)},
        "numbers in one part and text in another",
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_labels_that_name_no_single_class_get_one_sentence(tmp_path, case):
    arrays, words = SEVERAL[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words):
        open_data(str(tmp_path / "a.npz"))


def test_images_without_labels_are_left_out_with_a_word(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X)
    assert "x_test has no labels; left out" in open_data(str(tmp_path / "a.npz")).warnings


def test_python_objects_beside_the_arrays_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, info=np.array([{}], object))
    assert sizes(tmp_path / "a.npz") == ONE


def test_a_header_that_lies_about_its_size(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<u1", "fortran_order": False, "shape": (10**9, 28, 28, 54_000)}
    )
    np.savez(tmp_path / "a.npz", y=Y)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("x.npy", stream.getvalue() + b"\0" * 100)
    with pytest.raises(
        DataError, match=r"x claims 42,336,000,000,000,000 bytes, of which 100|x claims 42,336"
    ):
        open_data(str(tmp_path / "a.npz"))


# Parquet


def table(path: Path, metadata: object = None, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pa.table({name: pa.array(values) for name, values in columns.items()})
    if metadata is not None:
        made = made.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(made, path)
    return path


def structs(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": png(first + i), "path": None} for i in range(count)]


TREES = {
    "folders of splits": (("train/0000", "test/0000"), {"train": 36, "val": 4, "test": 40}),
    "below a configuration": (("default/train/0", "default/dev/0"), {"train": 40, "val": 40}),
    "words anywhere": (("cifar_Training", "cifar.TEST"), {"train": 36, "val": 4, "test": 40}),
    "data": (("data/train-0", "data/valid-0"), {"train": 40, "val": 40}),
    "parts and a test": (("part-0", "test"), {"train": 36, "val": 4, "test": 40}),
    "one that is no split": (("train", "val", "extra"), {"train": 40, "val": 40}),
}


@pytest.mark.parametrize("case", TREES)
def test_parquet_in_folders_and_names(tmp_path, case):
    files, split_sizes = TREES[case]
    for k, file in enumerate(files):
        table(tmp_path / f"{file}.parquet", image=structs(40, 100 * k), label=Y)
    assert sizes(tmp_path) == split_sizes


def test_parquet_of_two_sets_or_without_train_is_refused(tmp_path):
    for name in ("a/train/0", "b/train/0"):
        table(tmp_path / "two" / f"{name}.parquet", image=structs(8), label=Y[:8])
    with pytest.raises(DataError, match="several sets of parquet files: a, b; name one"):
        open_data(str(tmp_path / "two"))
    for name in ("val", "test"):
        table(tmp_path / "none" / f"{name}.parquet", image=structs(8), label=Y[:8])
    with pytest.raises(DataError, match="parquet files of test, val, but none to train on"):
        open_data(str(tmp_path / "none"))


CELLS: dict[str, list[Any]] = {
    "structs": structs(40),
    "bytes": [png(i) for i in range(40)],
    "a list of one": [[cell] for cell in structs(40)],
    "rows of pixels": [pixels(i).tolist() for i in range(40)],
    "channels first": [pixels(i).transpose(2, 0, 1).tolist() for i in range(40)],
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_that_are_pictures(tmp_path, case):
    path = table(tmp_path / "a.parquet", image=CELLS[case], label=Y)
    data = open_data(str(path))
    known = {pixels(i).tobytes(): i % 4 for i in range(40)}
    found = [known[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in data.train.images]
    assert found == data.train.labels.tolist()


def test_pictures_beside_the_table_are_read_and_watched(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(png(i))
    for k, cells in enumerate(
        (
            [f"pictures/{i}.png" for i in range(40)],
            [{"bytes": None, "path": f"pictures/{i}.png"} for i in range(40)],
        )
    ):
        path = table(tmp_path / f"{k}.parquet", image=cells, label=Y)
        (tmp_path / "pictures" / "3.png").write_bytes(png(3))
        before = open_data(str(path))
        known = {pixels(i).tobytes(): i % 4 for i in range(40)}
        found = [known[np.ascontiguousarray(im.transpose(1, 2, 0)).tobytes()] for im in before.train.images]
        assert found == before.train.labels.tolist()
        (tmp_path / "pictures" / "3.png").write_bytes(png(999))
        assert open_data(str(path)).fingerprint != before.fingerprint


NO_PICTURES: dict[str, tuple[list[Any], str]] = {
    "paths to nowhere": (
        [f"{i}.png" for i in range(40)],
        "column image: names '0.png', and there is no such",
    ),
    "paths outside": (
        ["/etc/passwd"] * 40,
        "column image: names '/etc/passwd', and there is no such file in",
    ),
    "several pictures": ([[png(0), png(1)]] * 40, "column image: lists of shape"),
    "a flat list": ([list(range(144))] * 40, r"column image: lists of shape \(144,\) are no picture"),
    "ragged lists": ([[[1, 2], [3]]] * 40, "column image: lists of several lengths are no picture"),
    "numbers": (list(range(40)), "column image: int is no picture"),
    "nothing": ([None] * 39 + [png(0)], "column image: no picture"),
}


@pytest.mark.parametrize("case", NO_PICTURES)
def test_cells_that_are_no_pictures_get_a_sentence_on_the_column(tmp_path, case):
    cells, words = NO_PICTURES[case]
    path = table(tmp_path / "a.parquet", image=cells, label=Y)
    with pytest.raises(DataError, match=words):
        open_data(str(path))


LABELS: dict[str, list[Any]] = {
    "lists of one": [[k] for k in Y.tolist()],
    "one-hot": np.eye(4, dtype=int)[Y].tolist(),
    "floats": Y.astype(float).tolist(),
    "bytes": [b"abcd"[k : k + 1] for k in Y.tolist()],
    "lists of one word": [["abcd"[k]] for k in Y.tolist()],
}


@pytest.mark.parametrize("case", LABELS)
def test_columns_that_are_labels(tmp_path, case):
    data = open_data(str(table(tmp_path / "a.parquet", image=structs(40), label=LABELS[case])))
    assert len(data.classes) == 4
    known = {pixels(i).tobytes(): i % 4 for i in range(40)}
    found = [known[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in data.train.images]
    assert found == data.train.labels.tolist()


NO_LABELS: dict[str, tuple[list[Any], str]] = {
    "several": ([[0], [0, 1]] * 20, "column label gives 1 to 2 labels to an image"),
    "none in a list": ([[0], []] * 20, "column label: 20 rows have no label"),
    "null": ([0, None] * 20, "20 rows without label"),
    "null in a list": ([[0], [None]] * 20, "column label: labels must be"),
    "nested": ([[[0, 1], [1]]] * 40, "column label"),
    "structs": ([{"a": 1}] * 40, "column label: labels must be whole numbers or text, not dict"),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_columns_that_are_no_labels_get_a_sentence(tmp_path, case):
    values, words = NO_LABELS[case]
    with pytest.raises(DataError, match=words):
        open_data(str(table(tmp_path / "a.parquet", image=structs(40), label=values)))


def described(names: object) -> object:
    return {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}


METADATA: dict[str, tuple[object, tuple[str, ...]]] = {
    "names": (described(["a", "b", "c", "d"]), ("a", "b", "c", "d")),
    "names twice": (described(["a", "b", "a", "d"]), ("a (0)", "b", "a (2)", "d")),
    "names of numbers": (described([1, 2, 3, 4]), tuple("0123")),
    "names nested": (described([["a"], ["b"]]), tuple("0123")),
    "names a number": (described(4), tuple("0123")),
    "features a list": ({"info": {"features": [{"name": "label"}]}}, tuple("0123")),
    "info text": ({"info": "none"}, tuple("0123")),
    "a list": ([1, 2], tuple("0123")),
    "label a list of names": (
        {"info": {"features": {"label": {"_type": "Sequence", "feature": {"names": ["a", "b", "c", "d"]}}}}},
        ("a", "b", "c", "d"),
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_the_description_of_the_columns_may_be_junk(tmp_path, case):
    metadata, classes = METADATA[case]
    path = table(tmp_path / "a.parquet", metadata, image=structs(40), label=Y)
    assert open_data(str(path)).classes == classes


def test_damaged_parquet_is_the_files_fault_wherever_it_is_noticed(tmp_path):
    whole = table(tmp_path / "a.parquet", described(list("abcd")), image=structs(40), label=Y).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            broken[at] ^= 1 << rng.integers(8)
        broken[-300:-290] = rng.integers(0, 256, 10, dtype=np.uint8).tobytes()
        (tmp_path / "b.parquet").write_bytes(bytes(broken))
        try:
            open_data(str(tmp_path / "b.parquet"))
        except DataError:
            refused += 1
    assert refused > 20


# The hub's library, where it is installed


def test_the_hub_reads_structs_that_lost_their_type(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets")
    table(tmp_path / "set" / "train.parquet", image=structs(40), label=Y)
    table(tmp_path / "set" / "test.parquet", image=structs(8, 100), label=Y[:8])
    name = f"hf:{tmp_path / 'set'}"
    data = open_data(name)
    known = {pixels(i).tobytes(): i % 4 for i in range(40)}
    found = [known[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in data.train.images]
    assert found == data.train.labels.tolist()
    assert len(open_test(name)) == 8
