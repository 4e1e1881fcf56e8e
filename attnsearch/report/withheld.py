"""When a study names nothing: its recipe is far from converged, or its baseline near chance level.

Then no architecture is named, none is ranked, and there is no verdict; the sentence here stands instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnsearch.core.study_info import StudyInfo
from attnsearch.statistics.noise import near_chance
from attnsearch.statistics.verdict_types import NEAR_CHANCE, Analysis

FAR = "recipe far from converged"
LONGER = "a longer training, or another recipe"


@dataclass(frozen=True)
class Withheld:
    """Why nothing is named; false where something is.

    Args:
        why: in a few words, for titles and tables. sentence: with its numbers, and what to do.
    """

    why: str = ""
    sentence: str = ""

    def __bool__(self) -> bool:
        return bool(self.why)

    def of(self, analysis: Analysis) -> Analysis:
        """The analysis without a verdict where nothing is named."""
        return analysis.without_verdicts(self.why) if self else analysis


def withheld(info: StudyInfo, baseline: float | None) -> Withheld:
    """Whether a study whose baseline has this mean error (percent) names anything."""
    convergence, error = info.run.convergence, info.metric.error
    if convergence is not None and not convergence.reached:
        return Withheld(FAR, convergence.sentence(error))
    classes, guessing = len(info.images.classes), info.guessing
    if baseline is None or not near_chance(baseline, guessing):
        return Withheld()
    return Withheld(
        f"baseline {NEAR_CHANCE}",
        f"Baseline near chance level: {error} {baseline:.1f} %, guessing among {classes} classes {guessing:.1f} %. "
        "Differences from a network that has learned next to nothing mean nothing, so no architecture is named: "
        "train longer (`--epochs`), or by another recipe (learning rate, batch size, more images).",
    )
