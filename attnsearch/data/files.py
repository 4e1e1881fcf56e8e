"""Files by content: what tells that a data set has changed since a study began."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from attnsearch.core.errors import DataError


def digest(*parts: object) -> str:
    """32 hexadecimal digits of these values, in order; file names need not be valid text."""
    return hashlib.blake2b(
        "\n".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()


def content_digest(kind: str, root: Path, files: Iterable[Path], cache: Path | None) -> str:
    """A digest of names relative to the root and of full contents.

    Contents are read once; later a digest of names, sizes and modification times finds it in the cache.

    Raises:
        DataError: a file that cannot be read.
    """
    ordered = sorted(files)
    try:
        stats = [path.stat() for path in ordered]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    marks = (f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in zip(ordered, stats, strict=True))
    known = cache / "digests" / digest(kind, root.resolve(), *marks) if cache else None
    if known is not None:
        with contextlib.suppress(OSError, ValueError):
            text = known.read_text(encoding="ascii").strip()
            if len(text) == 32:
                return text
    result = digest(kind, *(f"{_relative(path, root)} {_file_digest(path)}" for path in ordered))
    if known is not None:
        with contextlib.suppress(OSError):  # without a cache the contents are read again next time
            known.parent.mkdir(parents=True, exist_ok=True)
            partial = known.with_suffix(f".{os.getpid()}")
            partial.write_text(result, encoding="ascii")
            partial.replace(known)
    return result


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
