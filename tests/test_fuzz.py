"""Damaged and hostile files of every kind that is read: valid, or one sentence; never a Python error, never a wait."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from attnsearch import create_model
from attnsearch.build.tensor_names import load_weights
from attnsearch.core.errors import AttnsearchError
from attnsearch.data import open_data
from attnsearch.space import read_space
from attnsearch.space.space import shipped_spaces
from attnsearch.study.study import open_study
from tests.faults import run

LONGEST, PATIENT = 10.0, 60.0  # seconds of computing for one file, and by the clock of a machine that is busy
SPACES, FILES = 2_000, 500  # a nightly's; by default a part of them
PART = {"space": 150, "file": 20}

Rng = np.random.Generator


def outcome(read: Callable[[], object]) -> int:
    """The exit code that a command would end with; any other error is ours and comes through."""
    began, computed = time.monotonic(), time.process_time()
    try:
        read()
        code = 0
    except AttnsearchError as error:
        code = error.exit_code if str(error).strip() else -1
    assert time.process_time() - computed < LONGEST
    assert time.monotonic() - began < PATIENT
    return code


# Space files

TOKENS = (
    *(
        "*a",
        "&a ",
        "<<: *a",
        "!!int x",
        "!!python/object:os.system ",
        "no",
        "yes",
        "~",
        "null",
        "012",
        "1:30",
        ".inf",
    ),
    *(
        "-.nan",
        "1e999",
        "99999999999999999999",
        "-1",
        "0",
        "''",
        "{}",
        "[]",
        "[[]]",
        "? ",
        "- ",
        "| ",
        "> ",
        "---\n",
    ),
    *(
        "%YAML 1.2\n",
        "...\n",
        "\t",
        "\n",
        ": ",
        "#",
        "@",
        "`",
        "\x00",
        "\x85",
        "\u2028",
        "猫",
        "\U0001f408",
        "=",
    ),
    *(
        "block",
        "kernel",
        "attention",
        "stages",
        "neck: pmfs\n",
        "tied: true\n",
        "units: [0, 1]\n",
        "!!binary x",
    ),
    *("!!set {a}", "{block: se, ratio: [1, 2]}"),
)


def mutated(text: str, rng: Rng) -> str:
    """One to six changes: a piece cut out, doubled or moved, a token put in, a letter or a number changed."""
    for _ in range(rng.integers(1, 7)):
        at, end = sorted(rng.integers(0, len(text) + 1, 2))
        end = min(end, at + int(rng.integers(1, 40)))
        kind = rng.integers(6)
        if kind == 0:
            text = text[:at] + text[end:]
        elif kind == 1:
            text = text[:end] + text[at:end] + text[end:]
        elif kind == 2:
            text = text[:at] + str(rng.choice(TOKENS)) + text[at:]
        elif kind == 3:
            text = text[:at] + chr(int(rng.integers(1, 255))) + text[at + 1 :]
        elif kind == 4:
            numbers = list(re.finditer(r"\d+", text))
            if numbers:
                chosen = numbers[rng.integers(len(numbers))]
                other = rng.choice(["0", "-3", "1.5", "7", "1000000", "1e9", "12345678901234567890", "no"])
                text = text[: chosen.start()] + str(other) + text[chosen.end() :]
        else:
            lines = text.split("\n")
            i, j = rng.integers(0, len(lines), 2)
            lines[i], lines[j] = lines[j], lines[i]
            text = "\n".join(lines)
    return text


def check_spaces(seeds: range) -> dict[int, int]:
    texts = [path.read_text(encoding="utf-8") for path in shipped_spaces().values()]
    codes: dict[int, int] = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        text = mutated(texts[seed % len(texts)], rng)

        def read(text: str = text) -> None:
            space = read_space(text, "fuzz.yaml")
            assert space.size() >= 0
            if space.size():
                space.sample(0)

        try:
            code = outcome(read)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        codes[code] = codes.get(code, 0) + 1
    return codes


# Files: by kind, a whole one as bytes, and what reads it


def picture(form: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def read_picture(form: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        for name in ("cat", "dog"):
            (folder / name).mkdir(exist_ok=True)
            for i in range(4):
                (folder / name / f"{i}.png").write_bytes(WHOLE_PNGS[i + 4 * (name == "dog")])
        (folder / "cat" / f"x.{form.lower()}").write_bytes(content)
        return open_data(str(folder))

    return read


def _png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(
        stream, "PNG"
    )
    return stream.getvalue()


WHOLE_PNGS = [_png(seed) for seed in range(8)]


def npz() -> bytes:
    stream = io.BytesIO()
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    np.savez(stream, x=x, y=np.arange(40) % 4, classes=np.array(["a", "b", "c", "d"]))
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    cells = [{"bytes": WHOLE_PNGS[i % 8], "path": f"{i}.png"} for i in range(40)]
    table = pa.table({"image": cells, "label": [i % 4 for i in range(40)]})
    names = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b", "c", "d"]}}}}'
    pq.write_table(table.replace_schema_metadata({b"huggingface": names}), stream, row_group_size=10)
    return stream.getvalue()


def written(suffix: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def check(folder: Path, content: bytes) -> object:
        path = folder / f"file{suffix}"
        path.write_bytes(content)
        return read(path)

    return check


def safetensors() -> bytes:
    path = Path(os.environ["FUZZ_FOLDER"]) / "whole.safetensors"
    save_file(create_model("resnet20", num_classes=4).state_dict(), path)
    return path.read_bytes()


def checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": create_model("resnet20", num_classes=4).state_dict(), "epoch": 3}, stream)
    return stream.getvalue()


def sqlite() -> bytes:
    folder = Path(os.environ["FUZZ_FOLDER"])
    run(folder, trials=3, confirm=0.0)
    path = folder / "results" / "attnsearch.db"
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path.read_bytes()


def read_study(path: Path) -> object:
    for name in (None, "tiny"):
        record = open_study(name, f"sqlite:///{path}").record
    from attnsearch import report

    return report.as_json(report.build(record))


def read_weights(path: Path) -> object:
    return load_weights(create_model("resnet20", num_classes=4), path)


FORMS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
KINDS: dict[str, tuple[Callable[[], bytes], Callable[[Path, bytes], object]]] = {
    **{form: (partial(picture, form), read_picture({"JPEG2000": "jp2"}.get(form, form))) for form in FORMS},
    "npz": (npz, written(".npz", lambda path: open_data(str(path)))),
    "parquet": (parquet, written(".parquet", lambda path: open_data(str(path)))),
    "SQLite": (sqlite, written(".db", read_study)),
    "safetensors": (safetensors, written(".safetensors", read_weights)),
    "torch": (checkpoint, written(".pt", read_weights)),
}


def damaged(content: bytes, rng: Rng) -> bytes:
    """Up to 20 bits flipped, most often near either end where the headers are; or cut off; or a stretch of noise."""
    data = bytearray(content)
    kind = rng.integers(4)
    if kind == 3:
        return bytes(data[: rng.integers(0, len(data))])
    if kind == 2:
        at = int(rng.integers(0, len(data)))
        data[at : at + 16] = rng.integers(0, 256, min(16, len(data) - at), dtype=np.uint8).tobytes()
    near = min(len(data), 400)
    for _ in range(rng.integers(1, 21)):
        at = int(rng.integers(0, near if kind else len(data)))
        data[at if rng.random() < 0.5 else -1 - at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def check_files(kind: str, seeds: range, folder: Path) -> dict[int, int]:
    make, read = KINDS[kind]
    content = make()
    assert outcome(lambda: read(folder, content)) == 0
    codes: dict[int, int] = {}
    for seed in seeds:
        place = folder / "one"
        place.mkdir()
        broken = damaged(content, np.random.default_rng(seed))
        try:
            code = outcome(partial(read, place, broken))
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {error!r}") from error
        codes[code] = codes.get(code, 0) + 1
        shutil.rmtree(place)
    return codes


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("FUZZ_FOLDER", str(tmp_path_factory.mktemp("whole")))
    return tmp_path


def test_mutated_space_files_are_valid_or_refused():
    codes = check_spaces(range(PART["space"]))
    assert set(codes) == {0, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_valid_or_refused(folder, kind):
    assert set(check_files(kind, range(PART["file"]), folder)) <= {0, 2, 3, 4}


@pytest.mark.slow
def test_two_thousand_mutated_space_files():
    codes = check_spaces(range(SPACES))
    assert sum(codes.values()) == SPACES


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_five_hundred_damaged_files_of_each_kind(folder, kind):
    codes = check_files(kind, range(FILES), folder)
    assert sum(codes.values()) == FILES
    assert set(codes) <= {0, 2, 3, 4}
