"""Checkpoint: the tensors of a file that some training wrote, read without running anything that stands in it.

safetensors, or what `torch.save` writes, read with `weights_only=True`. Trainers put more than tensors into a file:
best accuracies as numpy scalars, command lines, paths, hyper-parameters. Types that are known to be harmless are
replaced by empty stand-ins, so nothing of theirs is imported or called; any other type is refused, and named.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnsearch.build.hub_weights import fetched
from attnsearch.core.checks import check_weights, split_weights
from attnsearch.core.errors import UsageError

DEPTH = 4  # of mappings within mappings that are searched for tensors


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
        source: how messages name it.
        groups: each mapping that holds tensors, by the keys that lead to it with dots between; "" is the top.
        choice: the group, or the prefix of names, that its user asked for; empty takes what fits best.
    """

    source: str
    groups: Mapping[str, Mapping[str, Tensor]]
    choice: str = ""


class _Inert:
    """Stands for a value that is not needed: takes any arguments and any state, and keeps none."""

    def __init__(self, *args: Any, **options: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...


class _Items:
    """Stands for a kind of dictionary; torch's reader fills nothing but its own kinds, so it makes one of them."""

    def __new__(cls, *args: Any, **options: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


_NUMPY = (
    "dtype",
    "ndarray",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool_",
)
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILTIN = ("int", "float", "str", "bool", "list", "dict", "tuple", "slice", "range")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_LIGHTNING = ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric")
_OMEGACONF = ("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata")
_OMEGACONF_NODES = ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "PathNode")
HARMLESS: dict[str, type[Any]] = {
    **{f"numpy.{name}": _Inert for name in _NUMPY},
    **{f"{module}.{name}": _Inert for module in _NUMPY_MODULES for name in ("scalar", "_reconstruct")},
    **{f"numpy.dtypes.{name}DType": _Inert for name in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")},
    **{f"{module}.{name}": _Inert for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{f"builtins.{name}": _Inert for name in _BUILTIN},
    **{f"datetime.{name}": _Inert for name in ("datetime", "date", "time", "timedelta")},
    **{f"omegaconf.{name}": _Inert for name in _OMEGACONF},
    **{f"omegaconf.nodes.{name}": _Inert for name in _OMEGACONF_NODES},
    **{f"{module}.utilities.parsing.AttributeDict": _Items for module in _LIGHTNING},
    **{f"{module}.utilities.data.AttributeDict": _Items for module in _LIGHTNING},
    "argparse.Namespace": _Inert,
    "types.SimpleNamespace": _Inert,
    "typing.Any": _Inert,
    "collections.defaultdict": _Items,
    "easydict.EasyDict": _Items,
    "yacs.config.CfgNode": _Items,
}  # fmt: skip


def read_checkpoint(name: str | Path) -> Checkpoint:
    """The tensors of a file, or of one of its parts named as `FILE::KEY`.

    Raises:
        UsageError: no such file, a damaged one, one without tensors, or one that holds objects instead of weights.
    """
    path, choice = split_weights(check_weights(fetched(str(name))))
    held = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    return Checkpoint(str(path), tensors_of(held, str(path)), choice)


def sha256(name: str | Path) -> str:
    """Of a file's bytes; raises `UsageError` where it cannot be read."""
    path = split_weights(fetched(str(name)))[0]
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"Checkpoint not found: {path} ({error.strerror})") from None


def tensors_of(held: Any, source: str) -> dict[str, dict[str, Tensor]]:
    """`Checkpoint.groups` of what was read; a `UsageError` where no tensor is in it."""
    groups = dict(_groups(held, ""))
    if groups:
        return groups
    found = ", ".join(map(str, list(held)[:4])) if isinstance(held, Mapping) else ""
    what = f"keys {found}" if found else f"a {type(held).__name__}"
    raise UsageError(f"{source} holds {what}, expected a state dict: names with their tensors")


def _groups(held: Any, path: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(held, Mapping) or depth > DEPTH:
        return
    tensors = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in held.items():
        yield from _groups(value, f"{path}.{key}" if path else str(key), depth + 1)


def _is_safetensors(path: Path) -> bool:
    """By its first bytes, a length and then a JSON object, or where these say nothing by its name."""
    with open(path, "rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (head[8:] == b"{" and head[:2] not in (b"PK", b"\x80\x02"))


def _read_safetensors(path: Path) -> Any:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # damaged bytes raise several kinds
        raise _damaged(path, error) from None


def _read_torch(path: Path) -> Any:
    _check_whole(path)
    stand_ins: list[Any] = [(stand_in, name) for name, stand_in in HARMLESS.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # of another pickle protocol, or of TorchScript
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise any of a dozen kinds
        message = str(error)
        if "TorchScript" in message:
            raise UsageError(_saved_anew(path, "a TorchScript program", "torch.jit.load({old!r})")) from None
        if refused := re.search(r"GLOBAL (\S+) (?:was not|whose module)", message):
            what = f"Python objects ({refused[1]}), which could run code"
            raise UsageError(_saved_anew(path, what, "torch.load({old!r}, weights_only=False)")) from None
        raise _damaged(path, error) from None


def _check_whole(path: Path) -> None:
    """Compare the checksums of a zip file, which torch's reader skips; older files have none."""
    try:
        if not zipfile.is_zipfile(path):  # raises too, on an end that speaks of several disks
            return
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # damaged bytes raise several kinds
        raise _damaged(path, error) from None
    if damaged:
        raise _damaged(path, ValueError(f"the checksum of {damaged} is not that of its bytes"))


def _saved_anew(path: Path, what: str, load: str) -> str:
    """The sentence for a file of objects, and the two lines that turn it into one of weights."""
    new = f"{path.stem}_weights.pth"
    return (
        f"{path} is not a checkpoint of weights: it holds {what}, and only tensors are read. "
        "If you trust where it comes from, save its weights anew:\n"
        f"    model = {load.format(old=str(path))}  # where it is a dictionary, the entry with the model\n"
        f"    torch.save(model.state_dict(), {new!r})"
    )


def _damaged(path: Path, error: Exception) -> UsageError:
    text = str(error).rpartition("WeightsUnpickler error:")[2]
    reason = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()
    first = reason[0].split(". ")[0][:160].rstrip(".") if reason else type(error).__name__
    size = path.stat().st_size
    return UsageError(f"{path} is not a checkpoint of weights, or a damaged one ({size:,} bytes): {first}")


__all__ = ["HARMLESS", "Checkpoint", "read_checkpoint", "sha256", "tensors_of"]
