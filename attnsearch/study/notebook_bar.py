"""Progress of a run in a notebook: one bar that is drawn anew in its place, and the notes under it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from attnsearch.core.messages import Progress
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import TrialResult
from attnsearch.study.observer import Observer
from attnsearch.study.time_left import Clock


def observer() -> Observer:
    """A bar where a notebook's kernel runs this code, else one that shows nothing."""
    shell = sys.modules.get("IPython")
    kernel = getattr(shell and shell.get_ipython(), "kernel", None)
    return Bar() if kernel is not None else Observer()


class Bar(Observer):
    """Trials done, rate and time left; `IPython.display` alone, so that no widget has to be installed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lines: list[str] = []  # notes, and how it ended
        self.handle: Any = import_module("IPython.display").display(self, display_id=True)

    def began(self, info: StudyInfo, total: int, workers: int, done: Sequence[TrialResult] = ()) -> None:
        self.clock.start(total, len(done))
        self.draw()

    def epoch(self, row: TrialResult, progress: Progress) -> None:
        self.clock.share[row.number] = progress.epoch.epoch / row.epochs
        self.draw()

    def trial_ended(self, row: TrialResult) -> None:
        self.clock.share.pop(row.number, None)
        self.clock.done += not row.lost
        self.draw()

    def note(self, message: str) -> None:
        self.lines.append(f"note: {message}")
        self.draw()

    def ended(self, reason: str) -> None:
        self.lines.append(f"ended: {reason}")
        self.draw()

    def draw(self) -> None:
        """Show what stands now in the place of what stood there."""
        self.handle.update(self)

    def __repr__(self) -> str:
        done, total = self.clock.done, self.clock.total
        return "\n".join([f"{done}/{total} trials, left {self.clock.left()}", *self.lines])

    def _repr_html_(self) -> str:
        from markupsafe import Markup

        clock = self.clock
        value = clock.done + sum(clock.share.values())
        bar = Markup(
            '<progress max="{}" value="{:.2f}"></progress> {}/{} trials, {:.0f} an hour, left {}'
        ).format(clock.total or 1, value, clock.done, clock.total, 3600 * clock.rate(), clock.left())
        return Markup("<br>").join([bar, *self.lines])


__all__ = ["Bar", "observer"]
