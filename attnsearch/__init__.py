"""attnsearch: which attention block, where in a ResNet, in which form, is worth its cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnsearch.cost import measure
    from attnsearch.create import create_block, create_model, create_neck
    from attnsearch.inserting import insert, load_weights
    from attnsearch.space import load_space
    from attnsearch.studies import open_study
    from attnsearch.study import run

__version__ = "0.1.0"

# Loaded when first asked for, so that `import attnsearch` and what only reads results stay free of torch.
_LAZY = {
    "create_block": "create",
    "create_model": "create",
    "create_neck": "create",
    "insert": "inserting",
    "load_space": "space",
    "load_weights": "inserting",
    "measure": "cost",
    "open_study": "studies",
    "run": "study",
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
    if name not in _LAZY:
        raise AttributeError(f"module 'attnsearch' has no attribute '{name}'")
    return getattr(importlib.import_module(f"attnsearch.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
