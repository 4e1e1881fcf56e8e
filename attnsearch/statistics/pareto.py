"""Which points no other point dominates, and the volume that they dominate. Everything is minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnsearch.core.errors import UsageError

Floats = NDArray[np.float64]


def pareto(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats: as good everywhere and better somewhere.

    Args:
        points: (n, m), m objectives to minimise. A point that is not finite is never on the front;
            points that are equal are on it together.

    Returns:
        (n,) mask. n log n for two objectives, n times the front's size beyond.
    """
    values = _points(points)
    mask = np.zeros(len(values), dtype=bool)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    # By the first objective, ties by the next: what dominates comes first.
    order = finite[np.lexsort(values[finite].T[::-1])]
    if values.shape[1] == 2:
        mask[order] = _pareto_sorted_2d(values[order])
        return mask
    front = np.empty((0, values.shape[1]))
    for index in order:
        point = values[index]
        beaten = ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()
        if not beaten:
            mask[index] = True
            front = np.vstack([front, point])
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate up to `reference`; exact, in the product of the objectives' units.

    Args:
        points: (n, m) to minimise; those not below the reference everywhere add nothing.
        reference: (m,).
    """
    values, bound = _points(points), np.asarray(reference, dtype=float)
    if bound.shape != (values.shape[1],):
        raise UsageError(f"hypervolume: points have {values.shape[1]} objectives, the reference {bound.size}")
    inside = values[np.isfinite(values).all(axis=1) & (values < bound).all(axis=1)]
    return _volume(np.unique(inside[pareto(inside)], axis=0), bound) if len(inside) else 0.0


def _points(points: ArrayLike) -> Floats:
    values = np.asarray(points, dtype=float)
    if values.ndim != 2 or values.shape[1] < 1:
        raise UsageError(f"expected points of shape (n, objectives), got {values.shape}")
    return values


def _pareto_sorted_2d(values: Floats) -> NDArray[np.bool_]:
    if not len(values):
        return np.zeros(0, dtype=bool)
    before = np.concatenate([[np.inf], np.minimum.accumulate(values[:, 1])[:-1]])
    equal = np.concatenate([[False], (values[1:] == values[:-1]).all(axis=1)])
    better = values[:, 1] < before
    start = np.maximum.accumulate(np.where(equal, 0, np.arange(len(values))))
    return np.asarray(better[start])  # a copy of a point stands or falls with the first of its kind


def _volume(front: Floats, bound: Floats) -> float:
    """Slice along the last objective: each slab is a volume in one dimension less (While et al. 2006)."""
    if front.shape[1] == 1:
        return float(bound[0] - front.min())
    if front.shape[1] == 2:  # a staircase: the second objective falls as the first rises
        front = front[np.argsort(front[:, 0])]
        widths = np.diff(np.append(front[:, 0], bound[0]))
        return float((widths * (bound[1] - front[:, 1])).sum())
    front = front[np.argsort(front[:, -1], kind="stable")]
    edges = np.append(front[:, -1], bound[-1])
    total = 0.0
    for i, height in enumerate(np.diff(edges)):
        if height > 0:
            slab = front[: i + 1, :-1]
            total += float(height) * _volume(slab[pareto(slab)], bound[:-1])
    return total
