"""The shape of a search: how many trainings look for archs, and how the last block of seeds is shared out.

That block gives the verdicts: fresh runs of the baseline, the finalists and the positive control, on images and in
seeds that no choice has seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TRIALS = 32  # of a search; the baseline and 15 others or more
REPORT_SEEDS = 6  # that the block has where the trials allow it
REPORT_LEAST = 4  # below as many there is none: one comparison then has 3 degrees of freedom, the least
FINALIST_SEEDS = 4  # from which the control is served next
# Of the positive control and the baseline, the cheapest trainings. With power 0.97, 4 seeds see a harm of 3.0 sds of a
# pair and 8 seeds one of 1.6.
CONTROL_SEEDS = 8
REPORT_ARCHS = 3  # the baseline and two finalists; more where more archs are on the front
BASELINE_SEEDS = 2  # trained at once: their spread is the noise that everything else is held against


@dataclass(frozen=True)
class Shape:
    """What a search of so many trials comes to, unless its front is decided early or asks for more finalists.

    Args:
        archs: that it looks at, the baseline among them. finalists: that the last block judges; 0 without one.
        seeds: of each finalist. pair: of the baseline and the positive control.
    """

    archs: int
    finalists: int
    seeds: int
    pair: int


def shape(trials: int, confirm: float, control: bool) -> Shape:
    """The shape of a search of so many trials, `confirm` of which are kept for fresh seeds."""
    archs = search_trials(trials, confirm)
    left = min(trials - archs - (BASELINE_SEEDS - 1), due(control))
    if confirm == 0 or left < 2 * REPORT_LEAST:
        return Shape(archs, 0, 0, 0)
    finalists = finalist_count(left, control)
    rows = 1 + finalists
    with_control = control and left >= REPORT_LEAST * (rows + 1)
    seeds, further = block_seeds(left, rows + with_control, with_control)
    return Shape(archs, finalists, seeds, seeds + further)


def search_trials(trials: int, confirm: float) -> int:
    """Trainings on the common seed, the baseline's among them."""
    reserved = math.floor(confirm * trials)
    searching = trials - (reserved if reserved >= 2 * REPORT_LEAST else 0)
    least = min(2, trials)  # the baseline, and an arch to hold against it
    return max(least, searching - (BASELINE_SEEDS - 1 if confirm else 0))


def due(control: bool, sure: int = 0) -> int:
    """Trials left at which the last block begins; `sure` archs are on the front already, the baseline among them."""
    wanted = 2 * CONTROL_SEEDS + FINALIST_SEEDS if control else 0
    return max(wanted, REPORT_SEEDS * max(REPORT_ARCHS, sure))


def finalist_count(trials: int, control: bool) -> int:
    """Finalists that so many trials judge: one at least, as many as get `REPORT_SEEDS` seeds."""
    return max(1, trials // REPORT_SEEDS - 1 - control)


def block_seeds(trials: int, archs: int, control: bool) -> tuple[int, int]:
    """Seeds of the last block for all its archs, and further ones for the baseline and the positive control alone.

    The two tell what all other verdicts are worth: beyond four seeds of each finalist they come first, up to
    `CONTROL_SEEDS`, and they get what is left over.

    Args:
        trials: that are left. archs: in the block, the baseline and the control among them.
    """
    seeds, left = divmod(trials, archs)
    if not control or seeds >= CONTROL_SEEDS:
        return seeds, 0
    if seeds >= FINALIST_SEEDS:
        finalists = archs - 2
        pair = min(CONTROL_SEEDS, (trials - FINALIST_SEEDS * finalists) // 2)
        seeds = min(pair, (trials - 2 * pair) // finalists)
        return seeds, pair - seeds
    return seeds, left // 2
