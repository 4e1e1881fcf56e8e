"""Names that a user gives: of a study, a storage, a data set; checked before anything heavy is imported."""

from __future__ import annotations

import os
import re
from pathlib import Path

from attnsearch.core.errors import DataError, UsageError, did_you_mean

DATA = ("cluttered-digits", "digits", "cifar10", "cifar100")  # that come with us, or are known by name
LARGEST_SIDE = 2048  # pixels
_SCHEMES = ("sqlite", "postgresql")


def check_study_name(name: str) -> str:
    """The name itself; it becomes a folder and part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) or name in (".", ".."):
        raise UsageError(f"study name must match [A-Za-z0-9._-]{{1,100}}, got {name[:120]!r}")
    return name


def at_home(path: str | Path) -> Path:
    """The path with `~` and `~user` as their folders; as it is where there is no such folder."""
    return Path(os.path.expanduser(path))


def check_data(name: str) -> str:
    """The name itself, if there is such a data set or path; else `DataError`."""
    if name not in DATA and not name.startswith("hf:") and not at_home(name).exists():
        raise DataError(f"Data folder not found: {name}.{did_you_mean(name, DATA)}")
    return name


def check_side(side: int | None) -> None:
    """Refuse an image's side that is a slip: beyond it a data set fills a disk before anybody sees why."""
    if side is not None and not 1 <= side <= LARGEST_SIDE:
        raise UsageError(f"the image size is a side in pixels from 1 to {LARGEST_SIDE:,}, not {side:,}")


def check_url(url: str) -> str:
    """The storage URL with a driver; raises `UsageError` for a scheme that is not supported."""
    scheme = url.split("://", 1)[0] if "://" in url else ""
    no_file = scheme.startswith("sqlite") and not url.startswith("sqlite:///")
    if no_file or scheme.split("+")[0] not in _SCHEMES:
        raise UsageError(
            f"unsupported storage scheme '{scheme}': use sqlite:///FILE or postgresql://USER@HOST/DB"
        )
    return url.replace("postgresql://", "postgresql+psycopg://", 1) if scheme == "postgresql" else url


def masked(text: str) -> str:
    """Text in which no URL shows its password."""
    text = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text).replace("postgresql+psycopg", "postgresql")
