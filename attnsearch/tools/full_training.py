"""A winner trained to full length: a study's arch, data, recipe and weights, for as many epochs as it deserves.

OUT/STUDY/train/NAME_EPOCHS/ holds `state.safetensors` (written after each epoch, removed at the end), `curve.csv`,
`model.safetensors` (the network after the last epoch) and `result.json`. A call whose folder holds an unfinished
training goes on with it, one whose folder holds a result reads it; neither writes over anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.core.errors import DataError, EnvironmentFault, Interrupted, NoResultError, UsageError
from attnsearch.core.machine import versions
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, Recipe, TrialResult
from attnsearch.report import atomic
from attnsearch.space.arch import Arch
from attnsearch.store import database
from attnsearch.store.locks import locked
from attnsearch.study.signals import stopping
from attnsearch.study.study import data_of, weights_of
from attnsearch.study.test_split import LEDGER, Opening, Selection

if TYPE_CHECKING:
    from attnsearch.core.metrics import ClassCounts
    from attnsearch.data import Data
    from attnsearch.train.fit import Training
    from attnsearch.train.images import DeviceData

STATE, MODEL, RESULT, CURVE = "state.safetensors", "model.safetensors", "result.json", "curve.csv"


@dataclass(frozen=True)
class Plan:
    """One training to full length.

    Args:
        row: the trial whose arch and seed it has. epochs: its length.
        device: as torch names it. threads: of a CPU.
        weights: where the study's checkpoint is now, if it has moved.
    """

    row: TrialResult
    epochs: int
    device: str = "cpu"
    threads: int = 1
    weights: str | None = None

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"trial_{self.row.number}_{self.epochs}_epochs"


class Watcher:
    """Called with what happens; the base class ignores it.

    began   epochs in all, those that an earlier call trained, steps and images of an epoch
    step    a step has ended; epoch, an epoch has; note, a sentence for the user
    """

    def began(self, epochs: int, done: int, steps: int, images: int) -> None: ...
    def step(self) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def note(self, message: str) -> None: ...


def train(record: StudyRecord, plan: Plan, settings: Settings, watcher: Watcher) -> dict[str, Any]:
    """Train, go on with, or read what was trained; the contents of `result.json`.

    Args:
        settings: of the study, with its storage and folder of results.

    Raises:
        UsageError: the folder holds another training. DataError: the images have changed.
        Interrupted: a signal came; the same call goes on from the last whole epoch.
        NoResultError: the training diverged.
    """
    folder = settings.out / record.name / "train" / plan.name
    with _held(folder):
        stamp = _stamp(record, plan)
        if (stored := _stored(folder / RESULT)) is not None:
            _check_same(folder, stored["stamp"], stamp)
            watcher.note(f"{folder} holds this training's result; nothing is trained again")
            return stored
        result = _trained(record, plan, folder, stamp, watcher)
        atomic.write(folder / RESULT, json.dumps(result, indent=2) + "\n")
        (folder / STATE).unlink(missing_ok=True)
    _keep(record.name, settings, folder, result, watcher)
    return result


def evaluate_on_test(record: StudyRecord, plan: Plan, settings: Settings, watcher: Watcher) -> dict[str, Any]:
    """The result with its errors on the test images, which are read once; the opening is written down before it.

    Raises:
        DataError: there is no test split. EnvironmentFault: the study is being run.
    """
    folder = settings.out / record.name / "train" / plan.name
    result = _stored(folder / RESULT)
    assert result is not None, "trained before it is tested"
    if result["test"] is not None:
        return result
    data = data_of(record.info.data)
    if "test" not in data.counts:
        raise DataError(f"{data.name}: has no test images; its owner split it into train and val only")
    url = settings.url()
    with _held(folder), database.owned(url, record.name), database.faults(url):
        from attnsearch.store.study_store import StudyStore

        store = StudyStore.reopen(database.open_storage(url, create=False), record.name)
        key = plan.row.key
        chosen = Selection({key: Arch.from_dict(plan.row.spec)}, (plan.row.seed,), result["sha256"][:16])
        opening = Opening(store, settings.out / record.name / LEDGER, chosen, store.info.test.openings)
        opening.announce(watcher.note)
        opening.begin()
        counts = _tested(record, plan, data, folder, settings)
        result = {**result, "test": _scores(counts, record.info.recipe)}
        atomic.write(folder / RESULT, json.dumps(result, indent=2) + "\n")
        store.set_attrs(store.info.trained.with_result(str(folder), result))
    return result


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder for one process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot create {folder}: {error.strerror}") from None
    with locked(folder / ".lock", wait=False) as handle:
        if handle is None:
            raise EnvironmentFault(f"another process trains in {folder}; wait for it")
        yield


def _stamp(record: StudyRecord, plan: Plan) -> dict[str, Any]:
    """All that decides the numbers."""
    info = record.info
    recipe = replace(info.recipe, epochs=plan.epochs)
    numeric = {name: number for name, number in versions().items() if name in ("torch", "numpy", "numba")}
    return {
        "arch": plan.row.key,
        "seed": plan.row.seed,
        "recipe": recipe.to_dict(),
        "data": info.images.fingerprint,
        "weights": info.weights.sha256 if info.weights else None,
        "device": plan.device,
        "threads": plan.threads,
        "versions": numeric,
    }


def _stored(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{path} cannot be read ({error}); remove its folder to train anew") from None
    return values if isinstance(values, dict) else None


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = sorted(
        name for name in now if before.get(name) != now[name] and name not in ("versions", "threads")
    )
    if changed:
        raise UsageError(
            f"{folder} holds the result of another training: {', '.join(changed)} differ. Remove it to train anew"
        )


def _trained(
    record: StudyRecord, plan: Plan, folder: Path, stamp: dict[str, Any], watcher: Watcher
) -> dict[str, Any]:
    """Train to the end, from the last whole epoch where there is one; what `result.json` holds."""
    from safetensors.torch import save

    from attnsearch.train.fit import Diverged
    from attnsearch.train.state import load_training, save_training

    data = data_of(record.info.data)
    training = _training(record, plan, data)
    state = folder / STATE
    history = list(load_training(state, training, stamp)) if state.is_file() else []
    before = history[-1].seconds if history else 0.0  # of earlier calls
    training.after_step = watcher.step
    images = len(training.batches) * training.batches.size
    watcher.began(plan.epochs, len(history), len(training.batches), images)
    counts: ClassCounts | None = None
    try:
        with stopping():
            while training.epoch < plan.epochs:
                epoch = training.run_epoch()
                counts = epoch.counts
                history.append(replace(epoch, seconds=before + epoch.seconds, counts=None))
                save_training(state, training, history, stamp)
                watcher.epoch(history[-1])
    except Interrupted as error:
        number = error.exit_code - 128
        raise Interrupted(f"stopped; the same command goes on after epoch {len(history)}", number) from None
    except Diverged as error:
        raise NoResultError(f"the training came to nothing: {error}") from None
    counts = counts or training.validate()[1]  # stopped between the last epoch and the result
    network = {name: tensor.cpu().contiguous() for name, tensor in _final_weights(training).items()}
    atomic.write(folder / MODEL, weights := save(network))
    atomic.write(folder / CURVE, _curve(history))
    return {
        "study": record.name,
        "trial": plan.row.number,
        "arch": plan.row.arch,
        "key": plan.row.key,
        "seed": plan.row.seed,
        "epochs": plan.epochs,
        "train_images": images,
        "validation": _scores(counts, training.recipe),
        "test": None,
        "seconds": round(history[-1].seconds, 1),
        "device": _device_name(plan),
        "weights": str(folder / MODEL),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "stamp": stamp,
    }


def _training(record: StudyRecord, plan: Plan, data: Data) -> Training:
    """The trial's training, but for its length."""
    import torch

    from attnsearch.train.fit import Training

    torch.set_num_threads(plan.threads)
    recipe = replace(record.info.recipe, epochs=plan.epochs)
    model = _network(record, plan, data)
    return Training(model, _images(plan, data, recipe), recipe, seed=plan.row.seed)


def _network(record: StudyRecord, plan: Plan, data: Data) -> Any:
    """The trial's network as it starts."""
    from attnsearch.build.host_weights import start

    known = weights_of(record.info.weights, plan.weights)
    arch, channels = Arch.from_dict(plan.row.spec), data.image[0]
    return start(arch, known, classes=len(data.classes), in_channels=channels, seed=plan.row.seed)


def _images(plan: Plan, data: Data, recipe: Recipe) -> DeviceData:
    from attnsearch.train.images import device_data

    return replace(device_data(data, recipe, plan.device), half=plan.row.spec.get("images") == "half")


def _final_weights(training: Training) -> dict[str, Any]:
    """The network's tensors; averaged parameters where the recipe averages, since those are what was validated."""
    with training.averaged.applied() if training.averaged else contextlib.nullcontext():
        return {name: tensor.detach().clone() for name, tensor in training.model.state_dict().items()}


def _tested(record: StudyRecord, plan: Plan, data: Data, folder: Path, settings: Settings) -> ClassCounts:
    """The answers of the trained network on the test images."""
    import torch
    from safetensors.torch import load

    from attnsearch.data import open_test
    from attnsearch.data.batches import on_device
    from attnsearch.train.fit import evaluate, precision

    torch.set_num_threads(plan.threads)
    device, recipe = torch.device(plan.device), record.info.recipe
    model = _network(record, plan, data)
    model.load_state_dict(load((folder / MODEL).read_bytes()))
    model.to(device=device, memory_format=torch.channels_last)
    images = _images(plan, data, recipe)
    x, y = on_device(open_test(settings.data, **settings.data_options()), device)
    return evaluate(model, x, y, images, precision(recipe, device))[1]


def _scores(counts: ClassCounts, recipe: Recipe) -> dict[str, Any]:
    """Images, and the error by the recipe's metric in percent."""
    return {"n": counts.n, "metric": recipe.metric, "error": round(counts.error(recipe.metric), 4)}


def _curve(history: Sequence[Epoch]) -> str:
    lines = ["epoch,train_loss,val_loss,val_error_pct,seconds"]
    lines += [
        f"{e.epoch},{e.train_loss:.6g},{e.val_loss:.6g},{e.val_error:.6g},{e.seconds:.1f}" for e in history
    ]
    return "\n".join(lines) + "\n"


def _device_name(plan: Plan) -> str:
    import torch

    from attnsearch.core.machine import device_name
    from attnsearch.core.text import many

    name = device_name(torch.device(plan.device))
    return f"{name}, {many(plan.threads, 'thread')}" if plan.device == "cpu" else name


def _keep(name: str, settings: Settings, folder: Path, result: dict[str, Any], watcher: Watcher) -> None:
    """Write the result into the study too, unless somebody runs it now: then the file alone has it."""
    from attnsearch.store.study_store import StudyStore

    url = settings.url()
    try:
        with database.owned(url, name), database.faults(url):
            store = StudyStore.reopen(database.open_storage(url, create=False), name)
            store.set_attrs(store.info.trained.with_result(str(folder), result))
    except EnvironmentFault as error:
        watcher.note(f"the result is in {folder / RESULT} alone, not in the study: {error}")
