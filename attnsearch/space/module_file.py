"""A file with a model of the user's own, which may be a space's host: `host: {module: my_model.py, make: build}`.

The file is code, so it is run only where the command line names it (`--host-module FILE`), as a plug-in is. It is known
by its fingerprint: its own SHA-256, or, where it imports files beside it, one over all of these. What stands in it is
read by a function that is named together with it, since this room knows no torch; from then on a host says all that
sites and keys are made of.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from attnsearch.core.errors import UsageError, did_you_mean

KEYS = ("module", "make", "weights")  # that a user writes of such a host


@dataclass(frozen=True)
class Layout:
    """What a model has, as far as sites need it; tuples have one entry a stage.

    Args:
        stem: `imagenet` where its first convolution strides. unit: `bottleneck` where units have a conv3.
        widths: channels that a stage puts out. inner: channels behind conv2.
    """

    stem: Literal["cifar", "imagenet"]
    unit: Literal["basic", "bottleneck"]
    units: tuple[int, ...]
    widths: tuple[int, ...]
    inner: tuple[int, ...]


Describe = Callable[[Path, str], Layout]  # of a file and a function in it

_ALLOWED: dict[Path, Describe] = {}  # files that the command line named


def allow(path: Path, describe: Describe) -> None:
    """Let spaces and archs name a file as their host.

    Raises:
        UsageError: no such file, or one that is no Python.
    """
    if not path.is_file():
        raise UsageError(f"--host-module: file not found: {path}")
    fingerprint(path)
    _ALLOWED[path.resolve()] = describe


def allowed() -> tuple[Path, ...]:
    """The files that may be run; worker processes allow them again."""
    return tuple(_ALLOWED)


def find(host_name: str, module: str, sha256: str) -> Path:
    """The allowed file of a fingerprint.

    Raises:
        UsageError: none was named on the command line, or it has changed.
    """
    found = {path: fingerprint(path) for path in _ALLOWED}
    for path, now in found.items():
        if now == sha256:
            return path
    if not found:
        raise UsageError(_not_named(module))
    path = next((path for path in found if path.name == module), next(iter(found)))
    raise UsageError(
        f"{path} is not the file that {host_name} was made by, or has changed since: its SHA-256 is "
        f"{found[path][:12]}, that of {module} was {sha256[:12]}"
    )


def completed(node: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A host as a file writes it, `{module: ..., make: ...}`, with fingerprint and layout: fields of `arch.Host`.

    Args:
        folder: where the file that says so lies; the module stands beside it, or where the program runs.

    Raises:
        UsageError: a key of other hosts, a module that the command line does not name, or that is no ResNet.
    """
    for key in node:
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS)
            raise UsageError(f"a model of your own takes {', '.join(KEYS)}; '{key}' is of other hosts.{near}")
    module, make = node.get("module"), node.get("make")
    if not (isinstance(module, str) and isinstance(make, str) and module and make):
        missing = "module" if not (isinstance(module, str) and module) else "make"
        meant = "the file" if missing == "module" else "the function in it that makes the model"
        raise UsageError(f"'{missing}' is missing: {meant}, as in {{module: my_model.py, make: build}}")
    path = _named(module, folder)
    layout = _ALLOWED[path](path, make)
    return {
        "name": f"{path.stem}.{make}",
        "module": path.name,
        "make": make,
        "sha256": fingerprint(path),
        **asdict(layout),
    }


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or over the names and hashes of it and of the files beside it that it imports."""
    hashes = {name: hashlib.sha256(_content(file)).hexdigest() for name, file in sources(path).items()}
    if len(hashes) == 1:
        return hashes[path.name]
    return hashlib.sha256("".join(f"{n} {h}\n" for n, h in sorted(hashes.items())).encode()).hexdigest()


def sources(path: Path) -> dict[str, Path]:
    """A file and all beside it or below that it imports, by their paths from its folder, itself first."""
    folder = path.resolve().parent
    found = {path.name: path}
    waiting = [path]
    while waiting:
        for file in _imports(waiting.pop(), folder):
            name = file.relative_to(folder).as_posix()
            if name not in found:
                found[name] = file
                waiting.append(file)
    return found


def _imports(path: Path, folder: Path) -> Iterator[Path]:
    """Files in `folder` that a file imports."""
    try:
        tree = ast.parse(_content(path), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        words = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"{path}{line}: not valid Python: {words}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.parent if node.level else folder
            for _ in range(node.level - 1):
                package = package.parent
            if not package.is_relative_to(folder):
                continue
            inside = ".".join((*package.relative_to(folder).parts, *filter(None, [node.module])))
            names = [inside, *(".".join(filter(None, (inside, alias.name))) for alias in node.names)]
        else:
            continue
        for name in names:
            yield from _files(name, folder)


def _files(name: str, folder: Path) -> Iterator[Path]:
    """The files that importing a dotted name runs: its packages, from the outermost on, and itself."""
    at = folder
    for part in filter(None, name.split(".")):
        at = at / part
        for file in (at.with_name(f"{at.name}.py"), at / "__init__.py"):
            if file.is_file():
                yield file


def _named(module: str, folder: Path) -> Path:
    """The allowed file that a space names."""
    if not _ALLOWED:
        raise UsageError(_not_named(module))
    for path in (folder / module, Path(module)):
        if path.resolve() in _ALLOWED:
            return path.resolve()
    files = ", ".join(str(path) for path in _ALLOWED)
    raise UsageError(f"the host is the module {module}, while --host-module names {files}")


def _not_named(module: str) -> str:
    return (
        f"the host is a model in {module}, which is code and runs only where the command line names it: "
        f"add --host-module {module}"
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


__all__ = ["Layout", "allow", "allowed", "completed", "find", "fingerprint", "sources"]
