"""attnsearch: which attention block, where in a ResNet, in which form, is worth its cost."""

from __future__ import annotations

__version__ = "0.1.0"
