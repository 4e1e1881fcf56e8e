"""Brightness beyond bytes: one scale for a data set, by a rule that is printed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from attnsearch.core.errors import DataError
from attnsearch.data import open_data, open_test
from attnsearch.data.images import decode


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))


LEVELS = np.arange(229)  # grey levels, in every data set below
GREY = np.resize(LEVELS, (40, 24, 24))


def npz(path: Path, x: Any) -> str:
    np.savez(path, x=x, y=np.arange(len(x)) % 2)
    return str(path)


def tiffs(root: Path, numbers: Any) -> str:
    for i, picture in enumerate(numbers):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i:03}.tif")
    return str(root)


def values(name: str) -> Any:
    data = open_data(name)
    splits = (data.train, data.val, open_test(name))
    return np.concatenate([split.images.reshape(-1) for split in splits])


def one_pixel(numbers: Any, value: float) -> Any:
    changed = numbers.copy()
    changed[5, 3, 3] = value
    return changed


SETS: dict[str, Any] = {
    "12 bits in 16": (GREY * 16).astype(np.uint16),
    "12 bits in 16, one hot pixel": one_pixel((GREY * 16).astype(np.uint16), 65_535),
    "a few hundred in 32 bits": (GREY * 3).astype(np.int32),
    "bytes in 32 bits, one hot pixel": one_pixel(GREY.astype(np.int32), 70_000),
    "a medical scan": (GREY * 16 - 1024).astype(np.int32),
    "0..1": (GREY / 228).astype(np.float32),
    "0..1, one pixel over": one_pixel((GREY / 228).astype(np.float32), 1.02),
    "0..1, one pixel far over": one_pixel((GREY / 228).astype(np.float32), 240),
    "0..1, one pixel under": one_pixel((GREY / 228).astype(np.float32), -3),
    "0..255": GREY.astype(np.float32),
    "0..255, one pixel over": one_pixel(GREY.astype(np.float32), 255.4),
    "-1..1": (GREY / 114 - 1).astype(np.float32),
    "divided by 255 twice": (GREY / 255 / 255).astype(np.float32),
}


@pytest.mark.parametrize("case", SETS)
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_grey_levels_survive(tmp_path, case, form):
    name = npz(tmp_path / "a.npz", SETS[case]) if form == "npz" else tiffs(tmp_path / "a", SETS[case])
    assert len(np.unique(values(name))) >= 200
    assert [warning for warning in open_data(name).warnings if "become 0 to 255" in warning]


def test_what_was_assumed_is_said_with_its_numbers(tmp_path):
    wide = open_data(npz(tmp_path / "a.npz", SETS["12 bits in 16, one hot pixel"])).warnings
    assert wide == (
        "pictures of uint16: 0 to 3,648, the least and greatest of the data set, become 0 to 255; "
        "the few pixels beyond are clipped",
    )
    full = open_data(npz(tmp_path / "b.npz", SETS["0..1, one pixel over"])).warnings
    assert full == ("pictures of float32: 0 to 1 become 0 to 255; the few pixels beyond are clipped",)


def test_bytes_are_left_as_they_are(tmp_path):
    dark = (GREY // 8).astype(np.uint8)
    assert set(values(npz(tmp_path / "a.npz", dark))) == set(dark.reshape(-1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_files_share_one_scale(tmp_path, dtype):
    """Every picture is of one brightness: stretched by itself each would be black, or white, or a division by 0."""
    bright = np.repeat(np.arange(40) * 100, 24 * 24).reshape(40, 24, 24)
    found = values(tiffs(tmp_path / "a", bright.astype(dtype)))
    assert sorted(np.unique(found)) == sorted({round(k * 255 / 39) for k in range(40)})


def test_parts_of_different_floats_share_one_scale(tmp_path):
    x = np.tile(np.linspace(-1, 1, 256).reshape(16, 16), (40, 1, 1))
    y = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, x_test=(x / 2).astype(np.float32), y_test=y)
    assert open_data(str(tmp_path / "a.npz")).train.images.max() == 255
    assert open_test(str(tmp_path / "a.npz")).images.max() == 191  # 127.5 + 127.5 / 2


def test_the_scale_is_of_the_set_not_of_what_is_taken_from_it(tmp_path):
    x = (GREY * np.linspace(0.2, 1, 40)[:, None, None] * 16).astype(np.uint16)
    name = npz(tmp_path / "a.npz", x)
    assert open_data(name, limit=8).warnings == open_data(name).warnings
    assert open_data(name, seed=5).warnings == open_data(name).warnings


def png16(pixels: Any) -> bytes:
    """(H, W, 3) uint16 as PNG, written by the standard's book: sixteen bits, colour, no filter."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_of_colour_keep_both_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65_536, (9, 7, 3), dtype=np.uint16)
    np.testing.assert_array_equal(decode("x", png16(pixels)), pixels)
    for i in range(40):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        twelve = np.stack([GREY[i], GREY[i][::-1], GREY[i].T], 2).astype(np.uint16) * 16
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(png16(twelve))
    assert len(np.unique(values(str(tmp_path)))) >= 200


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("form", "needs"), [("AVIF", "avif"), ("JPEG2000", "jpg_2000")])
def test_newer_formats_are_read_where_pillow_reads_them(form, needs):
    if not features.check(needs):
        pytest.skip("not in this Pillow")
    found = decode("x", encoded(Image.new("RGB", (16, 16), (10, 200, 30)), form))
    assert np.abs(np.asarray(found, int) - [10, 200, 30]).max() <= 3  # lossy


def test_text_of_any_size_in_a_png_is_no_reason_to_refuse_it():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("note", "x" * 3_000_000, zip=True)
    info.add_itxt("more", "y" * 3_000_000, zip=True)
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    np.testing.assert_array_equal(
        decode("x", encoded(picture, "PNG", pnginfo=info))[..., 0], np.asarray(picture)
    )


FOREIGN = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "DICOM": b"\0" * 128 + b"DICM",
    "JPEG XL": b"\xff\x0a" + b"\0" * 20,
    "this kind of TIFF": b"II*\0\x08\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_format_that_is_not_read_is_named(tmp_path, kind):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(Image.new("RGB", (8, 8), (i, 0, 0)), "PNG"))
    (tmp_path / "cat" / "a.heic").write_bytes(FOREIGN[kind])
    with pytest.raises(
        DataError, match=rf"cat/a\.heic: {kind} is not read by the installed Pillow; convert it"
    ):
        open_data(str(tmp_path))
