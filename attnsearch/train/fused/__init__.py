"""Training passes on one CPU thread without needless trips to memory: `with Fast(): model(x)`.

Fast stands between a model and torch. Norms, additions, pools, products with gates and small convolutions over
channels-last maps are computed by loops of its own (`kernels`), with their own backward passes; in validation too.
Whatever else a model does is left to torch, and so is all of it on other devices and in other dtypes. Blocks stay
written as their formulas; values agree with torch's to rounding.

    mode    what is taken over, and when
    gates   pools and products of one map: deferred products, and gradient terms that are summed in one pass
    passes  norms, additions, convolutions: autograd functions, one for each pass
    arrays  maps as the kernels see them
    kernels the loops, compiled by Numba
"""

from __future__ import annotations

import importlib
from functools import cache

from attnsearch.train.fused.dispatch import Fast

__all__ = ["Fast", "available"]


@cache
def available() -> bool:
    """Whether the kernels can be compiled here: nothing but speed, and rounding, depends on it."""
    try:
        importlib.import_module("attnsearch.train.fused.kernels")
    except ImportError:  # Numba lags behind new versions of Python and NumPy
        return False
    except RuntimeError:  # it may cache in no folder; compiling in every process is not worth it
        return False
    return True
