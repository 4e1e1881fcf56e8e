"""Recipes by name: what a space's `recipe` starts from before its own values are set.

recipe: finetune                        # as it is
recipe: {start: finetune, epochs: 12}   # with changes
"""

from __future__ import annotations

from typing import Any

# `finetune`: a peak a tenth of that of training from scratch, reached after a tenth of the steps; the head, which may
# start at random, moves ten times as fast; norms and blocks do not decay, since a decayed scale of a gate that
# starts at the identity is pulled back to where it started.
STARTS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "finetune": {
        "epochs": 6,
        "batch_size": 64,
        "lr": 0.01,
        "head_lr": 10.0,
        "warmup": 0.1,
        "weight_decay": 1e-4,
        "decay_blocks": False,
    },
}

__all__ = ["STARTS"]
