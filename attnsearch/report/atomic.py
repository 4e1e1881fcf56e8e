"""Files that are whole or not there: written beside their place, flushed to disk, renamed over it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from attnsearch.core.errors import EnvironmentFault


def write(path: Path, content: str | bytes) -> Path:
    """Put `content` at `path`; a full disk or a crash leaves the old file as it was.

    Raises `EnvironmentFault` where the folder cannot be made or written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp's own 0600 would hide reports on a shared disk
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentFault(f"Cannot write {path}: {error.strerror or error}") from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
