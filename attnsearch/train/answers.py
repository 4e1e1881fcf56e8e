"""Counting what a network answers, on the device that holds its logits."""

from __future__ import annotations

import torch
from torch import Tensor

from attnsearch.core.metrics import CONFUSION_CLASSES, TOP, ClassCounts


def among_top(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) whether an image's class is among the `TOP` with the largest logits; of equal ones the first counts.

    That is `argmax`'s rule, so that a network of equal logits is not called right everywhere.
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    ahead = (logits > own) | ((logits == own) & before)
    return ahead.sum(1) < TOP


def class_counts(labels: Tensor, answers: Tensor, classes: int, top5: int) -> ClassCounts:
    """Counts from (N,) numbers of the right classes and of those that were named."""
    if classes <= CONFUSION_CLASSES:
        confusion = torch.bincount(labels * classes + answers, minlength=classes**2)
        return ClassCounts.of(confusion.view(classes, classes).tolist(), top5)
    # Of many classes no matrix is kept, and it would not fit in memory.
    sides = (labels, labels[labels == answers], answers)
    images, hits, predicted = (tuple(torch.bincount(side, minlength=classes).tolist()) for side in sides)
    return ClassCounts(images, hits, predicted, top5)


__all__ = ["among_top", "class_counts"]
