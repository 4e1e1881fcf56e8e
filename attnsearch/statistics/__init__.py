"""Is the gain real? What trainings that share seeds say of the variants that they trained.

The table has a row per variant and a column per seed block; what a seed decides is shared down a column.

    Table           errors in percent, by variant and block                  error_table.py
    fit             least squares of variant + block
    compare         -> Analysis: one Verdict per variant, Dunnett's simultaneous intervals    verdicts.py
    contrasts       any pairs, Holm
    factor_effects  main effects and two-way interactions of a two-level design               effects.py

How noisy runs are, what so many seeds can see, and Dunnett's distribution stand in `noise`, `power` and `dunnett`.
Effects are points of accuracy: positive is better than the baseline.
"""

from __future__ import annotations

from attnsearch.statistics.effects import Effect, aliases, factor_effects, holm
from attnsearch.statistics.error_table import Fit, Table, fit
from attnsearch.statistics.verdict_types import Analysis, Verdict
from attnsearch.statistics.verdicts import compare, contrasts

__all__ = [
    "Analysis",
    "Effect",
    "Fit",
    "Table",
    "Verdict",
    "aliases",
    "compare",
    "contrasts",
    "factor_effects",
    "fit",
    "holm",
]
