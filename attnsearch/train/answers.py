"""Counting what a network answers, on the device that holds its logits."""

from __future__ import annotations

import torch
from torch import Tensor

from attnsearch.core.metrics import TOP, ClassCounts


def among_top(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) whether an image's class is among the `TOP` with the largest logits; of equal ones the first counts.

    That is `argmax`'s rule, so that a network of equal logits is not called right everywhere.
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ahead = (logits > own) | ((logits == own) & before)
    return ahead.sum(1) < TOP


def class_counts(pairs: Tensor, classes: int, top5: int) -> ClassCounts:
    """Counts from (N,) `label * classes + answer`."""
    confusion = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    return ClassCounts.of(confusion.tolist(), top5)


__all__ = ["among_top", "class_counts"]
