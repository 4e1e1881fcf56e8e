"""Loops over feature maps that torch would run as many passes over memory, compiled by Numba on their first use.

On a CPU a small convolution takes less time than the norm, the activation and the gate behind it, because each of
their torch operations reads and writes the whole map. Here one pass does what can be done while a value is in a
register. All arrays but those of `planes_conv` are maps in channels-last order. Where nothing changes from pixel to
pixel they are seen as (rows, width x channels): the inner loop runs over a whole row, long enough for vector
instructions even at 16 channels. A map is float32, or uint16 that holds bfloat16; sums are float32. Nothing here
allocates beyond a few rows or runs in more than one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import config, njit, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import overload

from attnsearch.core.checks import at_home

F32, U16, U32 = np.float32, np.uint16, np.uint32
TAPS = 7  # products of a convolution's row in one pass: the kernels that gates have are 3 and 7 wide
FASTMATH = {"reassoc", "contract", "nsz"}
Function = TypeVar("Function", bound=Callable[..., Any])
FEATURES: str = get_host_cpu_features()  # type: ignore[no-untyped-call]
if config.CPU_FEATURES is None and "+avx512f" in FEATURES:  # type: ignore[attr-defined]
    # LLVM takes half of a 512-bit register, for the sake of old chips that slowed down at the whole.
    config.CPU_FEATURES = f"{FEATURES},-prefer-256-bit"  # type: ignore[attr-defined]
if not config.CACHE_DIR and not os.access(Path(__file__).parent, os.W_OK):  # type: ignore[attr-defined]
    # Numba would take the home folder, and where there is none make one that is named `~`.
    if chosen := os.environ.get("ATTNSEARCH_CACHE"):
        config.CACHE_DIR = str(at_home(chosen) / "numba")  # type: ignore[attr-defined]
    elif str(at_home("~")) == "~":
        raise RuntimeError("no folder to keep compiled kernels in")


def compiled(function: Function) -> Function:
    """Numba's, cached on the disk; sums in any order, but NaN and infinity stay what they are."""
    return cast("Function", njit(cache=True, nogil=True, fastmath=FASTMATH)(function))


def inlined(function: Function) -> Function:
    """The same for what kernels call.

    As a function of its own it would be there twice, compiled alone and within its caller, rounding differently; which
    of them runs would depend on whether the caller has just been compiled or was read from the disk.
    """
    return cast("Function", njit(nogil=True, forceinline=True, fastmath=FASTMATH)(function))


def load(value: Any) -> Any:
    """A map's element as float32."""


def store(value: Any, like: Any) -> Any:
    """A float32 as the element of a map such as `like`, rounded to even."""


def _load(value: Any) -> Any:
    def widened(value: Any) -> Any:
        return U32(U32(value) << U32(16)).view(F32)

    def same(value: Any) -> Any:
        return value

    return widened if isinstance(value, types.Integer) else same


def _store(value: Any, like: Any) -> Any:
    def rounded(value: Any, like: Any) -> Any:
        bits = F32(value).view(U32)
        up = U32(U32(0x7FFF) + ((bits >> U32(16)) & U32(1)))
        # Rounding up would turn some NaNs into infinity or zero.
        return U16(U32(bits + up) >> U32(16)) if value == value else U16(0x7FC0)

    def same(value: Any, like: Any) -> Any:
        return F32(value)

    return rounded if isinstance(like, types.Integer) else same


overload(load, inline="always")(_load)
overload(store, inline="always")(_store)


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
    _norm_sums(x, pivot, total, squares)
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


@inlined
def _norm_sums(x: Any, pivot: Any, total: Any, squares: Any) -> None:
    """Add to each column its sum and its sum of squares, both of x - pivot: near the mean little cancels."""
    rows, columns = x.shape
    for i in range(rows):
        for j in range(columns):
            v = load(x[i, j]) - pivot[j]
            total[j] += v
            squares[j] += v * v


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
    kept for the other addend; one behind the norm alone is computed again from x, which costs less than reading y.
    d and out are written a row at a time, after the row was read: they may be g and more, but not both the same.
    """
    rows, columns = x.shape
    channels = stats.shape[1]
    mean, scale, shift = (
        _repeated(stats[0], columns),
        _repeated(stats[2], columns),
        _repeated(stats[3], columns),
    )
    total, products = np.zeros(columns, F32), np.zeros(columns, F32)
    _norm_back_sums(g, more, x, y, mean, scale, shift, relu, d, total, products)
    count, parameters = rows * (columns // channels), np.zeros((2, channels), F32)
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
        _norm_back_maps(d, None, x, mean, scale, shift, False, b, c, out)
    else:
        _norm_back_maps(g, more, x, mean, scale, shift, relu, b, c, out)
    return parameters


@inlined
def _norm_back_sums(
    g: Any,
    more: Any,
    x: Any,
    y: Any,
    mean: Any,
    scale: Any,
    shift: Any,
    relu: bool,
    d: Any,
    total: Any,
    products: Any,
) -> None:
    """Add to each column the sums of d and of d * (x - mean); write d down unless that is None."""
    rows, columns = x.shape
    line = np.empty(columns, x.dtype)
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
def _norm_back_maps(
    g: Any,
    more: Any,
    x: Any,
    mean: Any,
    scale: Any,
    shift: Any,
    relu: bool,
    slope: Any,
    offset: Any,
    out: Any,
) -> None:
    """Out = d * scale + (x - mean) * slope + offset."""
    rows, columns = x.shape
    line = np.empty(columns, x.dtype)
    for i in range(rows):
        for j in range(columns):
            v, place = load(g[i, j]), load(x[i, j])
            if more is not None:
                v += load(more[i, j])
            if relu:
                v = v if place * scale[j] + shift[j] > F32(0) else F32(0)
            line[j] = store(v * scale[j] + (place - mean[j]) * slope[j] + offset[j], x[i, j])
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
def add_relu_back(g: Any, more: Any, y: Any, out: Any) -> None:
    """Out = g (+ more, unless None) where y is positive, else 0; out may be g or more."""
    rows, columns = y.shape
    line = np.empty(columns, y.dtype)
    for i in range(rows):
        for j in range(columns):
            v = load(g[i, j])
            if more is not None:
                v += load(more[i, j])
            line[j] = store(v if load(y[i, j]) > F32(0) else F32(0), y[i, j])
        for j in range(columns):
            out[i, j] = line[j]


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
def scale(x: Any, by_channel: Any, by_place: Any, other: Any, out: Any) -> None:
    """Out = x * by_channel * by_place, or relu(that + other): x (B, H, W, C), by_channel (B, C), by_place (B, H, W)."""
    images, height, width, channels = x.shape
    for i in range(images):
        for h in range(height):
            for w in range(width):
                by = by_place[i, h, w]
                for c in range(channels):
                    v = load(x[i, h, w, c]) * by_channel[i, c] * by
                    if other is not None:
                        v += load(other[i, h, w, c])
                        v = F32(0) if v < F32(0) else v
                    out[i, h, w, c] = store(v, x[i, h, w, c])


@compiled
def scale_back(
    g: Any, more: Any, y: Any, x: Any, by_channel: Any, by_place: Any, d: Any, g_channel: Any, g_place: Any
) -> None:
    """Gradients of `scale` by both gates; and d, what a ReLU, known by its output y, lets pass of g (+ more).

    d may be g or more.
    """
    images, height, width, channels = x.shape
    line, passed = np.empty(channels, F32), np.empty(width * channels, F32)
    for i in range(images):
        g_channel[i, :] = F32(0)
        for h in range(height):
            _passed(g, more, y, i * height + h, passed)
            if d is not None:
                for j in range(passed.size):
                    d[i * height + h, j] = store(passed[j], d[0, 0])
            line[:] = F32(0)
            for w in range(width):
                by, total = by_place[i, h, w], F32(0)
                for c in range(channels):
                    v = passed[w * channels + c] * load(x[i, h, w, c])
                    total += v * by_channel[i, c]
                    line[c] += v * by
                g_place[i, h, w] = total
            for c in range(channels):
                g_channel[i, c] += line[c]


@inlined
def _passed(g: Any, more: Any, y: Any, i: int, out: Any) -> None:
    """Out = what a ReLU, known by its output y, let pass of row i of g (+ more); each but g may be None."""
    for j in range(out.size):
        v = load(g[i, j])
        if more is not None:
            v += load(more[i, j])
        if y is not None:
            v = v if load(y[i, j]) > F32(0) else F32(0)
        out[j] = v


@compiled
def accumulate(
    g: Any,
    x: Any,
    d: Any,
    by_channel: Any,
    by_place: Any,
    every_channel: Any,
    share_channel: Any,
    top_channel: Any,
    gate: Any,
    every_place: Any,
    share_place: Any,
    top_place: Any,
    out: Any,
) -> None:
    """A map's gradient by all that was made of it: out = g + those by a product, by its pools over places and channels.

    By the product d * by_channel * by_place; by the pools over places every_channel, and share_channel where x is
    top_channel; by the pools over channels of x * gate the same, times gate. g and d may be None.
    """
    images, height, width, channels = x.shape
    for i in range(images):
        for h in range(height):
            for w in range(width):
                by, every, part, top = (
                    by_place[i, h, w],
                    every_place[i, h, w],
                    share_place[i, h, w],
                    top_place[i, h, w],
                )
                for c in range(channels):
                    v, k = load(x[i, h, w, c]), gate[i, c]
                    total = k * (every + (part if v * k == top else F32(0))) + every_channel[i, c]
                    total += share_channel[i, c] if v == top_channel[i, c] else F32(0)
                    if d is not None:
                        total += load(d[i, h, w, c]) * by_channel[i, c] * by
                    if g is not None:
                        total += load(g[i, h, w, c])
                    out[i, h, w, c] = store(total, x[i, h, w, c])


@compiled
def line_pools(x: Any, mean: Any, largest: Any) -> None:
    """Mean and maximum over the middle axis: x (O, N, I) -> both (O, I)."""
    outer, lines, inner = x.shape
    for i in range(outer):
        mean[i, :] = F32(0)
        largest[i, :] = F32(-np.inf)
        for n in range(lines):
            for j in range(inner):
                v = load(x[i, n, j])
                mean[i, j] += v
                largest[i, j] = v if v > largest[i, j] or v != v else largest[i, j]
        for j in range(inner):
            mean[i, j] /= F32(lines)


@compiled
def line_pools_back(x: Any, largest: Any, g: Any, g_mean: Any, g_largest: Any, out: Any) -> None:
    """Out = g + g_mean / N + g_largest shared among the lines that reach the maximum."""
    outer, lines, inner = x.shape
    ties, every, share = np.empty(inner, F32), np.empty(inner, F32), np.empty(inner, F32)
    for i in range(outer):
        ties[:] = F32(0)
        for n in range(lines):
            for j in range(inner):
                ties[j] += F32(1) if load(x[i, n, j]) == largest[i, j] else F32(0)
        for j in range(inner):
            every[j] = g_mean[i, j] / F32(lines)
            share[j] = g_largest[i, j] / max(ties[j], F32(1))
        for n in range(lines):
            for j in range(inner):
                v = load(g[i, n, j]) + every[j]
                v += share[j] if load(x[i, n, j]) == largest[i, j] else F32(0)
                out[i, n, j] = store(v, x[i, n, j])


@compiled
def planes_conv(x: Any, weight: Any, out: Any) -> None:
    """Convolution of few maps to one, zeros around: x (B, C, H, W), weight (C, k, k) in float32, out (B, H, W).

    A padded image is one long row, in which a shift by (u, v) is an offset: the inner loop runs over all of it.
    """
    images, maps, height, width = x.shape
    kernel, pad = weight.shape[1], weight.shape[1] // 2
    line, taps = width + 2 * pad, _widened(weight)
    padded = np.zeros((maps, (height + 2 * pad) * line + taps.shape[2]), F32)
    total = np.empty(height * line, F32)
    for i in range(images):
        _pad(x[i], padded, pad)
        total[:] = F32(0)
        for m in range(maps):
            for u in range(kernel):
                for v in range(0, taps.shape[2], TAPS):
                    _add_shifted(padded[m, u * line + v :], taps[m, u, v:], total)
        for h in range(height):
            for j in range(width):
                out[i, h, j] = store(total[h * line + j], out[i, h, j])


@compiled
def planes_conv_back(g: Any, x: Any, weight: Any, g_x: Any, g_weight: Any) -> None:
    """Gradients of the above into g_x, and added to g_weight."""
    images, maps, height, width = x.shape
    kernel, pad = weight.shape[1], weight.shape[1] // 2
    line, taps, turned = width + 2 * pad, _widened(weight), _widened(weight[:, ::-1, ::-1])
    wide = taps.shape[2]
    padded = np.zeros((maps, (height + 2 * pad) * line + wide), F32)
    ringed = np.zeros((1, (height + 2 * pad) * line + wide), F32)  # g with zeros around
    total, dots = np.empty(height * line, F32), np.zeros(wide, F32)
    for i in range(images):
        _pad(x[i], padded, pad)
        _pad(g[i : i + 1], ringed, pad)
        inner = ringed[0, pad * line + pad :][: height * line]
        for m in range(maps):
            total[:] = F32(0)
            for u in range(kernel):
                dots[:] = F32(0)
                for v in range(0, wide, TAPS):
                    _add_shifted(ringed[0, u * line + v :], turned[m, u, v:], total)
                    _add_products(inner, padded[m, u * line + v :], dots[v:])
                for v in range(kernel):
                    g_weight[m, u, v] += dots[v]
            for h in range(height):
                for j in range(width):
                    g_x[i, m, h, j] = store(total[h * line + j], x[i, m, h, j])


@inlined
def _widened(weight: Any) -> Any:
    """(C, k, k) -> (C, k, next multiple of TAPS), zeros behind."""
    maps, kernel, _ = weight.shape
    taps = np.zeros((maps, kernel, (kernel + TAPS - 1) // TAPS * TAPS), F32)
    for m in range(maps):
        for u in range(kernel):
            for v in range(kernel):
                taps[m, u, v] = weight[m, u, v]
    return taps


@inlined
def _add_shifted(values: Any, w: Any, total: Any) -> None:
    """Add to total[j] the sum of w[v] * values[j + v], TAPS of them while the sum is in a register."""
    w0, w1, w2, w3, w4, w5, w6 = w[0], w[1], w[2], w[3], w[4], w[5], w[6]
    for j in range(total.size):
        near = w0 * values[j] + w1 * values[j + 1] + w2 * values[j + 2] + w3 * values[j + 3]
        total[j] += near + w4 * values[j + 4] + w5 * values[j + 5] + w6 * values[j + 6]


@inlined
def _add_products(g: Any, values: Any, dots: Any) -> None:
    """Add to dots[v] the sum of g[j] * values[j + v], for TAPS of them."""
    d0, d1, d2, d3, d4, d5, d6 = F32(0), F32(0), F32(0), F32(0), F32(0), F32(0), F32(0)
    for j in range(g.size):
        d = g[j]
        d0 += d * values[j]
        d1 += d * values[j + 1]
        d2 += d * values[j + 2]
        d3 += d * values[j + 3]
        d4 += d * values[j + 4]
        d5 += d * values[j + 5]
        d6 += d * values[j + 6]
    for v, sum_ in enumerate((d0, d1, d2, d3, d4, d5, d6)):
        dots[v] += sum_


@inlined
def _pad(image: Any, padded: Any, pad: int) -> None:
    maps, height, width = image.shape
    for m in range(maps):
        for h in range(height):
            for j in range(width):
                padded[m, (h + pad) * (width + 2 * pad) + pad + j] = load(image[m, h, j])
