"""Image folders: layouts, bad files, odd formats, links. Bad input is one table."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnsearch.core.errors import DataError
from attnsearch.data import open_data, open_test
from attnsearch.data.dataset import BadImage, Pool, in_memory
from attnsearch.data.images import decode
from attnsearch.data.scale import Scales


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(folder))
    return folder


def noise(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@cache
def noise_png(seed: int) -> bytes:
    return encoded(noise(seed))


def pets(root: Path, images: int = 20, classes: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> Path:
    """`root/CLASS/NUMBER.png`, all images different."""
    for kind, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(images):
            (root / name / f"{i}.png").write_bytes(noise_png(first + 1000 * kind + i))
    return root


# Layouts


def test_a_folder_per_class_is_split_in_three(tmp_path):
    data = open_data(str(pets(tmp_path / "pets")))
    assert data.classes == ("cat", "dog")
    assert data.counts == {
        "train": {"cat": 14, "dog": 14},
        "val": {"cat": 3, "dog": 3},
        "test": {"cat": 3, "dog": 3},
    }
    assert data.augment == ("flip", "crop")
    assert data.image == (3, 32, 32)


def test_every_image_is_in_exactly_one_split_with_its_own_label(tmp_path):
    root = pets(tmp_path / "pets")
    data = open_data(str(root))
    kinds = {np.asarray(noise(1000 * kind + i)).tobytes(): kind for kind in (0, 1) for i in range(20)}
    seen = []
    for split in (data.train, data.val, open_test(str(root))):
        for image, label in zip(split.images, split.labels, strict=True):
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()
            assert kinds[pixels] == label
            seen.append(pixels)
    assert sorted(seen) == sorted(kinds)


def test_folders_of_train_val_and_test_are_kept(tmp_path):
    for part, images in {"train": 6, "val": 2, "test": 3}.items():
        pets(tmp_path / part, images, first=sum(map(ord, part)) * 10_000)
    data = open_data(str(tmp_path))
    assert {split: sum(counts.values()) for split, counts in data.counts.items()} == {
        "train": 12,
        "val": 4,
        "test": 6,
    }
    assert len(open_test(str(tmp_path))) == 6


def test_train_and_val_alone_have_no_test_images(tmp_path):
    pets(tmp_path / "train", 6)
    pets(tmp_path / "val", 2, first=50)
    assert set(open_data(str(tmp_path)).counts) == {"train", "val"}
    with pytest.raises(DataError, match="has no test images"):
        open_test(str(tmp_path))


def test_a_class_of_val_that_train_lacks(tmp_path):
    pets(tmp_path / "train", 6)
    pets(tmp_path / "val", 2, classes=("cat", "dog", "eel"), first=50)
    with pytest.raises(DataError, match="class 'eel' is in val but not in train"):
        open_data(str(tmp_path))


def test_a_class_may_be_called_train(tmp_path):
    assert open_data(str(pets(tmp_path / "x", 4, ("car", "train")))).classes == ("car", "train")


def test_other_folders_beside_the_splits_are_no_classes(tmp_path):
    for part in ("train", "test"):
        pets(tmp_path / part, 4, first=len(part) * 100)
    (tmp_path / "annotations").mkdir()
    assert open_data(str(tmp_path)).classes == ("cat", "dog")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for part in ("train", "val", "validation"):
        pets(tmp_path / part, 4)
    with pytest.raises(DataError, match="val and validation both mean the val split"):
        open_data(str(tmp_path))


def test_file_names_need_not_be_valid_text(tmp_path):
    root = pets(tmp_path / "pets")
    name = os.fsdecode(b"caf\xe9.png")
    (root / "cat" / name).write_bytes(noise_png(5))
    assert sum(sum(counts.values()) for counts in open_data(str(root)).counts.values()) == 41
    (root / "cat" / name).write_bytes(HTML)
    with pytest.raises(DataError, match="1 bad file of 41"):
        open_data(str(root))
    assert len(open_data(str(root), on_bad_image="skip").warnings) == 1


NAMES_AND_FLIPS = {
    ("cat", "dog"): ("flip", "crop"),
    ("0", "1"): ("crop",),
    ("A", "B"): ("crop",),
    ("turn-left", "turn-right"): ("crop",),
}


@pytest.mark.parametrize("classes", NAMES_AND_FLIPS)
def test_no_flip_where_a_mirror_image_may_be_another_class(tmp_path, classes):
    assert open_data(str(pets(tmp_path / "x", 3, classes))).augment == NAMES_AND_FLIPS[classes]


# Bad input, by the numbers of the catalogue: what is done to a good folder -> words of the error


def truncate(root: Path) -> None:
    data = encoded(noise(7, (64, 64)), "JPEG")
    (root / "cat" / "3.png").unlink()
    (root / "cat" / "3.jpg").write_bytes(data[: len(data) // 2])


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)

    return change


def keep(root: Path, name: str, images: int) -> None:
    for path in sorted((root / name).iterdir())[images:]:
        path.unlink()


def one_class(root: Path) -> None:
    keep(root, "dog", 0)


def no_images(root: Path) -> None:
    for name in ("cat", "dog"):
        keep(root, name, 0)


def loose_images(root: Path) -> None:
    no_images(root)
    (root / "1.png").write_bytes(encoded(noise(1)))


def loop(root: Path) -> None:
    (root / "cat" / "again").symlink_to(root)


def self_link(root: Path) -> None:
    (root / "cat" / "me.png").symlink_to("me.png")


def outside(root: Path) -> None:
    target = root.parent / "secret.png"
    target.write_bytes(encoded(noise(5)))
    (root / "cat" / "link.png").symlink_to(target)


HTML = b"<!DOCTYPE html><html><body>404</body></html>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
BAD_INPUT = {
    "I28 no images": (no_images, r"no class folders with images under .*pets \(looked for png, jpg, "),
    "I28 loose images": (loose_images, "put its images into one folder per class"),
    "I29 one class": (one_class, r"need ≥ 2 classes, found 1: 'cat'"),
    "I30 one image": (
        lambda root: keep(root, "dog", 1),
        r"class 'dog' has 1 image; cannot be in both train and val\n.*--min-per-class",
    ),
    "I30 two images": (
        lambda root: keep(root, "dog", 2),
        r"class 'dog' has 2 images; cannot be in each of train, val and test",
    ),
    "I33 truncated": (
        truncate,
        r"cat/3\.jpg: truncated \(\d+ bytes not processed\); 1 bad file of 40; .*--on-bad-image skip",
    ),
    "I34 html": (write("cat/3.jpg", HTML), r"not an image: .*cat/3\.jpg; 1 bad file of 41"),
    "I34 empty": (write("cat/3.jpg", b""), r"not an image: .*cat/3\.jpg; 1 bad file of 41"),
    "I34 svg": (write("cat/3.svg", SVG), r"not an image: .*cat/3\.svg; 1 bad file of 41"),
    "I34 postscript": (write("cat/3.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n"), r"not an image: .*cat/3\.jpg"),
    "I39 loop": (loop, r"symlink loop: .*cat/again leads back to"),
    "I39 link to itself": (self_link, r"symlink loop or broken link: .*cat/me\.png -> me\.png"),
    "I39 outside": (outside, r"cat/link\.png is a link out of .*pets, to .*secret\.png; .*--follow-links"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_folders_are_refused_in_these_words(tmp_path, case):
    change, words = BAD_INPUT[case]
    root = pets(tmp_path / "pets")
    change(root)
    with pytest.raises(DataError, match=words) as caught:
        open_data(str(root))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("case", [case for case in BAD_INPUT if case[:3] in ("I33", "I34")])
def test_bad_images_can_be_skipped_and_are_counted(tmp_path, case):
    root = pets(tmp_path / "pets")
    BAD_INPUT[case][0](root)
    data = open_data(str(root), on_bad_image="skip")
    assert sum(sum(counts.values()) for counts in data.counts.values()) == (39 if "I33" in case else 40)
    assert [warning for warning in data.warnings if "cat/3." in warning]


def test_skipping_once_does_not_hide_the_bad_file_later(tmp_path):
    root = pets(tmp_path / "pets")
    truncate(root)
    open_data(str(root), on_bad_image="skip")
    with pytest.raises(DataError, match="1 bad file of 40"):
        open_data(str(root))


def test_skipped_images_leave_the_others_with_their_labels(tmp_path):
    root = pets(tmp_path / "pets")
    for i in range(0, 20, 3):
        (root / "cat" / f"{i}.png").write_bytes(HTML)
    data = open_data(str(root), on_bad_image="skip")
    kinds = {np.asarray(noise(1000 * kind + i)).tobytes(): kind for kind in (0, 1) for i in range(20)}
    for split in (data.train, data.val, open_test(str(root), on_bad_image="skip")):
        pixels = [np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes() for image in split.images]
        assert [kinds[image] for image in pixels] == split.labels.tolist()


def test_a_class_of_bad_images_only_is_an_error_even_when_skipping(tmp_path):
    root = pets(tmp_path / "pets")
    for path in (root / "cat").iterdir():
        path.write_bytes(HTML)
    with pytest.raises(DataError, match="class 'cat' has no image in train"):
        open_data(str(root), on_bad_image="skip")


def test_many_bad_images_are_told_in_one_error(tmp_path):
    root = pets(tmp_path / "pets")
    for path in (root / "cat").iterdir():
        path.write_bytes(HTML)
    with pytest.raises(DataError, match=r"(not an image: .+\s+){5}and 15 more; 20 bad files of 40"):
        open_data(str(root))


def test_small_classes_can_be_left_out(tmp_path):
    root = pets(tmp_path / "pets", classes=("cat", "dog", "eel"))
    keep(root, "dog", 1)
    data = open_data(str(root), min_per_class=5)
    assert data.classes == ("cat", "eel")
    assert "left out for having fewer than 5 images: 'dog'" in data.warnings
    eels = {np.asarray(noise(2000 + i)).tobytes() for i in range(20)}
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        assert (np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes() in eels) == (label == 1)


def test_litter_is_ignored_and_counted(tmp_path):
    root = pets(tmp_path / "pets")
    (root / ".ipynb_checkpoints").mkdir()
    (root / "empty").mkdir()
    for name in (".DS_Store", "cat/.DS_Store", "cat/notes.txt"):
        (root / name).write_bytes(b"\0")
    data = open_data(str(root))
    assert data.classes == ("cat", "dog")
    assert data.ignored == 5
    assert "5 files ignored" in data.summary()


def test_links_outside_are_read_when_allowed(tmp_path):
    root = pets(tmp_path / "pets")
    outside(root)
    data = open_data(str(root), follow_links=True)
    assert sum(sum(counts.values()) for counts in data.counts.values()) == 41


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    root = pets(tmp_path / "pets")
    (root / "cat" / "3.png").chmod(0)
    with pytest.raises(DataError, match=r"cat/3\.png"):
        open_data(str(root))


# The fingerprint


def test_fingerprint_follows_content_not_place_or_time(tmp_path):
    root = pets(tmp_path / "pets")
    before = open_data(str(root)).fingerprint
    os.utime(root / "cat" / "3.png", (1, 1))
    assert open_data(str(root)).fingerprint == before
    root = root.rename(tmp_path / "elsewhere")
    assert open_data(str(root)).fingerprint == before


CHANGES = {
    "added": lambda root: (root / "cat" / "new.png").write_bytes(encoded(noise(77))),
    "removed": lambda root: (root / "cat" / "3.png").unlink(),
    "overwritten": lambda root: (root / "cat" / "3.png").write_bytes(encoded(noise(77))),
    "renamed": lambda root: (root / "cat" / "3.png").rename(root / "cat" / "x.png"),
    "moved to another class": lambda root: (root / "cat" / "3.png").rename(root / "dog" / "x.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_any_file(tmp_path, change):
    root = pets(tmp_path / "pets")
    before = open_data(str(root)).fingerprint
    CHANGES[change](root)
    assert open_data(str(root)).fingerprint != before


@pytest.mark.parametrize("options", [{"seed": 1}, {"image_size": 16}, {"limit": 30}, {"min_per_class": 2}])
def test_fingerprint_changes_with_the_options(tmp_path, options):
    root = str(pets(tmp_path / "pets"))
    assert open_data(root, **options).fingerprint != open_data(root).fingerprint


def test_same_size_other_content_is_noticed(tmp_path):
    root = pets(tmp_path / "pets")
    path = root / "cat" / "3.png"
    before = open_data(str(root)).fingerprint
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # behind the last chunk's check sum: still a picture
    path.write_bytes(content)
    assert open_data(str(root), on_bad_image="skip").fingerprint != before


# Formats: a picture of one colour, as a file of that format, is that colour


def solid(mode: str, colour: Any, form: str, **options: Any) -> bytes:
    return encoded(Image.new(mode, (8, 8), colour), form, **options)


def palette(colour: tuple[int, int, int], **options: Any) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *colour])
    return encoded(image, "PNG", **options)


def deep(values: Any, form: str) -> bytes:
    return encoded(Image.fromarray(np.asarray(values)), form)


RAMP16 = np.array([[0, 257, 32_896, 65_535]], np.uint16)
RAMP8 = [0, 1, 128, 255]  # / 257
FORMATS = {
    "rgb png": (solid("RGB", (10, 200, 30), "PNG"), [10, 200, 30]),
    "cmyk jpeg": (solid("CMYK", (0, 0, 0, 255), "JPEG", quality=100), [0, 0, 0]),
    "grey jpeg": (solid("L", 77, "JPEG", quality=100), [77, 77, 77]),
    "1-bit png": (solid("1", 1, "PNG"), [255, 255, 255]),
    "palette png": (palette((9, 8, 7)), [9, 8, 7]),
    "palette with alpha": (palette((9, 8, 7), transparency=1), [255, 255, 255]),
    "opaque rgba": (solid("RGBA", (10, 20, 30, 255), "PNG"), [10, 20, 30]),
    "transparent rgba": (solid("RGBA", (10, 20, 30, 0), "PNG"), [255, 255, 255]),
    "grey with alpha": (solid("LA", (50, 255), "PNG"), [50, 50, 50]),
    "gif": (solid("RGB", (255, 0, 0), "GIF"), [255, 0, 0]),
    "webp": (solid("RGB", (10, 200, 30), "WEBP", lossless=True), [10, 200, 30]),
    "bmp": (solid("RGB", (10, 200, 30), "BMP"), [10, 200, 30]),
    "tiff": (solid("RGB", (10, 200, 30), "TIFF"), [10, 200, 30]),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_becomes_rgb(form):
    data, colour = FORMATS[form]
    pixels = decode("x", data)
    assert not isinstance(pixels, BadImage)
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.array(colour), (8, 8, 3)))


DEEP = {
    "16-bit png": (deep(RAMP16, "PNG"), RAMP8),
    "16-bit tiff": (deep(RAMP16, "TIFF"), RAMP8),
    "float tiff of 0..1": (deep(np.array([[0, 0.5, 1]], np.float32), "TIFF"), [0, 128, 255]),
    "float tiff of 0..255": (deep(np.array([[0, 100, 200]], np.float32), "TIFF"), [0, 100, 200]),
    "float tiff of -1..1": (deep(np.array([[-1, 0, 1]], np.float32), "TIFF"), [0, 128, 255]),
    "float tiff of 0..1e6": (deep(np.array([[0, 2e5, 1e6]], np.float32), "TIFF"), [0, 51, 255]),
    "32-bit integer tiff": (deep(np.array([[0, 257, 65_535]], np.int32), "TIFF"), [0, 1, 255]),
}


def scaled(numbers: Any) -> Any:
    """A picture on the scale of a set that holds nothing else."""
    pool = Pool(("a",), {"train": np.zeros(1, np.int64)}, in_memory({"train": numbers[None]}))
    return Scales(pool).to_bytes("a.tif", numbers)


@pytest.mark.parametrize("form", DEEP)
def test_deep_pictures_are_scaled_not_clipped(form):
    data, row = DEEP[form]
    np.testing.assert_array_equal(scaled(decode("x", data))[0], row)


def test_a_float_picture_with_nan_is_bad():
    numbers = decode("a.tif", deep(np.array([[0, np.nan]], np.float32), "TIFF"))
    assert scaled(numbers) == BadImage("a.tif: holds NaN or infinity")


# Where the top left corner of the stored picture belongs, for each orientation of EXIF (its section 4.6.4)
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_orientation_is_applied(orientation):
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode("x", encoded(image, "PNG", exif=exif))
    assert not isinstance(pixels, BadImage)
    assert pixels.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    assert pixels[CORNERS[orientation]].tolist() == [255, 255, 255]
    assert pixels.sum() == 3 * 255


# Sizes


def sized(root: Path, size: Callable[[int], tuple[int, int]]) -> str:
    for kind, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(8):
            (root / name / f"{i}.png").write_bytes(encoded(noise(100 * kind + i, size(i))))
    return str(root)


SIZES: dict[str, tuple[Callable[[int], tuple[int, int]], tuple[int, int, int], str]] = {
    "one small size": (lambda i: (40, 48), (3, 40, 48), ""),
    "1×1": (lambda i: (1, 1), (3, 32, 32), "images are small: 1×1 pixels in the median, resized to 32×32"),
    "large": (
        lambda i: (300, 200),
        (3, 64, 64),
        r"images of 300×200 pixels are resized to 64×64 \(the shorter.*without --image-size it is 32 to 64.*change it",
    ),
    "mixed": (lambda i: (50 + i, 70), (3, 48, 48), r"mixed sizes \(\d+×70 in the median\) resized to 48×48"),
}


@pytest.mark.parametrize("case", SIZES)
def test_images_come_in_one_size(tmp_path, case):
    size, image, warning = SIZES[case]
    data = open_data(sized(tmp_path, size))
    assert data.image == image
    if warning:
        assert any(re.search(warning, said) for said in data.warnings)
    else:
        assert data.warnings == ()


def test_how_a_picture_is_made_square(tmp_path):
    """A picture of 40 by 120, red in its middle third and blue beside it, at 24 pixels in each of the three ways."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:, 40:80] = (255, 0, 0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels[0, 50] = i  # else all would be copies of one
            (tmp_path / name / f"{i}.png").write_bytes(encoded(Image.fromarray(pixels)))
    red = {}
    for how in ("crop", "stretch", "pad"):
        image = open_data(str(tmp_path), image_size=24, resize=how).train.images[0]
        red[how] = image[0, 12] > 128
        assert (image[:, 2].sum() == 0) == (how == "pad")  # black above and below
    assert red["crop"].sum() == 24
    assert red["stretch"].sum() == red["pad"].sum() == 8
    assert len({open_data(str(tmp_path), image_size=24, resize=how).fingerprint for how in red}) == 3


def test_resizing_keeps_the_middle_and_the_proportions(tmp_path):
    """A wide picture, red in its middle square and blue beside it, is red when made square."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:, 40:80] = (255, 0, 0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels[0, 50] = i  # else all would be copies of one
            (tmp_path / name / f"{i}.png").write_bytes(encoded(Image.fromarray(pixels)))
    image = open_data(str(tmp_path), image_size=20).train.images[0]
    assert (image[0, 5:, 2:-2] == 255).all()
    assert (image[2, 5:, 2:-2] == 0).all()


def test_copies_of_training_images_in_val_are_told(tmp_path):
    root = pets(tmp_path / "pets", images=4)
    for i in range(4):
        (root / "cat" / f"{i}.png").write_bytes(encoded(noise(1)))
    warnings = open_data(str(root)).warnings
    assert "1 val image also in train, pixel for pixel: its accuracy flatters" in warnings


def test_the_hub_library_reads_a_local_set(tmp_path, monkeypatch):
    """Where `datasets` is installed: its own image-folder builder, classes and test split."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets")
    pets(tmp_path / "set" / "train", 9)
    pets(tmp_path / "set" / "test", 3, first=500)
    name = f"hf:{tmp_path / 'set'}"
    data = open_data(name)
    assert (data.classes, len(data.train), len(data.val), len(open_test(name))) == (("cat", "dog"), 16, 2, 6)
    kinds = {np.asarray(noise(1000 * kind + i)).tobytes(): kind for kind in (0, 1) for i in range(9)}
    found = [kinds[np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()] for image in data.train.images]
    assert found == data.train.labels.tolist()
