"""Folders of images: `root/CLASS/*` or `root/{train,val,test}/CLASS/*`; folders in a class belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attnsearch.core.errors import DataError
from attnsearch.core.text import printable
from attnsearch.data.dataset import BadImage, Labels, Picture, Pool, Rows, Source
from attnsearch.data.files import content_digest
from attnsearch.data.grouping import keys_of_paths
from attnsearch.data.images import FOREIGN, OTHER_SUFFIXES, SUFFIXES
from attnsearch.data.split_names import is_split_word, split_of

COLLECTED = frozenset(SUFFIXES + OTHER_SUFFIXES + FOREIGN)


@dataclass
class Found:
    """Image files of one part by class, sorted by name, and how many other files were passed over."""

    classes: dict[str, list[Path]] = field(default_factory=dict)
    ignored: int = 0


def folder_source(
    name: str, root: Path, cache: Path | None, *, follow_links: bool, nested: bool = False
) -> Source:
    """Walk the tree now, decode later.

    Args:
        nested: folders in a class are known to be those of patients or scenes.

    Raises:
        DataError: no images, or a link that loops or leads out of the folder.
    """
    parts, warnings = find_images(root, follow_links=follow_links, nested=nested)
    files = [path for found in parts.values() for paths in found.classes.values() for path in paths]
    digest = content_digest("folder", root, files, cache)
    return Source(name, digest, lambda: _pool(name, root, parts, warnings))


def find_images(
    root: Path, *, follow_links: bool = False, nested: bool = False
) -> tuple[dict[str, Found], tuple[str, ...]]:
    """({part: images by class}, warnings); the whole of `root/CLASS` is one part, `train`.

    Raises:
        DataError: no images, folders that are splits without saying which, links that lead astray.
    """
    walk = _Walk(root, follow_links)
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not _hidden(entry))
    splits = _split_folders(walk, folders)
    if not splits:
        whole = walk.classes(root)
        if not nested:
            _refuse_unnamed_splits(root, whole.classes)
        parts: dict[str, Found] = {"train": whole} if whole.classes else {}
    else:
        parts = {split: walk.classes(folder) for split, folder in splits.items()}
    empty = [splits[split].name for split, found in parts.items() if not found.classes]
    others = [folder.name for folder in folders if splits and folder not in splits.values()]
    parts = {split: found for split, found in parts.items() if found.classes}
    if "train" not in parts:
        looked = ", ".join(SUFFIXES)
        loose = any(path.suffix[1:].lower() in SUFFIXES for path in root.iterdir())
        hint = "; put its images into one folder per class" if loose else ""
        raise DataError(f"no class folders with images under {root} (looked for {looked}){hint}")
    warnings = [f"left out, having no class folders with images: {printable(', '.join(empty))}"] * bool(empty)
    warnings += [f"left out, being of no split: {printable(', '.join(others))}"] * bool(others)
    return parts, tuple(warnings)


def _split_folders(walk: _Walk, folders: list[Path]) -> dict[str, Path]:
    """{split: folder} where `train` has another split beside it, or is alone; else nothing.

    A class may be called `train` too: next to `car` and `ship` it is one. So may `bullet_train` and `test_tube`,
    which are splits only where they hold class folders and no images.
    """
    splits: dict[str, Path] = {}
    for folder in folders:
        split = split_of(folder.name)
        if split is None or not (is_split_word(folder.name) or walk.holds_classes(folder)):
            continue
        if split in splits:
            raise DataError(
                f"{walk.root}: {splits[split].name} and {folder.name} both mean the {split} split"
            )
        splits[split] = folder
    return splits if "train" in splits and (len(splits) > 1 or len(folders) == 1) else {}


def _refuse_unnamed_splits(root: Path, classes: Mapping[str, list[Path]]) -> None:
    """Raise `DataError` where all folders hold the same folders: then those are the classes, or the splits."""
    depth = len(root.parts) + 1
    inner = [
        {path.parts[depth] if len(path.parts) > depth + 1 else "" for path in files}
        for files in classes.values()
    ]
    shared = set.intersection(*inner) if len(inner) > 1 else set()
    if len(shared) < 2 or "" in set.union(*inner):
        return
    first, second = (printable(name) for name in list(classes)[:2])
    names = ", ".join(f"'{printable(name)}'" for name in sorted(shared)[:3])
    if any(split_of(name) for name in shared):
        raise DataError(
            f"{root}: each class folder holds the splits ({names}); put train, val and test above the classes"
        )
    raise DataError(
        f"{root}: {first} and {second} hold the same class folders ({names}), so they are splits and no classes; "
        "name them train, val and test, or give one of them; if the inner ones are patients or scenes, add "
        "--group-by folder:1"
    )


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
            elif entry.suffix[1:].lower() in COLLECTED and entry.is_file():  # a pipe would be read forever
                files.append(entry)
            else:
                found.ignored += 1

    def holds_classes(self, folder: Path) -> bool:
        """Whether a folder holds folders with images, and no images itself."""
        own = any(entry.suffix[1:].lower() in COLLECTED for entry in folder.iterdir() if not _hidden(entry))
        return not own and bool(self.classes(folder).classes)

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


def _pool(name: str, root: Path, parts: Mapping[str, Found], warnings: tuple[str, ...]) -> Pool:
    """Classes are those of the training images, in alphabetical order.

    Raises:
        DataError: a class in val or test that train does not have.
    """
    names = sorted(parts["train"].classes)
    for part, found in parts.items():
        if unknown := sorted(set(found.classes) - set(names)):
            raise DataError(f"class '{printable(unknown[0])}' is in {part} but not in train")
    files = {
        part: [path for name in names for path in found.classes.get(name, ())]
        for part, found in parts.items()
    }
    labels: dict[str, Labels] = {
        part: np.repeat(np.arange(len(names)), [len(found.classes.get(name, ())) for name in names])
        for part, found in parts.items()
    }

    def read(part: str, rows: Rows) -> Iterator[tuple[str, Picture]]:
        for row in rows:
            path = files[part][row]
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                yield str(path), BadImage(f"{path}: {error.strerror}")

    def group_keys(by: str) -> dict[str, list[str]]:
        first = parts["train"].classes[names[0]][0]
        depth = 1 if first.is_relative_to(root / names[0]) else 2  # below a split's folder
        paths = {part: [path.relative_to(root).as_posix() for path in paths] for part, paths in files.items()}
        return keys_of_paths(paths, by, name, depth)

    classes = tuple(map(printable, names))
    ignored = sum(found.ignored for found in parts.values())
    return Pool(classes, labels, read, group_keys=group_keys, warnings=warnings, ignored=ignored)
