"""The loss of a recipe: cross-entropy with smoothed labels and weights of the classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attnsearch.core.trial import Recipe


class Loss:
    """Cross-entropy of (N, C) logits, a mean over the batch, by labels (N,) or by shares of labels (N, C).

    With class weights the mean is weighted, as that of `torch.nn.CrossEntropyLoss`; an image of shared labels weighs
    what its labels weigh, each in its share.

    Args:
        labels: of all training images, for the sizes of the classes.
        classes: in all.
    """

    def __init__(self, recipe: Recipe, labels: Tensor, classes: int) -> None:
        self.smoothing = recipe.label_smoothing
        balanced = recipe.class_weights == "balanced"
        self.weights = balanced_weights(labels, classes) if balanced else None

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.weights is None or not target.is_floating_point():
            return F.cross_entropy(logits, target, weight=self.weights, label_smoothing=self.smoothing)
        loss = F.cross_entropy(
            logits, target, weight=self.weights, label_smoothing=self.smoothing, reduction="sum"
        )
        return loss / (target @ self.weights).sum()  # torch's own mean would not weigh shares

    def weight(self, target: Tensor) -> float:
        """What a mean over these images weighs beside others of the batch: their number, or their weights' sum."""
        if self.weights is None:
            return float(len(target))
        own = target @ self.weights if target.is_floating_point() else self.weights[target]
        return float(own.sum())


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) n / (classes x images of the class), as scikit-learn's `class_weight="balanced"`.

    A class without an image has no weight, and does not count among the classes.
    """
    sizes = torch.bincount(labels, minlength=classes).to(torch.float32)
    weights = len(labels) / ((sizes > 0).sum() * sizes)
    return torch.where(sizes > 0, weights, 0.0)


__all__ = ["Loss", "balanced_weights"]
