"""Expected hypervolume improvement where the second objective is known: a sum over the steps of the front.

Both objectives are minimised. With the front sorted by cost, a value y at cost c adds, over each stretch of
cost beyond c on which the front stands at height f, the stretch's width times max(f - y, 0). With cost known
only y is random, so the expectation is the width times the expected improvement, exactly.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import ndtr

from attnsearch.sample.domain import Floats
from attnsearch.statistics.pareto import pareto


def expected_improvement(level: float, mean: Floats, sd: Floats) -> Floats:
    """E max(level - Y, 0) for Y ~ N(mean, sd)."""
    u = (level - mean) / sd
    gain: Floats = sd * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    return gain


def ehvi(
    mean: Floats, sd: Floats, cost: Floats, points: tuple[Floats, Floats], reference: tuple[float, ...]
) -> Floats:
    """Expected hypervolume improvement of candidates over the front of `points` (y, cost), (m,).

    Costs are known: (m,) and (n,), or (m, k) and (n, k) for k of them. The points' costs cut cost space into
    cells within which the front stands at one height; there the expectation is as in one dimension.
    """
    cost, at = cost.reshape(len(mean), -1), points[1].reshape(len(points[0]), -1)
    inside = (points[0] < reference[0]) & (at < reference[1:]).all(axis=1)
    y, at = points[0][inside], at[inside]
    best = pareto(np.column_stack([y, at]))
    y, at = y[best], at[best]
    edges = [np.unique(column) for column in at.T] if len(at) else [np.empty(0)] * cost.shape[1]
    cells = [
        zip(np.r_[-np.inf, e], np.r_[e, end], strict=True)
        for e, end in zip(edges, reference[1:], strict=True)
    ]
    total = np.zeros(len(mean))
    for cell in itertools.product(*cells):
        start, end = np.array(cell).T
        size = np.maximum(end - np.maximum(start, cost), 0.0).prod(axis=1)
        beyond = size > 0
        if beyond.any():
            level = min(y[(at <= start).all(axis=1)], default=reference[0])
            total[beyond] += size[beyond] * expected_improvement(level, mean[beyond], sd[beyond])
    return total
