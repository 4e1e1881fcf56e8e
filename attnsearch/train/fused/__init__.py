"""Training passes on one CPU thread without needless trips to memory: `with fused.kernels(): model(x)`.

A small convolution takes a CPU less time than the norm, the activation and the gate behind it, each of whose steps
reads and writes the whole map. Here each named step of a residual unit (`build.ops`) is one pass over channels-last
maps, float32 or bfloat16; `table` says which, and has no state. Values agree with torch's to rounding. Gains, the
medians of a step by torch over one with the kernels; and the step over that of the 1,532 lines before these 900:

    bfloat16       plain         SE            CBAM
    with AMX       1.21, 1.03    1.27, 1.02    2.2, 1.06
    without AMX    1.14, 1.02    1.18, 1.01    1.7, 1.02

ResNet-8, batch 128, in turns in one process, 8 to 12 turns on a busy core of an Intel Xeon; of the gates that `gates`
does not know, triplet takes 1.9 times as long as before and coordatt 1.07. `benchmarks.speed.throughput` measures them.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from functools import cache


@cache
def available() -> bool:
    """Whether the kernels can be compiled here: nothing but speed, and rounding, depends on it."""
    try:
        importlib.import_module("attnsearch.train.fused.compiled")
    except ImportError:  # Numba lags behind new versions of Python and NumPy
        return False
    except RuntimeError:  # it may cache in no folder; compiling in every process is not worth it
        return False
    return True


def kernels() -> AbstractContextManager[object]:
    """A context in which the kernels compute what they can."""
    from attnsearch.train.fused.table import Fused

    return Fused()
