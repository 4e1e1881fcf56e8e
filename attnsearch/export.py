"""A network to take away: one Python file without attnsearch, weights, and graphs, each proved equal.

    pack(row, facts, folder, formats=("py", "safetensors")) -> Package

A study keeps no weights. `train` repeats the trial by its recipe and seed, which gives the trial's own network again;
without it the weights are the untrained ones of that seed, and the record says so.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.errors import EnvironmentFault, NoResultError, UsageError, did_you_mean
from attnsearch.trial import StudyRecord, TrialResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attnsearch.data import Data
    from attnsearch.trial import Recipe

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


def check_formats(formats: Sequence[str]) -> None:
    """Raise for a format that is unknown (`UsageError`) or whose extra is missing (`EnvironmentFault`)."""
    for name in formats:
        if name not in FORMATS:
            raise UsageError(
                f"Unknown format '{name}'.{did_you_mean(name, FORMATS)} Known: {', '.join(FORMATS)}"
            )
    if "onnx" in formats and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise EnvironmentFault("ONNX needs an extra: pip install 'attnsearch[onnx]'")


def choose(record: StudyRecord, trial: str) -> TrialResult:
    """The trial of a number, or `best`: of the arch with the least mean error, its best training; never a control.

    Raises:
        UsageError: no such trial.
        NoResultError: nothing has finished.
    """
    if trial != "best":
        found = {str(row.number): row for row in record.trials if row.spec}
        if trial not in found:
            raise UsageError(
                f"No trial '{trial}' in study '{record.name}': 0 to {len(record.trials) - 1}, or best"
            )
        return found[trial]
    controls = record.facts.get("controls") or {}
    errors: dict[str, list[float]] = {}
    for row in record.trials:
        if row.state == "complete" and row.error is not None and row.key not in controls:
            errors.setdefault(row.key, []).append(row.error)
    if not errors:
        raise NoResultError(f"study '{record.name}' has no finished trial to export")
    key = min(errors, key=lambda key: sum(errors[key]) / len(errors[key]))
    done = [row for row in record.trials if row.key == key and row.state == "complete"]
    return min(done, key=lambda row: row.error or 0.0)


def pack(
    row: TrialResult,
    facts: Mapping[str, Any],
    folder: Path,
    *,
    name: str = "",
    formats: Sequence[str] = ("py", "safetensors"),
    train: bool = False,
    data_options: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Package:
    """Write a trial's network in the formats asked for, each compared with the network itself.

    Args:
        row: the trial.
        facts: of its study: data, recipe.
        folder: made if it is not there; name: of the files, `trial_N` when empty.
        train: repeat the training first.
        data_options: for `open_data`, where the study used others than its defaults.
        tell: called with a line for each epoch.

    Raises:
        NoResultError: a format computes something else than the network.
        EnvironmentFault: a missing extra, or a folder that cannot be written.
    """
    import torch

    from attnsearch.arch import Arch
    from attnsearch.host import build

    check_formats(formats)
    name, data = name or f"trial_{row.number}", facts.get("data") or {}
    shape = tuple(data.get("image") or (3, 32, 32))
    classes = len(data.get("classes") or range(10))
    arch = Arch.from_dict(row.spec)
    network = build(arch, classes=classes, in_channels=shape[0], seed=row.seed)
    error, opened = None, None
    if train:
        opened = _open(data, data_options or {})
        error = _repeat(network, row, opened, _recipe(facts), tell)
    network.float().eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = torch.randn((BATCH, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    _make(folder)
    files, differences = {}, {}
    for kind in formats:
        file = folder / f"{name}.{kind}"
        head = _head(name, row, facts, opened, trained=train) if kind == "py" else ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own serialisation
            out = _WRITERS[kind](network, images, file, head)
        files[kind], differences[kind] = file, _difference(kind, out, expected)
    record = folder / f"{name}.json"
    package = Package(name, files, differences, record, train, error)
    record.write_text(json.dumps(_record(package, row, facts, shape), indent=2) + "\n", encoding="utf-8")
    return package


def _write_py(network: nn.Module, images: Tensor, file: Path, head: str) -> Tensor:
    """The source; what it computes with the network's weights."""
    from attnsearch.source import source

    arch: Any = network.arch
    classes = int(network.fc.out_features)  # type: ignore[union-attr, arg-type]
    _write(file, source(arch, classes=classes, in_channels=images.shape[1], head=head).encode())
    spec = importlib.util.spec_from_file_location(f"attnsearch_export_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    copy = module.Network()
    copy.load_state_dict(network.state_dict())
    return _run(copy.eval(), images)


def _write_safetensors(network: nn.Module, images: Tensor, file: Path, head: str) -> Tensor:
    """The weights; what a fresh network computes with them."""
    from safetensors.torch import load, save

    from attnsearch.host import build

    _write(file, save({key: value.contiguous() for key, value in network.state_dict().items()}))
    arch: Any = network.arch
    copy = build(arch, classes=int(network.fc.out_features), in_channels=images.shape[1])  # type: ignore[union-attr, arg-type]
    copy.load_state_dict(load(file.read_bytes()))
    return _run(copy.eval(), images)


def _write_pt2(network: nn.Module, images: Tensor, file: Path, head: str) -> Tensor:
    """A program of `torch.export` for any batch."""
    import torch

    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=({0: batch},)), file)
    return _run(torch.export.load(file).module(), images)


def _write_onnx(network: nn.Module, images: Tensor, file: Path, head: str) -> Tensor:
    """An ONNX graph for any batch; what ONNX's reference evaluator computes."""
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of every optional package that is not there
    try:
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(network, (images,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    finally:
        log.setLevel(level)
    assert program is not None
    proto = program.model_proto
    onnx.checker.check_model(proto)
    _write(file, proto.SerializeToString())
    (out,) = ReferenceEvaluator(onnx.load(file)).run(None, {proto.graph.input[0].name: images.numpy()})
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


def _difference(kind: str, out: Tensor, expected: Tensor) -> float:
    found = float((out - expected).abs().max())
    if not found <= CLOSE * max(1.0, float(expected.abs().max())):  # NaN fails too
        raise NoResultError(f"the {kind} file computes something else: its output differs by {found:.2g}")
    return found


def _open(data: Mapping[str, Any], options: Mapping[str, Any]) -> Data:
    from attnsearch.data import open_data

    opened = open_data(str(data.get("name", "cluttered-digits")), **options)
    if data.get("fingerprint") not in (None, opened.fingerprint):
        raise UsageError(
            f"the images of '{opened.name}' are not those of the study: repeat its --image-size and --on-bad-image"
        )
    return opened


def _recipe(facts: Mapping[str, Any]) -> Recipe:
    from attnsearch.trial import Recipe

    said: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in (facts.get("recipe") or {}).items()
    }
    return Recipe(**said)


def _repeat(
    network: nn.Module, row: TrialResult, data: Data, recipe: Recipe, tell: Callable[[str], None]
) -> float:
    """Train as the trial was; the validation error in percent."""
    from dataclasses import replace

    from attnsearch.train import device_data, fit
    from attnsearch.trial import Epoch

    recipe = replace(recipe, epochs=row.epochs)

    def told(epoch: Epoch) -> bool:
        tell(f"epoch {epoch.epoch} of {recipe.epochs}: validation error {epoch.val_error:.2f} %")
        return True

    device = "cuda" if row.device.startswith("cuda") else "cpu"
    history = fit(network, device_data(data, recipe, device), recipe, seed=row.seed, on_epoch=told)
    return history[-1].val_error


def _head(name: str, row: TrialResult, facts: Mapping[str, Any], data: Data | None, *, trained: bool) -> str:
    """What the file's reader has to know."""
    lines = [
        f"Written by attnsearch; needs torch alone. Arch {row.key}, seed {row.seed}.",
        "    network = Network()",
    ]
    if trained:
        lines += [
            "    from safetensors.torch import load_file",
            f'    network.load_state_dict(load_file("{name}.safetensors"))',
        ]
    lines.append("    network.eval()")
    if data is not None:
        mean, std = ([round(v, 5) for v in values] for values in (data.mean, data.std))
        lines += [
            f"Images: (x / 255 - mean) / std for x in 0..255, mean {mean}, std {std}.",
            f"Classes: {', '.join(data.classes)}.",
        ]
    return "\n".join(lines)


def _record(
    package: Package, row: TrialResult, facts: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    return {
        "trial": row.number,
        "arch": row.arch,
        "key": row.key,
        "spec": dict(row.spec),
        "seed": row.seed,
        "image": list(shape),
        "trained": package.trained,
        "validation_error_pct": {"trial": row.error, "repeated": package.error},
        "files": {kind: file.name for kind, file in package.files.items()},
        "max_abs_difference": dict(package.differences),
        "compared": f"outputs of {BATCH} random images with the network's own, eval mode, float32, CPU",
        "data": (facts.get("data") or {}).get("name"),
        "recipe": facts.get("recipe"),
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot create {folder}: {error.strerror}") from None


def _write(file: Path, content: bytes) -> None:
    from attnsearch.reports import atomic

    atomic.write(file, content)


__all__ = ["FORMATS", "Package", "check_formats", "choose", "pack"]
