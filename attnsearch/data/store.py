"""The cache: each prepared data set is a folder of uint8 arrays that all processes map into memory.

`<cache>/images/<fingerprint>/` holds `{train,val,test}.npy`, `{train,val,test}.labels.npy` and `meta.json`.
It appears by one rename when everything in it is on the disk, so a reader sees a whole one or none.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.core.checks import at_home
from attnsearch.core.errors import EnvironmentFault
from attnsearch.data.dataset import Labels, Pixels, Split

UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class Prepared:
    """A data set decoded and split: plain facts, and arrays (N, H, W, C) that are opened when asked for."""

    meta: Mapping[str, Any]
    folder: Path | None = None
    arrays: Mapping[str, tuple[Pixels, Labels]] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        """The images of one split as (N, C, H, W) views."""
        if self.folder is None:
            images, labels = self.arrays[name]
        else:
            # "c": pages are shared with other processes until written to, and nothing is ever written back to
            # the file. With "r" torch would warn of memory that it may not write to.
            images = np.load(self.folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            labels = np.load(self.folder / f"{name}.labels.npy", mmap_mode="c", allow_pickle=False)
        return Split(images.transpose(0, 3, 1, 2), labels)


def cache_folder(cache: str | Path | None = None) -> tuple[Path, bool]:
    """(folder, whether a user chose it): argument, $ATTNSEARCH_CACHE or the platform's own.

    Raises:
        EnvironmentFault: a user without a home.
    """
    chosen = cache or os.environ.get("ATTNSEARCH_CACHE")
    base = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = at_home(chosen or Path(base, "attnsearch"))
    if folder.parts[0].startswith("~"):
        raise EnvironmentFault(
            f"no home folder for the image cache {folder}; set ATTNSEARCH_CACHE to a folder"
        )
    return folder, bool(chosen)


def cached(key: str, cache: str | Path | None = None) -> Prepared | None:
    """The data set of this fingerprint if the cache holds a whole one."""
    return _read(cache_folder(cache)[0] / "images" / key)


def fetch(key: str, make: Callable[[Path | None], Prepared], cache: str | Path | None) -> Prepared:
    """The data set of this fingerprint from the cache, or made now and kept there.

    Args:
        make: `make(folder)` writes its arrays into the folder, `make(None)` keeps them in memory.

    Raises:
        EnvironmentFault: a cache folder that the user chose cannot be written. The platform's own is done
            without: the data set stays in memory and says so in its warnings.
    """
    root, chosen = cache_folder(cache)
    final = root / "images" / key
    if found := _read(final):
        return found
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final.parent)
        folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=final.parent))
    except OSError as error:
        if chosen:
            raise _unwritable(root, error) from None
        return _in_memory(make, root, error)
    try:
        _publish(make(folder), folder, final)
    except OSError as error:
        if chosen:
            raise _unwritable(root, error) from None
        return _in_memory(make, root, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = _read(final)
    assert found is not None, f"just written: {final}"
    return found


def _publish(made: Prepared, folder: Path, final: Path) -> None:
    (folder / "meta.json").write_text(json.dumps(made.meta), encoding="utf-8")
    for path in folder.iterdir():
        sync(path)
    if final.exists() and _read(final) is None:
        shutil.rmtree(final, ignore_errors=True)  # damaged: it could not be read
    try:
        folder.rename(final)
    except OSError:
        if _read(final) is None:
            raise
        return  # another process was first with the same data; theirs is used
    sync(final.parent)


def _sweep(parent: Path) -> None:
    """Remove what processes killed while decoding left behind, once it is a day old."""
    for folder in parent.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 86_400:
                shutil.rmtree(folder)


def _read(folder: Path) -> Prepared | None:
    """The data set in this folder, or None where there is none or its files do not belong together."""
    try:
        prepared = Prepared(json.loads((folder / "meta.json").read_text(encoding="utf-8")), folder)
        for name, per_class in prepared.meta["counts"].items():
            split = prepared.split(name)
            channels, height, width = prepared.meta["image"]
            if split.images.shape != (sum(per_class.values()), channels, height, width):
                return None
            if len(split.images) != len(split.labels):
                return None
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError):
        return None
    return prepared


def _in_memory(make: Callable[[Path | None], Prepared], root: Path, error: OSError) -> Prepared:
    made = make(None)
    warning = f"images are not cached, each process decodes its own: cannot write {root} ({error.strerror})"
    return Prepared({**made.meta, "warnings": [*made.meta["warnings"], warning]}, None, made.arrays)


def _unwritable(root: Path, error: OSError) -> EnvironmentFault:
    reason = error.strerror or str(error)
    return EnvironmentFault(
        f"cannot write the image cache {root}: {reason}; set ATTNSEARCH_CACHE to another folder"
    )


def sync(path: Path) -> None:
    """Have a file or a folder's entries on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
