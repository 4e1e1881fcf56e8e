"""What a checkpoint is worth on a data set as it is, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.build.checkpoint import read_checkpoint
from attnsearch.build.host_weights import ends_of, load_host
from attnsearch.build.module_host import check_output, replaced_head
from attnsearch.build.network import build_network
from attnsearch.build.tensor_names import LoadReport
from attnsearch.core.errors import UsageError, unknown
from attnsearch.core.metrics import ClassCounts
from attnsearch.core.normalisation import CIFAR_SIDE, IMAGENET_SIDE, convention, default_for
from attnsearch.data import open_data, open_test
from attnsearch.data.batches import normalise, on_device
from attnsearch.data.dataset import SPLITS, Split
from attnsearch.space.arch import Arch, Host
from attnsearch.train.answers import among_top, class_counts
from attnsearch.train.fit import eval_batch

EVERY = (*SPLITS, "all")


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a network on a split.

    Args:
        classes: names, in the order of the class numbers. counts: what was answered.
        note: mean and standard deviation that the images were normalised with, in words.
        loaded: what became of the checkpoint. image: (C, H, W) of what the network saw.
        warnings: on the images, such as how they were resized.
    """

    split: str
    classes: tuple[str, ...]
    counts: ClassCounts
    note: str
    loaded: LoadReport
    image: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def n(self) -> int:
        """Images."""
        return self.counts.n

    @property
    def accuracy(self) -> float:
        """In percent."""
        return self.counts.scores()["accuracy"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `top5` is null where there are five classes or fewer."""
        rows = zip(self.classes, self.counts.images, self.counts.recalls(), strict=True)
        return {
            "top5": None,
            **self.counts.scores(),
            "error": 100.0 - self.accuracy,
            "n": self.n,
            "split": self.split,
            "classes": {name: {"n": size, "recall": recall} for name, size, recall in rows},
            "normalisation": self.note,
            "image": list(self.image),
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
        weights: a file, see `build.checkpoint`; empty for those that a model of the user's own comes with.
        data: as `data.open_data` takes it, with its further `options`.
        split: `train`, `val`, `test`, or `all` of them together.
        normalisation: see `core.normalisation.convention`; `auto` is ImageNet's for ImageNet stems,
            CIFAR's for a CIFAR stem with a head of its classes, else the data's.

    Raises:
        UsageError: a checkpoint that does not fit the arch or the classes. DataError: images that cannot be read.
    """
    if split not in EVERY:
        raise UsageError(unknown("split", split, EVERY))
    checkpoint = read_checkpoint(weights) if weights else None
    stem = str(arch.host.filled().stem)
    options = dict(options or {}) if arch.host.module else _sized(stem, data, options or {})
    opened = open_data(data, **options)
    channels = opened.image[0]
    ends = ends_of(checkpoint) if checkpoint else (None, None)
    word = default_for(stem, *ends) if normalisation == "auto" else normalisation
    mean, std = convention(word, channels) or (opened.mean, opened.std)
    model = build_network(arch, classes=len(opened.classes), in_channels=channels, seed=0)
    if checkpoint is None:
        loaded = _as_made(arch.host, len(opened.classes))
    else:
        loaded = load_host(model, checkpoint, arch.host, head=True)
    if arch.host.module:
        check_output(model, arch.host, opened.image, len(opened.classes))
    model.to(device).eval()
    parts = _splits(opened, data, split, options)
    counts = [_counts(model, *on_device(part, device), mean, std, len(opened.classes)) for part in parts]
    note = f"{word}: mean {_brief(mean)}, standard deviation {_brief(std)}"
    return Evaluation(split, opened.classes, reduce(add, counts), note, loaded, opened.image, opened.warnings)


def _sized(stem: str, data: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the image size that weights of this stem were made for, unless one is asked for."""
    if options.get("image_size") is not None:
        return dict(options)
    if stem != "cifar":
        return {**options, "image_size": IMAGENET_SIDE}
    large = max(open_data(data, **options).image[1:]) > CIFAR_SIDE
    return {**options, "image_size": CIFAR_SIDE} if large else dict(options)


def _as_made(host: Host, classes: int) -> LoadReport:
    """What is said of a model without a checkpoint.

    Raises:
        UsageError: a host of attnsearch's own, or a model whose head was replaced: both have nothing to evaluate.
    """
    if not host.module:
        raise UsageError(
            "evaluate takes weights: --weights FILE, or host: {name: ..., weights: FILE} in the arch file"
        )
    if replaced := replaced_head(host, classes):
        raise UsageError(f"{replaced}, untrained: there is nothing to evaluate without --weights FILE")
    return LoadReport((), (), (), (), (f"the weights are those that {host.name} makes or loads itself",))


def _splits(opened: Any, data: str, split: str, options: Mapping[str, Any]) -> list[Split]:
    names = [split] if split != "all" else [name for name in SPLITS if name in opened.counts]
    return [open_test(data, **options) if name == "test" else getattr(opened, name) for name in names]


def _counts(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: int,
) -> ClassCounts:
    answers, in_top = [], 0
    with torch.inference_mode():
        size = eval_batch(images)
        for start in range(0, len(labels), size):
            logits = model(normalise(images[start : start + size], mean, std))
            answers.append(logits.argmax(1))
            in_top += int(among_top(logits, labels[start : start + size]).sum())
    return class_counts(labels, torch.cat(answers), classes, in_top)


def _brief(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


__all__ = ["EVERY", "Evaluation", "evaluate"]
