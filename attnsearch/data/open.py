"""The door: a name or a path becomes a `Data`, decoded at most once on a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from attnsearch.core.checks import at_home, check_data, check_side, check_word
from attnsearch.core.choices import RESIZES
from attnsearch.core.errors import DataError, UsageError
from attnsearch.data import cifar, digits
from attnsearch.data.dataset import Data, Rows, Source, Split, safe_augmentations
from attnsearch.data.files import digest
from attnsearch.data.folder import folder_source
from attnsearch.data.grouping import LEVEL
from attnsearch.data.hub import hub_source
from attnsearch.data.images import raise_bad
from attnsearch.data.npz import npz_source
from attnsearch.data.parquet import parquet_files, parquet_source
from attnsearch.data.prepare import FORMAT, Options, prepare
from attnsearch.data.split import stratified
from attnsearch.data.store import Prepared, cache_folder, fetch

OnBadImage = Literal["fail", "skip"]

# How each data set of `core.data_sets.DATA_SETS` is opened: (name, options, cache folder) -> its source.
NAMED: dict[str, Callable[[str, Options, Path], Source]] = {
    "cued-digits": lambda name, options, _: digits.cued_source(
        name,
        images=options.limit or digits.CUED_IMAGES,
        side=options.image_size or digits.CUED_SIDE,
        seed=options.seed,
    ),
    "cluttered-digits": lambda name, options, _: digits.cluttered_source(
        name,
        images=options.limit or digits.IMAGES,
        side=options.image_size or digits.CANVAS,
        seed=options.seed,
    ),
    "digits": lambda name, *_: digits.digits_source(name),
    **dict.fromkeys(cifar.LAYOUTS, lambda name, _, cache: cifar.cifar_source(name, cache)),
}


def open_data(
    name: str,
    *,
    seed: int = 0,
    image_size: int | None = None,
    resize: str = "crop",
    min_per_class: int | None = None,
    on_bad_image: OnBadImage = "fail",
    follow_links: bool = False,
    limit: int | None = None,
    group_by: str | None = None,
    cache: str | Path | None = None,
) -> Data:
    """Train and val images of a data set; the same arguments give the same images in the same split.

    Args:
        name: one of `core.data_sets.DATA_SETS`, a folder of images or parquet files, a `.parquet` or `.npz` file, or
            `hf:NAME`.
        seed: of the split, and of the images where they are made.
        image_size: side in pixels to resize to; None keeps one common small size, or chooses 32 to 64.
        resize: how, of `core.choices.RESIZES`.
        min_per_class: leave out classes with fewer images than this.
        on_bad_image: `skip` leaves out images that cannot be read and counts them.
        follow_links: allow symbolic links that lead out of an image folder.
        limit: at most so many images over all splits, in proportion; of data made here, how many to make.
        group_by: what tells which images belong together, see `grouping`; none of a group stands in two splits.
        cache: folder of decoded images; None is $ATTNSEARCH_CACHE, else the platform's cache folder.

    Raises:
        DataError: images that cannot be found, read or split, each named.
        EnvironmentFault: a chosen cache that cannot be written, or a missing extra.
    """
    prepared, key = _prepared(
        name,
        seed=seed,
        image_size=image_size,
        resize=resize,
        min_per_class=min_per_class,
        on_bad_image=on_bad_image,
        follow_links=follow_links,
        limit=limit,
        group_by=group_by,
        cache=cache,
    )
    return data_of(name, prepared, key)


def open_test(name: str, **options: Any) -> Split:
    """The test images that belong to `open_data` of the same arguments. For the final report, once.

    Raises:
        DataError: as `open_data`, or there is no test split.
    """
    prepared, _ = _prepared(name, **options)
    if "test" not in prepared.meta["counts"]:
        raise DataError(f"{name}: has no test images; its owner split it into train and val only")
    return prepared.split("test")


def subset(split: Split, count: int | None) -> Split:
    """A fixed stratified part of at most so many images, in their old order; None is all of them."""
    if count is None or count >= len(split):
        return split
    rows = rows_of(split, count)
    return Split(split.images.transpose(0, 2, 3, 1)[rows].transpose(0, 3, 1, 2), split.labels[rows])


def rows_of(split: Split, count: int | None) -> Rows:
    """The rows of the images that `subset` takes."""
    if count is None or count >= len(split):
        return np.arange(len(split))
    return stratified(split.labels, count)


def data_of(name: str, prepared: Prepared, key: str) -> Data:
    """A prepared data set under the name that its user wrote."""
    meta = prepared.meta
    bad = [f"left out: {sentence}" for sentence in meta["bad"]]
    return Data(
        name=name,
        classes=tuple(meta["classes"]),
        image=tuple(meta["image"]),
        train=prepared.split("train"),
        val=prepared.split("val"),
        augment=tuple(meta["augment"]),
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
        fingerprint=key,
        counts=meta["counts"],
        own_val=meta["own_val"],
        groups=meta["groups"] and {split: np.array(rows) for split, rows in meta["groups"].items()},
        note=meta["note"],
        warnings=(*meta["warnings"], *bad),
        ignored=meta["ignored"],
    )


def _prepared(
    name: str,
    *,
    on_bad_image: OnBadImage = "fail",
    follow_links: bool = False,
    cache: str | Path | None = None,
    **changes: Any,
) -> tuple[Prepared, str]:
    """The arrays and their fingerprint; `changes` are the fields of `Options`."""
    options = Options(**changes)
    _check(options, on_bad_image)
    source = _find(name, options, follow_links, cache_folder(cache)[0])
    skip_bad = on_bad_image == "skip"
    later = (("resize", "crop"), ("group_by", None))  # options without which fingerprints are as before them
    decides = [value for field, value in vars(options).items() if (field, value) not in later]
    fingerprint = digest(source.version, source.digest, *decides)

    def make(folder: Path | None) -> Prepared:
        pool = source.open()
        made = prepare(pool, name, options, skip_bad=skip_bad, folder=folder)
        augment = safe_augmentations(pool) if source.augment is None else source.augment
        return Prepared({**made.meta, "augment": augment}, made.folder, made.arrays)

    prepared = fetch(digest(FORMAT, fingerprint), make, cache)
    if not skip_bad:
        raise_bad(prepared.meta["bad"], prepared.meta["images"])
    return prepared, fingerprint


def _check(options: Options, on_bad_image: str) -> None:
    check_side(options.image_size)
    check_word("resize", options.resize, RESIZES)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"limit must be an integer ≥ 1, not {options.limit}")
    if on_bad_image not in ("fail", "skip"):
        raise UsageError(f"on_bad_image must be 'fail' or 'skip', not '{on_bad_image}'")


def _find(name: str, options: Options, follow_links: bool, cache: Path) -> Source:
    """The source of a name; a name of ours comes before a folder of the same name."""
    if name in NAMED:
        return NAMED[name](name, options, cache)
    if name.startswith("hf:"):
        return hub_source(name)
    path = at_home(check_data(name))
    if path.is_dir():
        nested = bool(LEVEL.fullmatch(options.group_by or ""))
        return _find_in_folder(name, path, follow_links, nested, cache)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return parquet_source(name, [path], path.parent, cache)
    if path.is_file() and path.suffix.lower() == ".npz":
        return npz_source(name, path, cache)
    raise DataError(f"{name}: not a folder, a .parquet or an .npz file")


def _find_in_folder(name: str, path: Path, follow_links: bool, nested: bool, cache: Path) -> Source:
    try:
        if files := parquet_files(path):
            return parquet_source(name, files, path, cache)
        if source := cifar.folder_source(name, path, cache):
            return source
        return folder_source(name, path, cache, follow_links=follow_links, nested=nested)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
