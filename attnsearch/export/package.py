"""A network to take away: one Python file without attnsearch, weights, and graphs, each proved equal.

    pack(row, info, folder, formats=("py", "safetensors")) -> Package

A study keeps no weights. `train` repeats the trial by its recipe and seed, which gives the trial's own network again;
without it the weights are the untrained ones of that seed, and the record says so.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.core.errors import EnvironmentFault, NoResultError, UsageError, unknown
from attnsearch.core.metrics import METRICS
from attnsearch.core.normalisation import convention
from attnsearch.core.study_attrs import DataInfo
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import Epoch, Recipe, TrialResult
from attnsearch.report import atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attnsearch.data import Data
    from attnsearch.space.arch import Arch

FORMATS = ("py", "safetensors", "pt2", "onnx")
CLOSE = 1e-4  # of the largest output: more is another network, not another rounding
BATCH = 2


@dataclass(frozen=True)
class Package:
    """What was written: `differences` are largest absolute ones from the network's own output, per format."""

    name: str
    files: Mapping[str, Path]
    differences: Mapping[str, float]
    record: Path
    trained: bool
    error: float | None
    started: bool = False  # from weights that the study was given


def check_formats(formats: Sequence[str]) -> None:
    """Raise for a format that is unknown (`UsageError`) or whose extra is missing (`EnvironmentFault`)."""
    for name in formats:
        if name not in FORMATS:
            raise UsageError(unknown("format", name, FORMATS))
    if "onnx" in formats and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise EnvironmentFault("ONNX needs an extra: pip install 'attnsearch[onnx]'")


def choose(record: StudyRecord, trial: str) -> TrialResult:
    """The trial of a number; `A3`: of the arch that reports call so, or `best`: of the one with the least mean error,
    the best training.

    Neither a control is the best, nor what an audit trained longer than the study did.

    Raises:
        UsageError: no such trial.
        NoResultError: nothing has finished.
    """
    if trial[:1] == "A" and trial[1:].isdecimal():
        return _best_of(record, trial)
    if trial != "best":
        found = {str(row.number): row for row in record.trials if row.spec}
        if trial not in found:
            raise UsageError(
                f"No trial '{trial}' in study '{record.name}': 0 to {len(record.trials) - 1}, A1 and so on as in "
                "reports, or best"
            )
        return found[trial]
    from attnsearch.report.archs import proxy_epochs

    epochs, controls = proxy_epochs(record), record.info.controls
    done: dict[str, list[TrialResult]] = {}
    for row in record.trials:
        if row.finished and row.epochs == epochs and row.key not in controls:
            done.setdefault(row.key, []).append(row)
    if not done:
        raise NoResultError(f"study '{record.name}' has no finished trial to export")
    best = min(done.values(), key=lambda rows: sum(row.error or 0.0 for row in rows) / len(rows))
    return min(best, key=lambda row: row.error or 0.0)


def _best_of(record: StudyRecord, short: str) -> TrialResult:
    """Of the architecture that reports call `A3`, the training of the lowest error."""
    from attnsearch import report

    built = report.build(record)
    key = next((row.key for row in built.rows if f"A{row.number}" == short), None)
    if key is None:
        raise UsageError(f"No architecture '{short}' in study '{record.name}': A1 to A{len(built.rows)}")
    runs = [row for row in record.trials if row.key == key and row.finished and row.epochs == built.epochs]
    return min(runs, key=lambda row: row.error or 0.0)


def pack(
    row: TrialResult,
    info: StudyInfo,
    folder: Path,
    *,
    name: str = "",
    formats: Sequence[str] = ("py", "safetensors"),
    train: bool = False,
    weights: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Package:
    """Write a trial's network in the formats asked for, each compared with the network itself.

    Args:
        row: the trial.
        info: of its study: data and recipe.
        folder: made if it is not there; name: of the files, `trial_N` when empty.
        train: repeat the training first.
        weights: where the checkpoint is that the study started from, if it has moved.
        tell: called with a line for each epoch.

    Raises:
        NoResultError: a format computes something else than the network.
        DataError: the images to train on have changed.
        EnvironmentFault: a missing extra, or a folder that cannot be written.
    """
    import torch

    from attnsearch.build.host_weights import start
    from attnsearch.space.arch import Arch
    from attnsearch.study.study import data_of, weights_of

    check_formats(formats)
    name, seen = name or f"trial_{row.number}", info.data or DataInfo("")
    shape = seen.image or (3, 32, 32)
    classes = len(seen.classes) or 10
    known = weights_of(info.weights, weights)
    arch = Arch.from_dict(row.spec)
    network = start(arch, known, classes=classes, in_channels=shape[0], seed=row.seed)
    data = data_of(info.data) if train else None
    error = None if data is None else _repeat(network, row, data, info.recipe, tell)
    network.float().eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = torch.randn((BATCH, *shape), generator=torch.Generator().manual_seed(0))
    expected = _run(network, images)
    _make(folder)
    head = _head(name, row, data, info.recipe)
    subject = Subject(network, arch, classes)
    files = {kind: folder / f"{name}.{kind}" for kind in formats}
    differences = {
        kind: _write_and_compare(kind, subject, images, file, head, expected) for kind, file in files.items()
    }
    record = folder / f"{name}.json"
    package = Package(name, files, differences, record, train, error, known is not None)
    atomic.write(record, json.dumps(_record(package, row, info, shape), indent=2) + "\n")
    return package


@dataclass(frozen=True)
class Subject:
    """What is exported."""

    network: nn.Module
    arch: Arch
    classes: int


def _write_py(subject: Subject, images: Tensor, file: Path, head: str) -> Tensor:
    """The source; what it computes with the network's weights."""
    from attnsearch.blocks.plugin import import_file
    from attnsearch.export import module_source
    from attnsearch.export.source import source

    shape = {"classes": subject.classes, "in_channels": images.shape[1]}
    if subject.arch.host.module:
        folder = file.with_name(f"{file.stem}_host")
        text = module_source.source(subject.network, subject.arch, folder=folder.name, head=head, **shape)
        _copy_host(subject.arch, folder)
    else:
        text = source(subject.arch, head=head, **shape)
    atomic.write(file, f"{text}\n\n{LOADER}")
    module = import_file(f"attnsearch_export_{file.stem}", file)
    copy = module.Network()
    copy.load_state_dict(subject.network.state_dict())
    return _run(copy.eval(), images)


# The exported file reads its weights by torch alone.
LOADER = '''def load_weights(file):
    """The tensors of a .safetensors file by name: 8 bytes for the length of a header in JSON, then the numbers."""
    import json

    with open(file, "rb") as opened:
        content = bytearray(opened.read())
    start = 8 + int.from_bytes(content[:8], "little")
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    tensors = {}
    for name, entry in json.loads(bytes(content[8:start])).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            numbers = torch.frombuffer(content[start + begin : start + end], dtype=types[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors
'''


def _copy_host(arch: Arch, folder: Path) -> None:
    """The files of a host of the user's own, as they are."""
    from attnsearch.space import module_file

    path = module_file.find(arch.host.name, arch.host.module, arch.host.sha256)
    for name, file in module_file.sources(path).items():
        atomic.write(folder / name, file.read_bytes())


def _write_safetensors(subject: Subject, images: Tensor, file: Path, head: str) -> Tensor:
    """The weights; what a fresh network computes with them."""
    from safetensors.torch import load, save

    from attnsearch.build.network import build_network

    state = subject.network.state_dict()
    atomic.write(file, save({key: value.contiguous() for key, value in state.items()}))
    copy = build_network(subject.arch, classes=subject.classes, in_channels=images.shape[1])
    copy.load_state_dict(load(file.read_bytes()))
    return _run(copy.eval(), images)


def _write_pt2(subject: Subject, images: Tensor, file: Path, head: str) -> Tensor:
    """A program of `torch.export` for any batch."""
    import torch

    batch = torch.export.Dim("batch")
    program = torch.export.export(subject.network, (images,), dynamic_shapes=({0: batch},))
    torch.export.save(program, file)
    return _run(torch.export.load(file).module(), images)


def _write_onnx(subject: Subject, images: Tensor, file: Path, head: str) -> Tensor:
    """An ONNX graph for any batch; what ONNX's reference evaluator computes."""
    import torch

    model = to_onnx(subject.network, (images,), ({0: torch.export.Dim("batch")},))
    atomic.write(file, model.SerializeToString())
    return run_onnx(file, [images])


def to_onnx(network: nn.Module, arguments: tuple[Any, ...], dynamic_shapes: Any = None) -> Any:
    """The network as an ONNX model that ONNX's own checker accepts."""
    import onnx
    import torch

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of every optional package that is not there
    try:
        program = torch.onnx.export(
            network, arguments, dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False
        )
    finally:
        log.setLevel(level)
    assert program is not None
    onnx.checker.check_model(program.model_proto)
    return program.model_proto


def run_onnx(model: Any, inputs: Sequence[Tensor]) -> Tensor:
    """What ONNX's reference evaluator computes with a model, or with the file of one."""
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(model) if isinstance(model, Path) else model
    named = {entry.name: x.numpy() for entry, x in zip(model.graph.input, inputs, strict=True)}
    (out,) = ReferenceEvaluator(model).run(None, named)
    return torch.from_numpy(out)


_WRITERS: dict[str, Callable[[Any, Any, Path, str], Any]] = {
    "py": _write_py,
    "safetensors": _write_safetensors,
    "pt2": _write_pt2,
    "onnx": _write_onnx,
}


def _run(network: Any, images: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        return network(images)  # type: ignore[no-any-return]


def _write_and_compare(
    kind: str, subject: Subject, images: Tensor, file: Path, head: str, expected: Tensor
) -> float:
    """The largest absolute difference of what the file computes from what was expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own serialisation
        out = _WRITERS[kind](subject, images, file, head)
    difference = float((out - expected).abs().max())
    if not difference <= CLOSE * max(1.0, float(expected.abs().max())):  # NaN fails too
        raise NoResultError(
            f"the {kind} file computes something else: its output differs by {difference:.2g}"
        )
    return difference


def _repeat(
    network: nn.Module, row: TrialResult, data: Data, recipe: Recipe, tell: Callable[[str], None]
) -> float:
    """Train as the trial was; the validation error in percent."""
    from attnsearch.train.fit import fit
    from attnsearch.train.images import device_data

    recipe = replace(recipe, epochs=row.epochs)

    error = METRICS[recipe.metric].error

    def report_epoch(epoch: Epoch) -> bool:
        tell(f"epoch {epoch.epoch} of {recipe.epochs}: validation {error} {epoch.val_error:.2f} %")
        return True

    device = "cuda" if row.device.startswith("cuda") else "cpu"
    images = replace(device_data(data, recipe, device), half=row.spec.get("images") == "half")
    history = fit(network, images, recipe, seed=row.seed, on_epoch=report_epoch)
    return history[-1].val_error


def _head(name: str, row: TrialResult, data: Data | None, recipe: Recipe) -> str:
    """What the reader of a source file has to know; `data` is what it was trained on."""
    own = row.spec["host"].get("module", "")
    needs = f"torch and what {name}_host/{own} needs" if own else "torch alone"
    lines = [
        f"Written by attnsearch; needs {needs}. Arch {row.key}, seed {row.seed}.",
        "    network = Network()",
    ]
    if data is not None:
        lines += [
            f'    network.load_state_dict(load_weights("{name}.safetensors"))',
        ]
    lines.append("    network.eval()")
    if data is not None:
        own = (data.mean, data.std)
        numbers = convention(recipe.normalise, data.image[0]) or own
        mean, std = ([round(v, 5) for v in values] for values in numbers)
        lines += [
            f"Images: (x / 255 - mean) / std for x in 0..255, mean {mean}, std {std}.",
            f"Classes: {', '.join(data.classes)}.",
        ]
    return "\n".join(lines)


def _record(package: Package, row: TrialResult, info: StudyInfo, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "trial": row.number,
        "arch": row.arch,
        "key": row.key,
        "spec": dict(row.spec),
        "seed": row.seed,
        "image": list(shape),
        "trained": package.trained,
        f"validation_{info.metric.error_column}": {"trial": row.error, "repeated": package.error},
        "files": {kind: file.name for kind, file in package.files.items()},
        "max_abs_difference": dict(package.differences),
        "compared": f"outputs of {BATCH} random images with the network's own, eval mode, float32, CPU",
        "data": info.data.name if info.data else None,
        "classes": list(info.data.classes) if info.data else None,
        "recipe": info.run.recipe.to_dict() if info.run.recipe else None,
        "started_from": info.weights.to_dict() if info.weights else None,
        "host_module": info.module.to_attrs() if info.module.sha256 else None,
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot create {folder}: {error.strerror}") from None


__all__ = ["FORMATS", "Package", "check_formats", "choose", "pack"]
