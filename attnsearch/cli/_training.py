"""What one long training shows: a bar on a terminal, a line for each epoch anywhere else. All of it on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from attnsearch.cli.common import note
from attnsearch.core.text import clock
from attnsearch.core.trial import Epoch
from attnsearch.tools.full_training import Watcher


class EpochLines(Watcher):
    """One line an epoch with losses, error, images a second and the time left."""

    def began(self, epochs: int, done: int, steps: int, images: int) -> None:
        self.epochs, self.done, self.images = epochs, done, images
        self.start, self.first = time.monotonic(), done
        if done:
            self.note(f"goes on after epoch {done} of {epochs}")

    def epoch(self, epoch: Epoch) -> None:
        taken = (time.monotonic() - self.start) / max(1, epoch.epoch - self.first)
        left = taken * (self.epochs - epoch.epoch)
        self.say(
            f"epoch {epoch.epoch}/{self.epochs}  loss {epoch.train_loss:.3f}, validation {epoch.val_loss:.3f}, "
            f"error {epoch.val_error:.2f} %  {self.images / taken:,.0f} images/s, left {clock(left)}"
        )

    def note(self, message: str) -> None:
        note(message)

    def say(self, line: str) -> None:
        """An epoch's line."""
        print(line, file=sys.stderr, flush=True)


class Bar(EpochLines):
    """The lines of the epochs above a bar of all steps, with the rate and the time left."""

    def __init__(self, progress: Any) -> None:
        self.progress = progress

    def began(self, epochs: int, done: int, steps: int, images: int) -> None:
        super().began(epochs, done, steps, images)
        self.task = self.progress.add_task("steps", total=epochs * steps, completed=done * steps)

    def step(self) -> None:
        self.progress.advance(self.task)

    def say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False, markup=False)


@contextlib.contextmanager
def watcher(stream: TextIO) -> Iterator[Watcher]:
    """A bar if the stream is a terminal that can move its cursor, else lines."""
    from attnsearch.report.console import make_console

    console = make_console(stream)
    if not console.is_terminal or console.is_dumb_terminal:
        yield EpochLines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps, left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress)


__all__ = ["watcher"]
