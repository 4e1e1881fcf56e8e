"""attnsearch: which attention block, where in a ResNet, in which form, is worth its cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnsearch.build.create import create_block, create_model, create_neck
    from attnsearch.build.insert import insert
    from attnsearch.build.tensor_names import load_weights
    from attnsearch.cost.measure import measure
    from attnsearch.space.space import load_space
    from attnsearch.study.run import run
    from attnsearch.study.study import open_study

__version__ = "0.1.0"

# Loaded when first asked for, so that `import attnsearch` and what only reads results stay free of torch.
_LAZY = {
    "create_block": "build.create",
    "create_model": "build.create",
    "create_neck": "build.create",
    "insert": "build.insert",
    "load_space": "space.space",
    "load_weights": "build.tensor_names",
    "measure": "cost.measure",
    "open_study": "study.study",
    "run": "study.run",
}

__all__ = [
    "create_block",
    "create_model",
    "create_neck",
    "insert",
    "load_space",
    "load_weights",
    "measure",
    "open_study",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("attnsearch.errors")
    if name not in _LAZY:
        raise AttributeError(f"module 'attnsearch' has no attribute '{name}'")
    return getattr(importlib.import_module(f"attnsearch.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
