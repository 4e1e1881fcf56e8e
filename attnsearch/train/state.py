"""A training between two epochs as one file of tensors: gone on with, it ends in the same bits as without the break.

The file is safetensors: weights, buffers, the optimizer's moments, averaged weights and the state of every generator;
its metadata are the epochs so far and a stamp of all that decides the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from attnsearch.core.errors import DataError, UsageError
from attnsearch.core.trial import Epoch
from attnsearch.report import atomic
from attnsearch.train.fit import Training

Stamp = Mapping[str, Any]


def save_training(path: Path, training: Training, history: Sequence[Epoch], stamp: Stamp) -> None:
    """Write a training that stands between two epochs; the file is whole or the old one.

    Args:
        stamp: JSON values that a training which goes on must have too.
    """
    tensors = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()}
    for index, moments in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    if training.averaged:
        tensors |= {f"average.{i}": tensor for i, tensor in enumerate(training.averaged.mean)}
    tensors |= {f"generator.{name}": state for name, state in _generators(training).items()}
    lines = [asdict(replace(epoch, counts=None)) for epoch in history]
    metadata = {"stamp": json.dumps(stamp, sort_keys=True), "history": json.dumps(lines)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic.write(path, save(contiguous, metadata))


def load_training(path: Path, training: Training, stamp: Stamp) -> tuple[Epoch, ...]:
    """Put a new training where the saved one stood; the epochs that it has behind it.

    Raises:
        UsageError: the file is of a training with another stamp. DataError: it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        before, lines = json.loads(metadata["stamp"]), json.loads(metadata["history"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no state of a training can be read from it ({error})") from None
    _check_stamp(path, before, json.loads(json.dumps(stamp)))
    _restore(training, tensors)
    training.skip(len(lines))
    return tuple(Epoch(**line) for line in lines)


def _check_stamp(path: Path, before: Stamp, now: Stamp) -> None:
    """Refuse to go on with something else, and name what differs."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        raise UsageError(
            f"{path} is of another training: {', '.join(sorted(changed))} differ. Remove its folder to train anew"
        )


def _restore(training: Training, tensors: Mapping[str, Tensor]) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    training.model.load_state_dict(parts["model"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts.get("optimizer", {}).items():
        index, _, moment = name.partition(".")
        moments.setdefault(int(index), {})[moment] = tensor
    groups = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    _lay_out(training)
    if training.averaged:
        for i, mean in enumerate(training.averaged.mean):
            mean.copy_(parts["average"][str(i)])
    _set_generators(training, parts["generator"])


def _lay_out(training: Training) -> None:
    """Moments in the memory order of their parameters, in which the optimizer made them: it reads both in step."""
    for parameter, moments in training.optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)


def _generators(training: Training) -> dict[str, Tensor]:
    """The state of each generator by name; torch's own is what drop-out draws from."""
    device = training.batches.device
    states = {name: generator.get_state() for name, generator in training.batches.generators().items()}
    states["torch"] = torch.get_rng_state()
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(training: Training, states: Mapping[str, Tensor]) -> None:
    for name, generator in training.batches.generators().items():
        generator.set_state(states[name])
    torch.set_rng_state(states["torch"])
    if training.batches.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], training.batches.device)


__all__ = ["load_training", "save_training"]
