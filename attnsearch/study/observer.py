"""Who watches a run."""

from __future__ import annotations

from collections.abc import Sequence

from attnsearch.core.messages import Progress
from attnsearch.core.requirements import Requirements
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import TrialResult


class Observer:
    """Called with what happens during a run; the base class ignores it.

    began        what the study is, trainings in all, workers; `done`: of these trainings, what earlier runs did
    trial_began  a row without results; `epoch`, after each of its epochs; `trial_ended`, with its results
    requires     what the run will take, by a few timed steps; asked for by `wants_estimate`, since it takes seconds
    note         one sentence that a user should see
    ended        why the run is over
    close        called however the run ended; whoever made the observer calls it
    """

    wants_estimate = False

    def began(self, info: StudyInfo, total: int, workers: int, done: Sequence[TrialResult] = ()) -> None: ...
    def trial_began(self, row: TrialResult) -> None: ...
    def epoch(self, row: TrialResult, progress: Progress) -> None: ...
    def trial_ended(self, row: TrialResult) -> None: ...
    def requires(self, needed: Requirements) -> None: ...
    def note(self, message: str) -> None: ...
    def ended(self, reason: str) -> None: ...
    def close(self) -> None: ...
