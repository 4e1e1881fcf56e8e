"""A few steps of a training, timed on the device where it will run: what the whole of it takes follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from statistics import median

import torch
from torch import Tensor

from attnsearch.core.machine import peak_memory
from attnsearch.core.messages import Timing
from attnsearch.train import finetune
from attnsearch.train.fit import Training, eval_batch, evaluate

WARM_UP = 2  # steps: the first loads kernels and allocates memory
LEAST, MOST = 3, 20  # timed steps
ENOUGH = 1.0  # seconds of timed steps after which there are no more than `LEAST`
LONG = 2.0  # seconds of a step that is timed but once


def time_steps(make: Callable[[], Training]) -> Timing:
    """Make a training and time its parts: the making, steps of the optimizer, and a batch of validation."""
    began = time.perf_counter()
    training = make()
    start = time.perf_counter() - began
    training.schedule = repeat(0.0)  # the network stays as it is, and the steps take as long
    finetune.train_mode(training.model, training.recipe)
    batches = chain.from_iterable(repeat(training.batches))
    timed = _timed_steps(training, batches)
    device = training.data.train_images.device
    return Timing(
        start=start,
        step=median(timed),
        steps=len(training.batches),
        timed=len(timed),
        validation=_validation(training),
        memory=peak_memory(),
        device_memory=torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0,
    )


def _timed_steps(training: Training, batches: Iterator[tuple[Tensor, Tensor]]) -> list[float]:
    """Seconds of each step after the first ones; the batch is made in that time too."""
    warm = _step(training, batches)
    for _ in range(WARM_UP - 1 if warm < LONG else 0):
        _step(training, batches)
    timed: list[float] = []
    while not timed or (max(timed) < LONG and len(timed) < (LEAST if sum(timed) > ENOUGH else MOST)):
        timed.append(_step(training, batches))
    return timed


def _step(training: Training, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    began = time.perf_counter()
    float(training.step(*next(batches)))  # reading it waits for the device
    return time.perf_counter() - began


def _validation(training: Training) -> float:
    """Seconds of a pass over the validation images, by that of one batch; a first one warms up unless it is slow."""
    data, count = training.data, len(training.data.val_images)
    part, seconds = min(count, eval_batch(data.val_images)), 0.0
    for _ in range(2):
        if seconds > LONG:
            break
        began = time.perf_counter()
        evaluate(training.model, data.val_images[:part], data.val_labels[:part], data, training.dtype)
        seconds = time.perf_counter() - began
    return seconds * count / part


__all__ = ["time_steps"]
