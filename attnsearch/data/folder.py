"""Folders of images: `root/CLASS/*` or `root/{train,val,test}/CLASS/*`; folders in a class belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import BadImage, Picture, Pool, Rows, Source
from attnsearch.data.files import content_digest
from attnsearch.data.images import FOREIGN, SUFFIXES

PART_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass
class Found:
    """Image files of one part by class, sorted by name, and how many other files were passed over."""

    classes: dict[str, list[Path]] = field(default_factory=dict)
    ignored: int = 0


def folder_source(name: str, root: Path, cache: Path | None, *, follow_links: bool) -> Source:
    """Walk the tree now, decode later.

    Raises:
        DataError: no images, or a link that loops or leads out of the folder.
    """
    parts = find_images(root, follow_links=follow_links)
    files = [path for found in parts.values() for paths in found.classes.values() for path in paths]
    digest = content_digest("folder", root, files, cache)
    return Source(name, digest, lambda: _pool(parts))


def find_images(root: Path, *, follow_links: bool = False) -> dict[str, Found]:
    """{part: images by class}; the whole of `root/CLASS` is one part, `train`."""
    walk = _Walk(root, follow_links)
    parts = {part: walk.classes(folder) for part, folder in _part_folders(root).items()}
    parts = {part: found for part, found in parts.items() if found.classes}
    if "train" not in parts:
        looked = ", ".join(SUFFIXES)
        loose = any(path.suffix[1:].lower() in SUFFIXES for path in root.iterdir())
        hint = "; put its images into one folder per class" if loose else ""
        raise DataError(f"no class folders with images under {root} (looked for {looked}){hint}")
    return parts


def _part_folders(root: Path) -> dict[str, Path]:
    """{part: folder} where `train` has another part beside it, or is alone; else the root is `train`.

    A class may be called `train` too: next to `car` and `ship` it is one.
    """
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not _hidden(entry))
    parts: dict[str, Path] = {}
    for folder in folders:
        if part := PART_FOLDERS.get(folder.name.lower()):
            if part in parts:
                raise DataError(f"{root}: {parts[part].name} and {folder.name} both mean the {part} split")
            parts[part] = folder
    return parts if "train" in parts and (len(parts) > 1 or len(folders) == 1) else {"train": root}


def _hidden(entry: Path) -> bool:
    return entry.name.startswith((".", "__"))


class _Walk:
    """One walk over a data folder, which may not leave it by a link unless told so."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root = root
        self.real = Path(os.path.realpath(root))
        self.follow = follow_links

    def classes(self, folder: Path) -> Found:
        """Image files under each sub-folder; hidden ones and files of other kinds are counted as ignored."""
        found = Found()
        for entry in sorted(folder.iterdir()):
            if _hidden(entry) or not self.allowed(entry).is_dir():
                found.ignored += 1
                continue
            files: list[Path] = []
            self.collect(entry, files, found, ())
            if files:
                found.classes[entry.name] = files
            else:
                found.ignored += 1
        return found

    def collect(self, folder: Path, files: list[Path], found: Found, above: tuple[Path, ...]) -> None:
        real = Path(os.path.realpath(folder))
        if real in above or real == self.real:
            raise DataError(f"symlink loop: {folder} leads back to {os.path.realpath(folder)}")
        for entry in sorted(folder.iterdir()):
            if _hidden(entry):
                found.ignored += 1
            elif self.allowed(entry).is_dir():
                self.collect(entry, files, found, (*above, real))
            elif entry.suffix[1:].lower() in SUFFIXES + FOREIGN:
                files.append(entry)
            else:
                found.ignored += 1

    def allowed(self, entry: Path) -> Path:
        """The entry, unless it is a link that must not be followed."""
        if not entry.is_symlink():
            return entry
        try:
            target = entry.resolve(strict=True)
        except (OSError, RuntimeError):
            raise DataError(f"symlink loop or broken link: {entry} -> {os.readlink(entry)}") from None
        if not self.follow and not target.is_relative_to(self.real):
            raise DataError(
                f"{entry} is a link out of {self.root}, to {target}; allow it with --follow-links"
            )
        return entry


def _pool(parts: dict[str, Found]) -> Pool:
    """Classes are those of the training images, in alphabetical order.

    Raises:
        DataError: a class in val or test that train does not have.
    """
    classes = tuple(sorted(parts["train"].classes))
    for part, found in parts.items():
        if unknown := sorted(set(found.classes) - set(classes)):
            raise DataError(f"class '{unknown[0]}' is in {part} but not in train")
    files = {
        part: [path for name in classes for path in found.classes.get(name, ())]
        for part, found in parts.items()
    }
    labels = {
        part: np.repeat(np.arange(len(classes)), [len(found.classes.get(name, ())) for name in classes])
        for part, found in parts.items()
    }

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        for row in rows:
            path = files[part][row]
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                yield str(path), BadImage(f"{path}: {error.strerror}")

    return Pool(classes, labels, read, ignored=sum(found.ignored for found in parts.values()))
