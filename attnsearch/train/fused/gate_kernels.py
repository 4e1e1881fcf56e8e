"""Loops of gates over maps (B, H, W, C): pools over places and channels, products with both kinds of weights.

Weights are (by_channel (B, C), by_place (B, H, W)), float32. A map's element is multiplied by
k0 + k1 (c + p) + k2 c p of its channel's and its place's weight; `form` is (k0, k1, k2): (0, 0, 1) is their product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attnsearch.train.fused.compiled import F32, compiled, inlined, load, store


@compiled
def place_pools(x: Any, mean: Any, largest: Any, ties: Any) -> None:
    """Mean and maximum over the places of each channel, and how many reach it: x (B, H, W, C) -> each (B, C)."""
    images, height, width, channels = x.shape
    total, most, count = np.empty((3, width * channels), F32)
    for i in range(images):
        total[:], most[:], count[:] = F32(0), F32(-np.inf), F32(0)
        for h in range(height):
            row = x[i, h].reshape(width * channels)
            for j in range(width * channels):
                v = load(row[j])
                total[j] += v
                top, more = most[j], count[j] + F32(1)
                more = more if v == top else count[j]
                count[j] = F32(1) if v > top else more
                most[j] = v if v > top or v != v else top
        mean[i, :], largest[i, :], ties[i, :] = F32(0), F32(-np.inf), F32(0)
        for w in range(width):
            for c in range(channels):
                v = most[w * channels + c]
                mean[i, c] += total[w * channels + c]
                largest[i, c] = v if v > largest[i, c] or v != v else largest[i, c]
        for w in range(width):
            for c in range(channels):
                reaches = most[w * channels + c] == largest[i, c]
                ties[i, c] += count[w * channels + c] if reaches else F32(0)
        for c in range(channels):
            mean[i, c] /= F32(height * width)


@compiled
def channel_pools(x: Any, gate: Any, mean: Any, largest: Any) -> None:
    """Mean and maximum over the channels of x * gate: x (B, H, W, C), gate (B, C) -> both (B, H, W).

    Floats compare as the integers that `_ordered` makes of their bits: a maximum of floats, which might be NaN, would
    run one channel after the other.
    """
    images, height, width, channels = x.shape
    for i in range(images):
        for h in range(height):
            for w in range(width):
                total, most = F32(0), np.int32(-(2**31))
                for c in range(channels):
                    v = F32(load(x[i, h, w, c]) * gate[i, c])
                    total += v
                    most = max(most, _ordered(v.view(np.int32)))
                mean[i, h, w] = total / F32(channels)
                largest[i, h, w] = np.int32(_ordered(most)).view(F32) if total == total else total


@inlined
def _ordered(bits: Any) -> Any:
    """A float's bits as an integer that is larger for a larger float, and back."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled
def channel_pools_back(
    x: Any, gate: Any, largest: Any, g_mean: Any, g_largest: Any, share: Any, g_gate: Any
) -> None:
    """What each of the channels that reach the maximum gets of g_largest, (B, H, W), and the gate's gradient (B, C)."""
    images, height, width, channels = x.shape
    line = np.empty(channels, F32)
    for i in range(images):
        g_gate[i, :] = F32(0)
        for h in range(height):
            line[:] = F32(0)
            for w in range(width):
                top, every, ties = largest[i, h, w], g_mean[i, h, w] / F32(channels), F32(0)
                for c in range(channels):
                    ties += F32(1) if load(x[i, h, w, c]) * gate[i, c] == top else F32(0)
                part = g_largest[i, h, w] / max(ties, F32(1))
                share[i, h, w] = part
                for c in range(channels):
                    v = load(x[i, h, w, c])
                    line[c] += v * (every + (part if v * gate[i, c] == top else F32(0)))
            for c in range(channels):
                g_gate[i, c] += line[c]


@compiled
def scale(x: Any, weights: Any, form: Any, other: Any, out: Any) -> None:
    """Out = x times its weights, or relu(that + other)."""
    images, height, width, channels = x.shape
    by_channel, by_place = weights
    for i in range(images):
        for h in range(height):
            for w in range(width):
                base = form[0] + form[1] * by_place[i, h, w]
                slope = form[1] + form[2] * by_place[i, h, w]
                for c in range(channels):
                    v = load(x[i, h, w, c]) * (base + slope * by_channel[i, c])
                    if other is not None:
                        v += load(other[i, h, w, c])
                        v = F32(0) if v < F32(0) else v
                    out[i, h, w, c] = store(v, x[i, h, w, c])


@compiled
def scale_back(
    g: Any, more: Any, y: Any, x: Any, weights: Any, form: Any, d: Any, g_channel: Any, g_place: Any
) -> None:
    """Gradients of `scale` by both weights; and d, what a ReLU, known by its output y, lets pass of g (+ more).

    g, more, y and d are (B H, W C); all but g may be None.
    """
    images, height, width, channels = x.shape
    by_channel, by_place = weights
    line, passed = np.empty(channels, F32), np.empty(width * channels, F32)
    for i in range(images):
        line[:] = F32(0)
        for h in range(height):
            row = i * height + h
            for j in range(passed.size):
                v = load(g[row, j])
                if more is not None:
                    v += load(more[row, j])
                if y is not None:
                    v = v if load(y[row, j]) > F32(0) else F32(0)
                passed[j] = v
            if d is not None:
                for j in range(passed.size):
                    d[row, j] = store(passed[j], d[0, 0])
            for w in range(width):
                slope, total = form[1] + form[2] * by_place[i, h, w], F32(0)
                for c in range(channels):
                    v = passed[w * channels + c] * load(x[i, h, w, c])
                    total += v * (form[1] + form[2] * by_channel[i, c])
                    line[c] += v * slope
                g_place[i, h, w] = total
        for c in range(channels):
            g_channel[i, c] = line[c]


@compiled
def accumulate(
    d: Any, x: Any, weights: Any, form: Any, over_places: Any, over_channels: Any, out: Any
) -> None:
    """Gradient of x by its product with weights, where d (or None) is that product's, and by the pools taken of x.

    `over_places`: every (B, C), share (B, C) and maximum (B, C): each element gets `every`, those that reach
    the maximum `share` too. `over_channels`: the same as (B, H, W), behind the gate (B, C) that x was multiplied by.
    """
    images, height, width, channels = x.shape
    by_channel, by_place = weights
    every_c, share_c, top_c = over_places
    gate, every_p, share_p, top_p = over_channels
    for i in range(images):
        for h in range(height):
            for w in range(width):
                base = form[0] + form[1] * by_place[i, h, w]
                slope = form[1] + form[2] * by_place[i, h, w]
                every, part, top = every_p[i, h, w], share_p[i, h, w], top_p[i, h, w]
                for c in range(channels):
                    v, k = load(x[i, h, w, c]), gate[i, c]
                    total = k * (every + (part if v * k == top else F32(0))) + every_c[i, c]
                    total += share_c[i, c] if v == top_c[i, c] else F32(0)
                    if d is not None:
                        total += load(d[i, h, w, c]) * (base + slope * by_channel[i, c])
                    out[i, h, w, c] = store(total, x[i, h, w, c])
