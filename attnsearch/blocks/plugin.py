"""Running a user's Python file, and telling their mistakes from ours by where an error came from."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from attnsearch.core.errors import UsageError


def import_file(name: str, path: Path) -> Any:
    """Run a Python file as the module `name`: what runs is what the file says now, and nothing is left beside it.

    Python's own loader keeps bytecode in `__pycache__`, and takes it for fresh if the source has its size and its
    second: a file edited and run again at once would be the old one.
    """
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module would be taken for the whole one the next time
        raise
    return module


def import_plugin(name: str, path: Path) -> Any:
    """`import_file` for a user's file, which may import the files beside it.

    Raises:
        UsageError: whatever goes wrong in it, in its own words and with its line.
    """
    try:
        with _siblings(path.resolve().parent):
            return import_file(name, path)
    except (Exception, SystemExit) as error:
        raise UsageError(blame(error, [path]) or f"{path}: {_words(error)}") from error


class _Uncached(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


@contextmanager
def _siblings(folder: Path) -> Iterator[None]:
    """Imports find the files of a folder first, not one of the same name beside another plug-in."""
    names = {entry.stem for entry in folder.glob("*.py")} | {entry.name for entry in folder.iterdir()}
    for name in names & set(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if file and str(Path(file).parent) in _FOLDERS and Path(file).parent != folder:
            del sys.modules[name]
    _FOLDERS.add(str(folder))
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # for what a block imports when it is built


_FOLDERS: set[str] = set()  # of plug-ins


def blame(error: BaseException, files: Iterable[Path]) -> str:
    """`my_block.py:7: NameError: ...` where an error passed through one of these files; else an empty string."""
    resolved = {path.resolve(): path for path in files}
    folders = {path.parent for path in resolved}
    place = ""
    for cause in _causes(error):
        for frame in traceback.extract_tb(cause.__traceback__):
            file = Path(frame.filename)
            if file in resolved:
                place = f"{resolved[file]}:{frame.lineno}"
            elif place and file.parent in folders:
                place = f"{file}:{frame.lineno}"  # a file beside it
        if place:
            return f"{place}: {_words(cause)}"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The first error and those raised from it, the first one first."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return reversed(chain)


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
