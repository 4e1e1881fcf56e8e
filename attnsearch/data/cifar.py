"""CIFAR-10 and CIFAR-100 in the official binary version: records of label bytes and 3 × 32 × 32 pixels.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The Python version is pickled and
not read. Archives are read as a stream, member by expected member; nothing is unpacked to the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

from attnsearch.core.errors import DataError, EnvironmentFault
from attnsearch.data.dataset import Labels, Pixels, Pool, Source, in_memory
from attnsearch.data.files import content_digest

PIXELS = 3 * 32 * 32
MEMBER_LIMIT = 200_000_000  # bytes; the largest true member, CIFAR-100's train.bin, has 153,700,000
ARCHIVE_LIMIT = 400_000_000
TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Layout:
    """One of the two sets as its author packed it; `md5` is the one he publishes beside the archive."""

    url: str
    md5: str
    size: int
    folder: str
    parts: Mapping[str, tuple[str, ...]]
    names: str  # the file of class names
    label_bytes: int  # the last one is the class

    @property
    def archive(self) -> str:
        return self.url.rpartition("/")[2]


LAYOUTS = {
    "cifar10": Layout(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        size=170_052_171,
        folder="cifar-10-batches-bin",
        parts={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        names="batches.meta.txt",
        label_bytes=1,
    ),
    "cifar100": Layout(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        size=168_513_733,
        folder="cifar-100-binary",
        parts={"train": ("train.bin",), "test": ("test.bin",)},
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


def cifar_source(name: str, cache: Path) -> Source:
    """`cifar10` or `cifar100`: from the working folder, `data/` or the cache, else downloaded into the cache.

    Raises:
        EnvironmentFault: it has to be downloaded and cannot be.
        DataError: the download is not the published archive.
    """
    layout = LAYOUTS[name]
    downloads = cache / "downloads"
    for place in (Path(name), Path("data") / name, Path("data"), Path(), downloads):
        if source := folder_source(name, place / layout.folder, cache):
            return source
        if source := folder_source(name, place, cache):
            return source
        if (archive := place / layout.archive).is_file():
            return archive_source(name, archive, cache)
    return archive_source(name, download(layout, downloads), cache)


def folder_source(name: str, folder: Path, cache: Path) -> Source | None:
    """The binary files of either set in this folder; None where there are none.

    Raises:
        DataError: some of the files are missing, or only the Python version is there.
    """
    for layout in LAYOUTS.values():
        wanted = [*layout.parts["train"], *layout.parts["test"], layout.names]
        present = [folder / file for file in wanted if (folder / file).is_file()]
        if len(present) == len(wanted):
            digest = content_digest("cifar", folder, present, cache)
            files = {path.name: path for path in present}
            return Source(name, digest, partial(_from_files, layout, files), version=1)
        if present and layout.label_bytes == 1:
            missing = next(file for file in wanted if not (folder / file).is_file())
            raise DataError(f"{folder}: CIFAR's {missing} is missing")
    if any((folder / file).is_file() for file in ("batches.meta", "meta")):
        raise DataError(
            f"{folder}: the Python version of CIFAR is pickled, and a pickle can run any code; "
            f"take the binary version, {LAYOUTS['cifar10'].url} or {LAYOUTS['cifar100'].archive}"
        )
    return None


def archive_source(name: str, archive: Path, cache: Path) -> Source:
    """An archive of the binary version as its author packed it."""
    layout = LAYOUTS[name]
    digest = content_digest("cifar archive", archive, [archive], cache)
    return Source(name, digest, lambda: _pool(layout, read_archive(archive, layout)), version=1)


def read_archive(archive: Path, layout: Layout) -> dict[str, bytes]:
    """{file: content} of the members that the layout names, streamed.

    Raises:
        DataError: not such an archive, members missing, or more bytes than CIFAR has.
    """
    wanted = {*layout.parts["train"], *layout.parts["test"], layout.names}
    found: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(archive, mode="r|gz") as stream:
            for member in stream:
                total += member.size
                if member.size > MEMBER_LIMIT or total > ARCHIVE_LIMIT:
                    raise DataError(f"{archive}: larger than CIFAR; not read further")
                name = member.name.rpartition("/")[2]
                if member.isfile() and name in wanted and (content := stream.extractfile(member)):
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive}: not a readable archive ({error})") from None
    if missing := sorted(wanted - set(found)):
        raise DataError(f"{archive}: CIFAR's {missing[0]} is missing")
    return found


def _from_files(layout: Layout, files: Mapping[str, Path]) -> Pool:
    try:
        return _pool(layout, {name: path.read_bytes() for name, path in files.items()})
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None


def _pool(layout: Layout, contents: Mapping[str, bytes]) -> Pool:
    classes = tuple(
        line.strip() for line in contents[layout.names].decode("ascii", "replace").split() if line
    )
    labels: dict[str, Labels] = {}
    pixels: dict[str, Pixels] = {}
    for part, files in layout.parts.items():
        records = np.concatenate([_records(file, contents[file], layout.label_bytes) for file in files])
        labels[part] = records[:, layout.label_bytes - 1].astype(np.int64)
        if labels[part].max() >= len(classes):
            raise DataError(
                f"{files[0]}: class {labels[part].max()}, but {layout.names} names {len(classes)}"
            )
        pixels[part] = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Pool(classes, labels, in_memory(pixels))


def _records(file: str, content: bytes, label_bytes: int) -> Pixels:
    size = label_bytes + PIXELS
    if not content or len(content) % size:
        raise DataError(f"{file}: {len(content):,} bytes are not whole records of {size:,}")
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def download(layout: Layout, folder: Path) -> Path:
    """Fetch the archive into the folder; it gets its name only when its author's checksum is right."""
    target = folder / layout.archive
    advice = f"put {layout.archive} into {folder} yourself"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(prefix=f"{layout.archive}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                found = _fetch(layout, file)
            if found != layout.md5:
                raise DataError(f"{layout.url}: checksum {found}, not {layout.md5}; try again, or {advice}")
            os.replace(unfinished, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
    except URLError as error:
        raise EnvironmentFault(f"cannot download {layout.url} ({error.reason}); {advice}") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot download {layout.url} into {folder} ({error}); {advice}") from None
    return target


def _fetch(layout: Layout, file: IO[bytes]) -> str:
    """Copy the address into the file, with a bar on stderr; the MD5 of what came."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    digest = hashlib.md5(usedforsecurity=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with urlopen(layout.url, timeout=TIMEOUT) as answer, bar:
        task = bar.add_task(layout.archive, total=layout.size)
        came = 0
        while chunk := answer.read(1 << 18):
            came += len(chunk)
            if came > layout.size:
                raise DataError(f"{layout.url}: longer than the {layout.size:,} bytes it should have")
            digest.update(chunk)
            file.write(chunk)
            bar.update(task, completed=came)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()
