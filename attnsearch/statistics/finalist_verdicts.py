"""The verdicts of a search: its finalists against the baseline, in the last block of seeds alone.

That block is run once the finalists are settled, with seeds and on images that had no say in the choice, so the choice
out of many does not bias it: what is left of the multiplicity is the comparison of the finalists, which Dunnett's
simultaneous intervals take in. `benchmarks.statistics.searches` measures it on whole searches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from attnsearch.core.errors import NoResultError
from attnsearch.core.trial import TrialResult
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.error_table import Table
from attnsearch.statistics.verdict_types import Analysis, Verdict
from attnsearch.statistics.verdicts import compare

LEAST = 1 + LEAST_DEGREES  # seeds of one comparison; several share their degrees of freedom


def judge_finalists(
    trials: Iterable[TrialResult],
    baseline: str,
    seeds: Sequence[int],
    *,
    margin: float | None = None,
    names: Mapping[str, str] | None = None,
    control: str = "",
    guessing: float = math.inf,
) -> Analysis | None:
    """Verdicts on every arch of the last block but the baseline; None below three degrees of freedom of the noise.

    Args:
        trials: of the study; only those of the role `report` count.
        baseline: its key.
        seeds: of the last block. An earlier one, of a study that was resumed with more trials, chose the finalists.
        margin: points of accuracy below which a difference would not matter.
        names: what to call the archs, by key; the keys when None.
        control: key of the positive control, which is no finalist; see `judge_control`.
        guessing: error of guessing in percent.
    """
    block = [t for t in trials if t.role == "report" and t.seed in set(seeds) and t.key != control]
    table = Table.of_trials(block, names or {trial.key: trial.key for trial in block})
    called = (names or {}).get(baseline, baseline)
    if called not in table.variants or _degrees(table) < LEAST_DEGREES:
        return None
    try:
        return compare(table, called, margin=margin, guessing=guessing)
    except NoResultError:
        return None


def _degrees(table: Table) -> int:
    """Of freedom of the seeds in which all archs ran."""
    return (len(table.variants) - 1) * (int(table.whole.shape[1]) - 1)


def judge_control(
    trials: Iterable[TrialResult], baseline: str, control: str, *, guessing: float = math.inf
) -> Verdict | None:
    """What the runs say of the positive control against the baseline; None before the two share four seeds.

    It is seen where its own 95 % interval lies below 0: one comparison, settled beforehand, with a known direction.

    Args:
        trials: those that the study's verdicts rest on.
    """
    pair = [replace(trial, role="report") for trial in trials if trial.key in (baseline, control)]
    analysis = judge_finalists(pair, baseline, [trial.seed for trial in pair], guessing=guessing)
    return analysis.verdicts[0] if analysis else None
