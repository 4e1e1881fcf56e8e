"""Metrics of a classification, each worked out from counts of one evaluation. Plain values, no torch.

The definitions are scikit-learn's: `accuracy_score`, `balanced_accuracy_score`, `f1_score(average="macro",
zero_division=0)` and `top_k_accuracy_score(k=5)`, in percent. What a study minimises is 100 less the score; of accuracy
that is the error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from attnsearch.core.errors import UsageError, unknown

CONFUSION_CLASSES = (
    50  # up to so many a trial keeps its confusion matrix, 2,500 numbers; beyond, its margins alone
)
TOP = 5


@dataclass(frozen=True)
class ClassCounts:
    """What a network answered on a set of images, by class.

    Args:
        images: of each class. hits: those of them that were recognised. predicted: answers that named the class.
        top5: images whose class was among the five with the largest logits; None with five classes or fewer.
        confusion: `confusion[i][j]` images of class i were taken for class j; None above `CONFUSION_CLASSES` classes.
    """

    images: tuple[int, ...]
    hits: tuple[int, ...]
    predicted: tuple[int, ...]
    top5: int | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of(cls, confusion: Sequence[Sequence[int]], top5: int | None = None) -> ClassCounts:
        """From a whole confusion matrix."""
        rows = tuple(tuple(row) for row in confusion)
        return cls(
            images=tuple(map(sum, rows)),
            hits=tuple(row[i] for i, row in enumerate(rows)),
            predicted=tuple(map(sum, zip(*rows, strict=True))),
            top5=top5 if len(rows) > TOP else None,
            confusion=rows if len(rows) <= CONFUSION_CLASSES else None,
        )

    @classmethod
    def from_json(cls, text: str) -> ClassCounts:
        """From `to_json`."""
        values = json.loads(text)
        if "confusion" in values:
            return cls.of(values["confusion"], values.get("top5"))
        images, hits, predicted = (tuple(values[name]) for name in ("images", "hits", "predicted"))
        return cls(images, hits, predicted, values.get("top5"))

    def to_json(self) -> str:
        """The confusion matrix where it is kept, else its margins and diagonal."""
        sides = {"images": self.images, "hits": self.hits, "predicted": self.predicted}
        values = sides if self.confusion is None else {"confusion": self.confusion}
        return json.dumps({**values, **({} if self.top5 is None else {"top5": self.top5})})

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Counts of both evaluations together."""
        if self.confusion and other.confusion:
            pairs = zip(self.confusion, other.confusion, strict=True)
            whole = [_added(a, b) for a, b in pairs]
            return ClassCounts.of(whole, _top5(self, other))
        return ClassCounts(
            _added(self.images, other.images),
            _added(self.hits, other.hits),
            _added(self.predicted, other.predicted),
            _top5(self, other),
        )

    @property
    def n(self) -> int:
        """Images."""
        return sum(self.images)

    def recalls(self) -> list[float | None]:
        """In percent, one for each class; None where a class has no image."""
        pairs = zip(self.hits, self.images, strict=True)
        return [100.0 * hits / images if images else None for hits, images in pairs]

    def worst_class(self) -> int:
        """Number of the class with the lowest recall, the first of several."""
        known = [(recall, number) for number, recall in enumerate(self.recalls()) if recall is not None]
        return min(known)[1]

    def worst_recall(self) -> float:
        """The lowest recall of a class that has images, in percent."""
        return min(recall for recall in self.recalls() if recall is not None)

    def error(self, metric: str) -> float:
        """100 less the metric's score, in percent.

        Raises:
            UsageError: the metric means nothing with so few classes.
        """
        if metric == "error":  # in one division: studies of before have this number to the last bit
            return 100.0 * (self.n - sum(self.hits)) / self.n
        check_classes(metric, len(self.images))
        return 100.0 - (METRICS[metric].score(self) or 0.0)

    def scores(self) -> dict[str, float]:
        """Every metric that these counts have, by its name (`accuracy` for the error), and `worst_recall`."""
        scores = {metric.column: metric.score(self) for metric in METRICS.values()}
        known = {name: score for name, score in scores.items() if score is not None}
        return {**known, "worst_recall": self.worst_recall()}

    def sampling_variance(self, metric: str) -> float | None:
        """Variance of the metric over other images drawn like these, in points squared.

        Binomial, for the balanced accuracy within each class; None for the macro-F1, a ratio of random sums.
        """
        if metric == "macro_f1":
            return None
        if metric != "balanced_accuracy":
            return binomial_variance(self.error(metric), self.n)
        known = [
            (recall, count)
            for recall, count in zip(self.recalls(), self.images, strict=True)
            if recall is not None
        ]
        return sum(binomial_variance(recall, count) for recall, count in known) / len(known) ** 2


@dataclass(frozen=True)
class Metric:
    """What a study can minimise.

    Args:
        name: in flags, files and columns. title: of the score; error: of 100 less the score.
        column: the score's name in columns and JSON.
        meaning: of the error, in a sentence. score: in percent; None where there are too few classes.
        guesses: classes that one answer may name.
    """

    name: str
    title: str
    error: str
    column: str
    meaning: str
    score: Callable[[ClassCounts], float | None]
    guesses: int = 1

    @property
    def points(self) -> str:
        """Differences of the score, in words; of accuracy nobody needs to be told."""
        return "percentage points" if self.name == "error" else f"percentage points of {self.title}"

    @property
    def error_column(self) -> str:
        """Name of a column with the error: `error_pct`, `macro_f1_error_pct`."""
        return "error_pct" if self.name == "error" else f"{self.name}_error_pct"

    def say(self, text: str) -> str:
        """A sentence with `{error}` and `{score}` in it, of this metric."""
        return text.format(error=self.error, score=self.title)

    def guessing(self, classes: int) -> float:
        """The error of guessing evenly among the classes, in percent."""
        return 100.0 - 100.0 * min(1.0, self.guesses / classes) if classes > 1 else math.inf


def _accuracy(counts: ClassCounts) -> float:
    return 100.0 * sum(counts.hits) / counts.n


def _balanced_accuracy(counts: ClassCounts) -> float:
    """Mean recall of the classes that have images."""
    return fmean(recall for recall in counts.recalls() if recall is not None)


def _macro_f1(counts: ClassCounts) -> float:
    """Mean over the classes that have images or answers; 2 hits / (images + answers), the harmonic mean."""
    rows = zip(counts.hits, counts.images, counts.predicted, strict=True)
    return 100.0 * fmean(2 * hits / (images + named) for hits, images, named in rows if images + named)


def _top5_accuracy(counts: ClassCounts) -> float | None:
    return None if counts.top5 is None else 100.0 * counts.top5 / counts.n


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "error",
            "accuracy",
            "error",
            "accuracy",
            "share of validation images misclassified after the last epoch, in percent; never of the test set",
            _accuracy,
        ),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            "balanced-accuracy error",
            "balanced_accuracy",
            "100 % less the balanced accuracy of the validation images after the last epoch: the mean over the classes "
            "of the share of their images that were missed",
            _balanced_accuracy,
        ),
        Metric(
            "macro_f1",
            "macro-F1",
            "macro-F1 error",
            "macro_f1",
            "100 % less the macro-F1 of the validation images after the last epoch: the mean over the classes of "
            "F1, the harmonic mean of precision and recall",
            _macro_f1,
        ),
        Metric(
            "top5",
            "top-5 accuracy",
            "top-5 error",
            "top5",
            "share of validation images, in percent, whose class was not among the five likeliest after the last epoch",
            _top5_accuracy,
            guesses=TOP,
        ),
    )
}


def check_metric(name: str) -> str:
    """The name itself, if there is such a metric; else `UsageError` with the nearest."""
    if name == "accuracy":
        raise UsageError("Accuracy is minimised as its error: write the metric as 'error'")
    if name not in METRICS:
        raise UsageError(unknown("metric", name, METRICS))
    return name


def check_classes(metric: str, classes: int) -> None:
    """Refuse a metric that says nothing with so few classes."""
    if METRICS[metric].guesses >= classes and classes > 1:
        raise UsageError(
            f"metric {metric} needs more than {METRICS[metric].guesses} classes, the data has {classes}: "
            "every answer would be right"
        )


def binomial_variance(percent: float, images: int) -> float:
    """Variance of a share of so many images, given and returned in percent and points squared."""
    share = percent / 100
    return 100**2 * share * (1 - share) / images


def _added(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _top5(a: ClassCounts, b: ClassCounts) -> int | None:
    return None if a.top5 is None or b.top5 is None else a.top5 + b.top5


__all__ = ["METRICS", "ClassCounts", "Metric", "binomial_variance", "check_classes", "check_metric"]
