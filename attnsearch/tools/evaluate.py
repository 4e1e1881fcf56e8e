"""What a checkpoint is worth on a data set as it is, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnsearch.build.checkpoint import read_checkpoint
from attnsearch.build.pretrained import load_host
from attnsearch.build.resnet import build
from attnsearch.build.weights import LoadReport
from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.normalisation import convention, default_for
from attnsearch.data import open_data, open_test
from attnsearch.data.batches import normalise, on_device
from attnsearch.data.dataset import SPLITS, Split
from attnsearch.space.arch import Arch

BATCH = 250
EVERY = (*SPLITS, "all")


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a network on a split: `confusion[i, j]` images of class i were taken for class j.

    Args:
        classes: names, in the order of the class numbers.
        note: mean and standard deviation that the images were normalised with, in words.
        loaded: what became of the checkpoint.
    """

    split: str
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    note: str
    loaded: LoadReport

    @property
    def n(self) -> int:
        """Images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100.0 * float(np.trace(self.confusion)) / self.n

    def recalls(self) -> list[float | None]:
        """In percent, one for each class; None where a class has no image in the split."""
        sizes = self.confusion.sum(axis=1)
        hits = np.diag(self.confusion)
        return [
            100.0 * float(hit) / int(size) if size else None for hit, size in zip(hits, sizes, strict=True)
        ]

    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images, in percent."""
        return float(np.mean([recall for recall in self.recalls() if recall is not None]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sizes = self.confusion.sum(axis=1).tolist()
        rows = zip(self.classes, sizes, self.recalls(), strict=True)
        return {
            "accuracy": self.accuracy,
            "error": 100.0 - self.accuracy,
            "balanced_accuracy": self.balanced_accuracy(),
            "n": self.n,
            "split": self.split,
            "classes": {name: {"n": size, "recall": recall} for name, size, recall in rows},
            "normalisation": self.note,
            "tensors_loaded": len(self.loaded.loaded),
            "notes": list(self.loaded.notes),
        }


def evaluate(
    arch: Arch,
    weights: str,
    data: str,
    *,
    split: str = "test",
    normalisation: str = "auto",
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run a network with a checkpoint's weights over a split, in float32 and eval mode.

    Args:
        arch: with its blocks, if the checkpoint has them; blocks that it does not have must start as the identity.
        weights: a file, see `build.checkpoint`.
        data: as `data.open_data` takes it, with its further `options`.
        split: `train`, `val`, `test`, or `all` of them together.
        normalisation: see `core.normalisation.convention`; `auto` is ImageNet's for ImageNet stems, else the data's.

    Raises:
        UsageError: a checkpoint that does not fit the arch or the classes. DataError: images that cannot be read.
    """
    if split not in EVERY:
        raise UsageError(unknown("split", split, EVERY))
    checkpoint = read_checkpoint(weights)
    opened = open_data(data, **(options or {}))
    channels = opened.image[0]
    word = default_for(str(arch.host.filled().stem)) if normalisation == "auto" else normalisation
    mean, std = convention(word, channels) or (opened.mean, opened.std)
    model = build(arch, classes=len(opened.classes), in_channels=channels, seed=0)
    loaded = load_host(model, checkpoint, head=True)
    model.to(device).eval()
    confusion = np.zeros((len(opened.classes),) * 2, np.int64)
    for part in _splits(opened, data, split, options or {}):
        confusion += _confusion(model, *on_device(part, device), mean, std, len(opened.classes))
    note = f"{word}: mean {_brief(mean)}, standard deviation {_brief(std)}"
    return Evaluation(split, opened.classes, confusion, note, loaded)


def _splits(opened: Any, data: str, split: str, options: Mapping[str, Any]) -> list[Split]:
    names = [split] if split != "all" else [name for name in SPLITS if name in opened.counts]
    return [open_test(data, **options) if name == "test" else getattr(opened, name) for name in names]


def _confusion(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: int,
) -> NDArray[np.int64]:
    counts = torch.zeros(classes * classes, dtype=torch.int64)
    with torch.inference_mode():
        for start in range(0, len(labels), BATCH):
            logits = model(normalise(images[start : start + BATCH], mean, std))
            pairs = labels[start : start + BATCH] * classes + logits.argmax(1)
            counts += torch.bincount(pairs.cpu(), minlength=classes * classes)
    return counts.view(classes, classes).numpy()


def _brief(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


__all__ = ["EVERY", "Evaluation", "evaluate"]
