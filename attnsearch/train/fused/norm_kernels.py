"""Loops of norms and residual additions: maps are seen as (B H, W C), so that a row is long enough for vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnsearch.train.fused.compiled import F32, compiled, inlined, load, store


@compiled
def norm(
    x: Any, weight: Any, bias: Any, running: Any, momentum: float, eps: float, relu: bool, other: Any, y: Any
) -> Any:
    """Batch norm by the batch's own statistics: y = x * scale + shift (+ other), through a ReLU or not.

    `running` (mean, variance) moves towards the batch's. Answers (4, C): mean, 1 / deviation, scale, shift.
    """
    rows, columns = x.shape
    channels = weight.size
    pivot, total, squares = np.empty(columns, F32), np.zeros(columns, F32), np.zeros(columns, F32)
    for j in range(columns):
        pivot[j] = load(x[0, j % channels])
    for i in range(rows):
        for j in range(columns):
            v = load(x[i, j]) - pivot[j]  # near the mean little cancels
            total[j] += v
            squares[j] += v * v
    count, stats = rows * (columns // channels), np.empty((4, channels), F32)
    for c in range(channels):
        first, second = 0.0, 0.0
        for j in range(c, columns, channels):
            first += total[j]
            second += squares[j]
        first, second = first / count, second / count
        variance = second - first * first
        variance = 0.0 if variance < 0.0 else variance  # max() would hide a NaN
        stats[0, c] = mean = first + pivot[c]
        stats[1, c] = inverse = 1.0 / np.sqrt(variance + eps)
        stats[2, c] = weight[c] * inverse
        stats[3, c] = bias[c] - mean * weight[c] * inverse
        running[0][c] += momentum * (mean - running[0][c])
        running[1][c] += momentum * (variance * count / (count - 1) - running[1][c])
    _scale_shift(x, stats[2], stats[3], relu, other, y)
    return stats


@compiled
def scale_shift(x: Any, scale: Any, shift: Any, relu: bool, other: Any, y: Any) -> None:
    """Y = x * scale + shift (+ other, unless None), through a ReLU or not; scale and shift (C,)."""
    _scale_shift(x, scale, shift, relu, other, y)


@inlined
def _scale_shift(x: Any, scale: Any, shift: Any, relu: bool, other: Any, y: Any) -> None:
    rows, columns = x.shape
    a, b = _repeated(scale, columns), _repeated(shift, columns)
    for i in range(rows):
        for j in range(columns):
            v = load(x[i, j]) * a[j] + b[j]
            if other is not None:
                v += load(other[i, j])
            if relu:
                v = F32(0) if v < F32(0) else v
            y[i, j] = store(v, x[i, j])


@compiled
def norm_back(g: Any, more: Any, x: Any, y: Any, stats: Any, relu: bool, d: Any, out: Any) -> Any:
    """Gradient of `norm` by x into out; answers those by weight and bias (2, C).

    d is what the ReLU let pass of g (+ more, unless None). A ReLU behind an addition is known by its output y, and d is
    kept for the other addend; behind the norm alone (y and d None) it is computed again from x, which costs less.
    """
    columns = x.shape[1]
    channels = stats.shape[1]
    wide = _repeated(stats[0], columns), _repeated(stats[2], columns), _repeated(stats[3], columns)
    total, products = np.zeros(columns, F32), np.zeros(columns, F32)
    _back_sums(g, more, x, y, wide, relu, d, total, products)
    count, parameters = x.shape[0] * (columns // channels), np.zeros((2, channels), F32)
    slope, offset = np.empty(channels, F32), np.empty(channels, F32)
    for c in range(channels):
        first, second = 0.0, 0.0
        for j in range(c, columns, channels):
            first += total[j]
            second += products[j]
        inverse = stats[1, c]
        parameters[0, c], parameters[1, c] = second * inverse, first
        slope[c] = -stats[2, c] * inverse * inverse * second / count
        offset[c] = -stats[2, c] * first / count
    b, c = _repeated(slope, columns), _repeated(offset, columns)
    if d is not None:
        _back_maps(d, None, x, wide, False, b, c, out)
    else:
        _back_maps(g, more, x, wide, relu, b, c, out)
    return parameters


@inlined
def _back_sums(
    g: Any, more: Any, x: Any, y: Any, stats: Any, relu: bool, d: Any, total: Any, products: Any
) -> None:
    """Add to each column the sums of d and of d * (x - mean); write d down unless that is None.

    `stats` are mean, scale and shift, for each column.
    """
    rows, columns = x.shape
    (mean, scale, shift), line = stats, np.empty(columns, x.dtype)
    for i in range(rows):
        for j in range(columns):
            v, place = load(g[i, j]), load(x[i, j])
            if more is not None:
                v += load(more[i, j])
            if y is not None:
                v = v if load(y[i, j]) > F32(0) else F32(0)
            elif relu:
                v = v if place * scale[j] + shift[j] > F32(0) else F32(0)
            if d is not None:
                line[j] = store(v, x[i, j])
            total[j] += v
            products[j] += v * (place - mean[j])
        if d is not None:
            for j in range(columns):
                d[i, j] = line[j]


@inlined
def _back_maps(g: Any, more: Any, x: Any, stats: Any, relu: bool, b: Any, c: Any, out: Any) -> None:
    """Out = d * scale + (x - mean) * b + c, d what the ReLU lets pass of g."""
    rows, columns = x.shape
    (mean, scale, shift), line = stats, np.empty(columns, x.dtype)
    for i in range(rows):
        for j in range(columns):
            v, place = load(g[i, j]), load(x[i, j])
            if more is not None:
                v += load(more[i, j])
            if relu:
                v = v if place * scale[j] + shift[j] > F32(0) else F32(0)
            line[j] = store(v * scale[j] + (place - mean[j]) * b[j] + c[j], x[i, j])
        for j in range(columns):
            out[i, j] = line[j]


@inlined
def _repeated(values: Any, columns: int) -> Any:
    """One number a channel, repeated for each pixel of a row."""
    wide = np.empty(columns, F32)
    for j in range(columns):
        wide[j] = values[j % values.size]
    return wide


@compiled
def add_relu(x: Any, other: Any, out: Any) -> None:
    """Out = relu(x + other)."""
    rows, columns = x.shape
    for i in range(rows):
        for j in range(columns):
            v = load(x[i, j]) + load(other[i, j])
            out[i, j] = store(F32(0) if v < F32(0) else v, x[i, j])


@compiled
def relu_back(g: Any, more: Any, y: Any, out: Any) -> None:
    """Out = g (+ more, unless None) where y is positive, else 0."""
    rows, columns = y.shape
    for i in range(rows):
        for j in range(columns):
            v = load(g[i, j])
            if more is not None:
                v += load(more[i, j])
            out[i, j] = store(v if load(y[i, j]) > F32(0) else F32(0), y[i, j])
