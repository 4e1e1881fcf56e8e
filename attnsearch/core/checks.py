"""Names and numbers that a user gives, checked before anything heavy is imported.

Checks of numbers take them as such or as text, return the number, and raise `ValueError` with what is expected, so that
a flag, a Python argument and a space file each put their own name before one sentence.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from attnsearch.core import secrets
from attnsearch.core.data_sets import DATA_SETS
from attnsearch.core.errors import DataError, UsageError, did_you_mean, unknown

CHOICE = "::"  # FILE::KEY takes what stands under KEY where a file holds several sets of weights
PUBLIC = ("timm:", "hf-hub:")  # weights by name, fetched when they are needed
LARGEST_SIDE = 2048  # pixels
# What SQLite, Python and SQLAlchemy would take from an SQLite URL's query.
_SQLITE_SETTINGS = (
    "mode",
    "cache",
    "immutable",
    "nolock",
    "psow",
    "vfs",
    "uri",
    "timeout",
    "check_same_thread",
    "isolation_level",
    "detect_types",
    "cached_statements",
    "factory",
)


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
    if name not in DATA_SETS and not name.startswith("hf:") and not _exists(at_home(name)):
        raise DataError(f"Data folder not found: {name}.{did_you_mean(name, DATA_SETS)}")
    return name


def split_weights(name: str | Path) -> tuple[Path, str]:
    """`FILE::KEY` as (FILE, KEY); a file whose own name has colons is taken as it is."""
    path = at_home(name)
    if _exists(path) or CHOICE not in str(name):
        return path, ""
    file, _, choice = str(name).rpartition(CHOICE)
    return at_home(file), choice


def beside(name: str, folder: Path) -> str:
    """A file that another file names: as it stands, or where that one lies."""
    if is_public(name):
        return name
    near = folder / name
    return str(near) if not _exists(split_weights(name)[0]) and _exists(split_weights(near)[0]) else name


def is_public(name: str | Path) -> bool:
    """Whether weights are named as others publish them, and not by a file."""
    return str(name).startswith(PUBLIC)


def check_weights(name: str) -> str:
    """The name of a checkpoint itself, if there is such a file, or if it is a public one; else `UsageError`."""
    if is_public(name):
        return name
    path, _ = split_weights(name)
    if not (_exists(path) and path.is_file()):
        what = "is a folder, expected a file of weights" if _exists(path) else "not found"
        raise UsageError(f"Checkpoint {what}: {path}")
    return name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a null byte
        return False


def check_side(side: int | None) -> None:
    """Refuse an image's side that is a slip: beyond it a data set fills a disk before anybody sees why."""
    if side is not None and not 1 <= side <= LARGEST_SIDE:
        raise UsageError(f"the image size is a side in pixels from 1 to {LARGEST_SIDE:,}, not {side:,}")


def check_url(url: str) -> str:
    """The storage URL with a driver, or `sqlite:///` before a path as it is, with no character of its own meaning.

    Raises:
        UsageError: a scheme that is not supported, or an SQLite URL that names no file.
    """
    scheme, marked, rest = url.partition("://")
    scheme = scheme.lower() if marked else ""
    if scheme == "sqlite" and rest.startswith("/"):
        return f"sqlite:///{_sqlite_file(rest[1:])}"
    if scheme.split("+")[0] != "postgresql":
        raise UsageError(
            f"unsupported storage scheme '{scheme}': use sqlite:///FILE or postgresql://USER@HOST/DB"
        )
    secrets.remember(url)
    return f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url


def _sqlite_file(text: str) -> Path:
    """The file that is meant by what stands behind `sqlite:///`."""
    settings = re.search(rf"\?({'|'.join(_SQLITE_SETTINGS)})=[^?/]*$", text)
    if not text or text.endswith("/"):
        raise UsageError(f"sqlite:///{text} names no file; sqlite:///studies.db is one in this folder")
    if text.startswith((":memory:", "file:")) or settings:
        word = settings.group(0) if settings else text.partition(":")[0] or text
        raise UsageError(
            f"sqlite:///FILE takes the path of a file and nothing else; '{word}' is not supported. "
            "A study has to outlast its run, so it is kept in a file"
        )
    return in_home(text)


def in_home(path: str | Path) -> Path:
    """The path with `~` as the home folder.

    Raises:
        UsageError: nobody says where that is, and a folder named `~` is what nobody wants.
    """
    expanded = at_home(path)
    if expanded.parts[:1] == ("~",):
        raise UsageError(f"{path}: there is no home folder here (HOME is not set); write the path out")
    return expanded


def masked(text: str) -> str:
    """Text in which no URL shows its password, nor any part of one that was met before."""
    text = secrets.masked(text)
    text = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    text = re.sub(r"(?i)((?:password|passwd|passphrase|pwd)=)[^&\s]+", r"\1***", text)
    return text.replace("postgresql+psycopg", "postgresql")


def whole(value: object, least: int = 1) -> int:
    """An integer from `least` on."""
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if type(number) is not int or number < least:
        raise ValueError(f"must be an integer ≥ {least}, got '{value}'")
    return number


def natural(value: object) -> int:
    """An integer from 0 on."""
    return whole(value, 0)


def positive(value: object) -> float:
    """A finite number above 0."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(f"must be a positive finite number, got '{value}'")
    return number


def share(value: object) -> float:
    """A number from 0 to below 1."""
    number = _number(value)
    if not 0 <= number < 1:
        raise ValueError(f"must be at least 0 and below 1, got '{value}'")
    return number


def check_word(what: str, word: str, known: Iterable[str]) -> str:
    """The word itself, if it is known; else `UsageError` with the nearest."""
    if word not in (words := list(known)):
        raise UsageError(unknown(what, word, words))
    return word


def _number(value: object) -> float:
    """Not a number for what is none, so that no comparison holds."""
    try:
        return (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except ValueError:
        return math.nan
