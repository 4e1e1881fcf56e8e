"""Names that a user gives: of a study and of a storage. Checked in milliseconds, before anything heavy is imported."""

from __future__ import annotations

import re

from attnsearch.errors import UsageError

_SCHEMES = ("sqlite", "postgresql")


def check_study_name(name: str) -> str:
    """The name itself; it becomes a folder and part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) or name in (".", ".."):
        raise UsageError(f"study name must match [A-Za-z0-9._-]{{1,100}}, got {name[:120]!r}")
    return name


def check_url(url: str) -> str:
    """The storage URL with a driver; raises `UsageError` for a scheme that is not supported."""
    scheme = url.split("://", 1)[0] if "://" in url else ""
    if scheme.split("+")[0] not in _SCHEMES:
        raise UsageError(
            f"unsupported storage scheme '{scheme}': use sqlite:///FILE or postgresql://USER@HOST/DB"
        )
    return url.replace("postgresql://", "postgresql+psycopg://", 1) if scheme == "postgresql" else url


def masked(text: str) -> str:
    """Text in which no URL shows its password."""
    text = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text).replace("postgresql+psycopg", "postgresql")
