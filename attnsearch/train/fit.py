"""Train one network by a recipe and a seed: everything that decides the numbers is in the arguments.

Generators of their own, each keyed by the seed and a word, keep variants paired: initialisation (in `host.build`, by
layer name), the order of the images, augmentation and, where the recipe says so, the split. What a network draws for
itself (drop-out) comes from torch's own generator, seeded here as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.core.errors import AttnsearchError
from attnsearch.core.metrics import ClassCounts
from attnsearch.core.seeds import derive
from attnsearch.core.trial import Epoch, Recipe
from attnsearch.data.batches import normalise
from attnsearch.train import finetune, fused
from attnsearch.train.answers import among_top, class_counts
from attnsearch.train.augment import augment, mix
from attnsearch.train.images import DeviceData, Images, resplit, with_half_of_train
from attnsearch.train.loss import Loss
from attnsearch.train.precision import best

if TYPE_CHECKING:
    from torch.optim import Optimizer

EVAL_BATCH = 500  # images, at most: large enough to fill a core
EVAL_PIXELS = (
    EVAL_BATCH * 64 * 64
)  # of a batch, at most: photos of 224 pixels in so large a batch take gigabytes


class Diverged(AttnsearchError):
    """Loss or validation left the finite numbers; the epoch is named."""


class Stopped(Exception):
    """`on_epoch` answered that this trial need not go on."""


OnEpoch = Callable[[Epoch], bool]  # True: go on


def fit(
    model: nn.Module, data: DeviceData, recipe: Recipe, *, seed: int, on_epoch: OnEpoch = lambda epoch: True
) -> tuple[Epoch, ...]:
    """Train in place on the device that holds the data; one `Epoch` for each pass, the last one is the result.

    Raises:
        Diverged: a loss is NaN or infinite.
        Stopped: `on_epoch` returned False.
    """
    return Training(model, data, recipe, seed=seed).run(on_epoch)


class Training:
    """One training, epoch by epoch: the network with its optimizer, schedule and generators.

    Args:
        model: trained in place, on the device that holds the data.
        parts: in which a batch goes through the network one after the other, gradients added up; batch norm then sees
            the images of a part.
    """

    def __init__(
        self, model: nn.Module, data: DeviceData, recipe: Recipe, *, seed: int, parts: int = 1
    ) -> None:
        self.model, self.recipe, self.parts = model, recipe, parts
        data = resplit(data, seed) if recipe.resplit else data
        self.data = with_half_of_train(data) if data.half else data
        device = data.train_images.device
        self.dtype = precision(recipe, device)
        torch.manual_seed(derive(seed, "network"))
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        finetune.freeze(model, recipe)
        self.optimizer = make_optimizer(model, recipe)
        self.batches = _Batches(self.data, recipe, seed, self.dtype)
        self.schedule = _one_cycle(recipe, steps=recipe.epochs * len(self.batches))
        self.averaged = _Averaged(model, recipe.ema) if recipe.ema else None
        self.loss = Loss(recipe, self.data.train_labels, self.data.classes)
        self.epoch = 0  # epochs that have ended
        self.after_step: Callable[[], None] = lambda: None  # for whoever watches
        self.began = time.monotonic()

    def skip(self, epochs: int) -> None:
        """Stand behind so many epochs; weights, moments and generators are for the caller to put there."""
        self.epoch += epochs
        for _ in range(epochs * len(self.batches)):
            next(self.schedule)

    def run(self, on_epoch: OnEpoch) -> tuple[Epoch, ...]:
        """The epochs that are left; raises as `fit`."""
        history: list[Epoch] = []
        while self.epoch < self.recipe.epochs:
            history.append(self.run_epoch())
            if not on_epoch(history[-1]):
                raise Stopped
        return tuple(history)

    def run_epoch(self) -> Epoch:
        """Train for an epoch, then validate.

        Raises:
            Diverged: a loss is NaN or infinite.
        """
        loss = self.train_epoch()
        val_loss, counts = self.validate()
        self.epoch += 1
        if not (math.isfinite(loss) and math.isfinite(val_loss)):
            raise Diverged(
                f"diverged in epoch {self.epoch}: training loss {loss:g}, validation loss {val_loss:g}"
            )
        seconds = time.monotonic() - self.began
        return Epoch(self.epoch, loss, val_loss, counts.error(self.recipe.metric), seconds, counts)

    def train_epoch(self) -> float:
        """Every step of an epoch; the mean loss of its batches."""
        finetune.train_mode(self.model, self.recipe)
        total = torch.zeros(
            (), device=self.batches.device
        )  # read once per epoch: no step waits for the device
        for x, y in self.batches:
            total += self.step(x, y)
            self.after_step()
        return float(total) / len(self.batches)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One step of the optimizer on a batch; its loss."""
        lr = next(self.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=x.device)
        for part_x, part_y in zip(x.chunk(self.parts), y.chunk(self.parts), strict=True):
            with _autocast(x.device, self.dtype), _fused(x.device):
                logits = self.model(part_x)
            loss = self.loss(logits.float(), part_y)
            if self.parts > 1:
                loss = loss * (self.loss.weight(part_y) / self.loss.weight(y))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.optimizer.step()
        if self.averaged:
            self.averaged.update()
        return total

    def validate(self) -> tuple[float, ClassCounts]:
        """Loss in nats and answers on the validation images, by the averaged weights if there are any."""
        with self.averaged.applied() if self.averaged else nullcontext():
            return evaluate(
                self.model, self.data.val_images, self.data.val_labels, self.data, self.dtype, self.parts
            )


def evaluate(
    model: nn.Module, images: Images, labels: Tensor, data: DeviceData, dtype: torch.dtype, parts: int = 1
) -> tuple[float, ClassCounts]:
    """Mean cross-entropy in nats over all images, and what was answered; `parts` makes smaller batches."""
    model.eval()
    wide = torch.float32 if images.device.type == "mps" else torch.float64  # which Apple's GPUs do not have
    loss = torch.zeros((), dtype=wide, device=images.device)
    answers: list[Tensor] = []
    in_top = torch.zeros((), dtype=torch.int64, device=images.device)
    with torch.inference_mode():
        size = max(1, eval_batch(images) // parts)
        for start in range(0, len(images), size):
            x = normalise(images[start : start + size], data.mean, data.std, dtype)
            y = labels[start : start + size]
            with _autocast(images.device, dtype), _fused(images.device):
                logits = model(x).float()
            loss += F.cross_entropy(logits, y, reduction="sum")
            answers.append(logits.argmax(1))
            in_top += among_top(logits, y).sum()
    counts = class_counts(labels, torch.cat(answers), logits.shape[1], int(in_top))
    return float(loss) / len(images), counts


def eval_batch(images: Images) -> int:
    """How many images (N, C, H, W) are evaluated at once."""
    return max(1, min(EVAL_BATCH, EVAL_PIXELS // (images.shape[2] * images.shape[3])))


def precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The dtype of the arithmetic: the recipe's, or what was measured to be faster on this device."""
    if recipe.precision != "auto":
        return torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    return best(device)


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """SGD with Nesterov momentum, or AdamW; weight decay on matrices and kernels only."""
    groups = finetune.parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, foreach=True)
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, foreach=True
    )


class _Batches:
    """Shuffled, augmented, normalised batches; each pass goes on with the generators of the last."""

    def __init__(self, data: DeviceData, recipe: Recipe, seed: int, dtype: torch.dtype) -> None:
        self.data, self.dtype, self.device = data, dtype, data.train_images.device
        self.size = min(recipe.batch_size, len(data.train_labels))
        self.classes = data.classes  # asked once: it waits for the device
        # On the CPU whatever the device, so that every device sees the same images in the same order.
        self.order = torch.Generator().manual_seed(derive(seed, "order"))
        self.noise = torch.Generator().manual_seed(derive(seed, "augment"))

    def __len__(self) -> int:
        return len(self.data.train_labels) // self.size

    def generators(self) -> dict[str, torch.Generator]:
        """All that is drawn for a batch comes from these."""
        return {"order": self.order, "augment": self.noise}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data = self.data
        order = torch.randperm(len(data.train_labels), generator=self.order).to(self.device)
        for i in range(len(self)):
            index = order[i * self.size : (i + 1) * self.size]
            images = augment(data.train_images[index], data.augment, self.noise)
            images, target = mix(images, data.train_labels[index], data.augment, self.noise, self.classes)
            yield normalise(images, data.mean, data.std, self.dtype), target


class _Averaged:
    """Exponential moving average of the parameters, swapped in for validation."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.live: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.live]
        self.decay = decay

    def update(self) -> None:
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """In place: a parameter keeps its address, which a captured step would hold on to."""
        held = [p.clone() for p in self.live]
        torch._foreach_copy_(self.live, self.mean)
        torch._foreach_copy_(self.mean, held)


def _one_cycle(recipe: Recipe, steps: int) -> Iterator[float]:
    """Learning rate of each step: linear to the peak, then half a cosine to 0 (Smith and Topin 2017)."""
    climb = max(1, round(recipe.warmup * steps))
    for step in range(steps):
        if step < climb:
            yield recipe.lr * (step + 1) / climb
        else:
            yield recipe.lr * 0.5 * (1 + math.cos(math.pi * (step + 1 - climb) / (steps - climb + 1)))


def _autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=True
    )


def _fused(device: torch.device) -> AbstractContextManager[object]:
    """The compiled kernels, which know one thread of a CPU."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return fused.kernels() if alone and fused.available() else nullcontext()
