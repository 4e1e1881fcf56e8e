"""How Numba compiles the kernels, and the elements of their maps: float32, or bfloat16 held by uint16.

Compiled kernels are kept on the disk until their own file changes: after an edit of this one, delete `__pycache__`.
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


@overload(load, inline="always", strict=False)
def _load(value: Any) -> Any:
    if isinstance(value, types.Integer):
        return lambda value: U32(U32(value) << U32(16)).view(F32)
    return lambda value: value


@overload(store, inline="always", strict=False)
def _store(value: Any, like: Any) -> Any:
    def rounded(value: Any, like: Any) -> Any:
        bits = F32(value).view(U32)
        up = U32(U32(0x7FFF) + ((bits >> U32(16)) & U32(1)))
        # Rounding up would turn some NaNs into infinity or zero.
        return U16(U32(bits + up) >> U32(16)) if value == value else U16(0x7FC0)

    return rounded if isinstance(like, types.Integer) else lambda value, like: F32(value)
