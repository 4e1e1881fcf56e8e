"""Expected hypervolume improvement where the second objective is known: a sum over the steps of the front.

Both objectives are minimised. With the front sorted by cost, a value y at cost c adds, over each stretch of
cost beyond c on which the front stands at height f, the stretch's width times max(f - y, 0). With cost known
only y is random, so the expectation is the width times the expected improvement, exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from attnsearch.samplers.domain import Floats


def front(y: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """Non-dominated (y, cost), sorted by cost; y falls strictly."""
    order = np.lexsort((y, cost))
    y, cost = y[order], cost[order]
    best = np.minimum.accumulate(y)
    keep = np.r_[True, y[1:] < best[:-1]]
    return y[keep], cost[keep]


def hypervolume(y: Floats, cost: Floats, reference: tuple[float, float]) -> float:
    """Area dominated by the points and bounded by the reference (y, cost)."""
    inside = (y < reference[0]) & (cost < reference[1])
    if not inside.any():
        return 0.0
    y, cost = front(y[inside], cost[inside])
    return float(((reference[0] - y) * np.diff(np.r_[cost, reference[1]])).sum())


def expected_improvement(level: Floats, mean: Floats, sd: Floats) -> Floats:
    """E max(level - Y, 0) for Y ~ N(mean, sd)."""
    u = (level - mean) / sd
    gain: Floats = sd * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    return gain


def ehvi(
    mean: Floats, sd: Floats, cost: Floats, points: tuple[Floats, Floats], reference: tuple[float, float]
) -> Floats:
    """Expected hypervolume improvement of candidates (m,) over the front `points` (y, cost)."""
    inside = (points[0] < reference[0]) & (points[1] < reference[1])
    if inside.any():
        y, at = front(points[0][inside], points[1][inside])
    else:
        y, at = np.empty(0), np.empty(0)
    total = np.zeros(len(mean))
    for level, start, end in zip(
        np.r_[reference[0], y], np.r_[-np.inf, at], np.r_[at, reference[1]], strict=True
    ):
        width = end - np.maximum(start, cost)
        beyond = width > 0
        if beyond.any():
            total[beyond] += width[beyond] * expected_improvement(level, mean[beyond], sd[beyond])
    return total
