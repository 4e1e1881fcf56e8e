"""What a worker does with one job: build, train, report. The same code in every engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch

from attnsearch.build.host_weights import start
from attnsearch.core.messages import DataSource, Job, Outcome, Progress, Timing
from attnsearch.core.metrics import ClassCounts
from attnsearch.core.text import many
from attnsearch.core.trial import Epoch, Recipe
from attnsearch.data import Data, open_data, open_shipped
from attnsearch.space.arch import Arch
from attnsearch.train.fit import Diverged, Stopped, Training
from attnsearch.train.images import DeviceData, device_data, with_half_of_val
from attnsearch.train.step_time import time_steps

if TYPE_CHECKING:
    from attnsearch.core.trial import State


OOM = "oom:"  # begins the reason of a training that ran out of memory
LEAST_PART = 4  # images that batch norm can still take a mean of


class Worker:
    """Keeps a data set on a device across jobs.

    Args:
        source: opened once; its images stay as uint8 on the device.
        device: `cpu`, `cuda:0`, ...
    """

    def __init__(self, source: DataSource, device: str) -> None:
        self.data: Data = (
            open_shipped(source.name, source.shipped)
            if source.shipped
            else open_data(source.name, **source.options)
        )
        self.device = torch.device(device)
        self.device_name = _described(self.device)
        self.poisoned = False  # an error of CUDA that every later job on this context would meet
        self.images = cache(self._images)

    def _images(
        self, train_images: int | None, augment: tuple[str, ...] | None, normalise: str
    ) -> DeviceData:
        recipe = Recipe(train_images=train_images, augment=augment, normalise=normalise)
        return device_data(self.data, recipe, self.device)

    def run(self, job: Job, tell: Callable[[Progress], bool]) -> Outcome:
        """Train one job; whatever goes wrong inside becomes a failed outcome with one line of reason.

        Args:
            tell: called after each epoch; its answer is whether to go on, and matters after the job's rungs.
        """
        began = time.monotonic()
        curve: list[Epoch] = []

        counts: ClassCounts | None = None
        timing: Timing | None = None

        def on_epoch(epoch: Epoch) -> bool:
            nonlocal counts
            counts = epoch.counts
            curve.append(replace(epoch, counts=None))  # of the last epoch alone they travel
            last = epoch.epoch == job.recipe.epochs
            return tell(Progress(job.number, curve[-1], waits=epoch.epoch in job.rungs and not last))

        def train(parts: int) -> None:
            nonlocal timing
            if job.timed:
                timing = time_steps(lambda: self._training(job, parts))
            else:
                self._training(job, parts).run(on_epoch)

        parts = 1
        state, reason = self._attempt(train, parts)
        while reason.startswith(OOM) and not curve:
            if job.recipe.batch_size < 2 * LEAST_PART * parts:
                smallest = -(-job.recipe.batch_size // parts)
                reason += f"; {smallest} images at a time do not fit: a smaller --image-size or host may"
                break
            parts *= 2
            state, reason = self._attempt(train, parts)
        seconds = time.monotonic() - began
        return Outcome(
            job.number,
            state,
            tuple(curve),
            reason,
            seconds,
            self.device_name,
            counts=counts,
            timing=timing,
            parts=parts,
        )

    def _training(self, job: Job, parts: int) -> Training:
        data = self.images(job.recipe.train_images, job.recipe.augment, job.recipe.normalise)
        if job.val_half is not None:
            data = with_half_of_val(data, job.val_half)
        classes, channels = len(self.data.classes), self.data.image[0]
        arch = Arch.from_dict(job.spec)
        data = replace(data, half=arch.images == "half")
        model = start(arch, job.weights, classes=classes, in_channels=channels, seed=job.seed)
        return Training(model, data, job.recipe, seed=job.seed, parts=parts)

    def _attempt(self, train: Callable[[int], None], parts: int) -> tuple[State, str]:
        try:
            train(parts)
        except Stopped:
            return "stopped", "stopped at a rung"  # why is known to whoever said so
        except Diverged as error:
            return "failed", str(error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            return "failed", f"{OOM} {first_line(error)}"
        except RuntimeError as error:
            self.poisoned = self.device.type == "cuda" and "CUDA error" in str(error)
            memory = "can't allocate memory" in str(error) or "not enough memory" in str(error)
            return "failed", f"{OOM if memory else 'RuntimeError:'} {first_line(error)}"
        except Exception as error:  # a faulty block must not take the worker and its data down with it
            return "failed", f"{type(error).__name__}: {first_line(error)}"
        finally:
            if self.device.type == "cuda" and not self.poisoned:
                torch.cuda.empty_cache()
        return "complete", ""


def _described(device: torch.device) -> str:
    """`cuda: NVIDIA H200`, or `cpu, 1 thread`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"cpu, {many(threads, 'thread')}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
