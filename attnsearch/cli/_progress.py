"""What a run shows while it runs: a live screen on a terminal, plain lines anywhere else. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnsearch.core.messages import Progress
from attnsearch.core.requirements import Requirements
from attnsearch.core.study_attrs import DataInfo
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.text import clock, many
from attnsearch.core.trial import TrialResult
from attnsearch.study.observer import Observer
from attnsearch.study.time_left import Clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

REFRESHES = 2  # per second; more would cost the workers time and show nothing more
BAR = 24  # columns of the bar of trials done


def observer() -> Observer:
    """A live screen if stderr is a terminal that can move its cursor, else lines."""
    from attnsearch.report.console import make_console

    console = make_console(sys.stderr)
    return Screen(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


def _of(taken: int | None, all_of_them: int | None) -> str:
    """`5,000`, or `2,000 of 7,000`."""
    taken, all_of_them = taken or 0, all_of_them or 0
    return f"{taken:,}" if taken == all_of_them else f"{taken:,} of {all_of_them:,}"


class Lines(Observer):
    """One line per event, for logs and pipes."""

    wants_estimate = True

    def __init__(self) -> None:
        self.clock, self.error = Clock(), "error"

    def began(self, info: StudyInfo, total: int, workers: int, done: Sequence[TrialResult] = ()) -> None:
        self.clock.start(total, len(done))
        self.error = info.metric.error
        data = info.data or DataInfo("unknown data")
        self.say(f"{info.space.question}")
        resumed = f" ({len(done)} done before)" if done else ""
        self.say(
            f"{info.space.size or 0:,} archs, {total} trials{resumed} of "
            f"{many(info.recipe.epochs, 'epoch')} on "
            f"{data.name} ({_of(info.training_images, data.train)} train, {data.val or 0:,} val images), "
            f"{many(workers, 'worker')}, {info.run.device}"
        )

    def trial_ended(self, row: TrialResult) -> None:
        self.clock.done += not row.lost
        self.say(
            f"[{self.clock.done}/{self.clock.total}] {ending(row, self.error)}  "
            f"{row.seconds:.0f} s, left {self.clock.left()}"
        )

    def requires(self, needed: Requirements) -> None:
        self.say(f"it {needed}")

    def note(self, message: str) -> None:
        self.say(f"note: {message}")

    def ended(self, reason: str) -> None:
        self.say(f"ended after {clock(time.monotonic() - self.clock.began)}: {reason}")

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)


class Screen(Observer):
    """Trials done, what runs with epoch and error, time left, and the front so far as a plot and a table."""

    wants_estimate = True

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.console = console
        self.clock = Clock()
        self.running: dict[int, tuple[TrialResult, Progress | None]] = {}
        self.finished: dict[int, TrialResult] = {}
        self.info = StudyInfo()
        self._drawn: tuple[tuple[int, int, int], list[tuple[str, str]]] = ((-1, 0, 0), [])
        self.live = Live(
            console=console, refresh_per_second=REFRESHES, transient=True, get_renderable=self.draw
        )

    def began(self, info: StudyInfo, total: int, workers: int, done: Sequence[TrialResult] = ()) -> None:
        self.info, self.finished = info, {row.number: row for row in done}
        self.clock.start(total, len(done))
        self.live.console.print(info.space.question or "", style="bold")
        self.live.start()

    def trial_began(self, row: TrialResult) -> None:
        self.running[row.number] = (row, None)

    def epoch(self, row: TrialResult, progress: Progress) -> None:
        self.running[row.number] = (row, progress)
        self.clock.share[row.number] = progress.epoch.epoch / row.epochs

    def trial_ended(self, row: TrialResult) -> None:
        self.running.pop(row.number, None)
        self.clock.share.pop(row.number, None)
        self.clock.done += not row.lost
        self.finished[row.number] = row

    def requires(self, needed: Requirements) -> None:
        self.live.console.print(f"it {needed}", highlight=False, markup=False)

    def note(self, message: str) -> None:
        from rich.text import Text

        self.live.console.print(Text.assemble(("note:", "yellow"), f" {message}"))

    def ended(self, reason: str) -> None:
        self.live.stop()
        self.live.console.print(f"ended after {clock(time.monotonic() - self.clock.began)}: {reason}")

    def close(self) -> None:
        """Give the terminal back, however the run ended."""
        self.live.stop()

    def draw(self) -> RenderableType:
        """The whole screen, as wide and as high as the terminal."""
        from rich.console import Group
        from rich.text import Text

        width, height = self.console.size
        done, total = self.clock.done, self.clock.total
        full = round(BAR * done / total) if total else 0
        elapsed = clock(time.monotonic() - self.clock.began)
        head = Text.assemble(
            ("━" * full, "green"),
            ("╌" * (BAR - full), "bright_black"),
            f" {done}/{total} trials · {elapsed} elapsed · ETA {self.clock.left()}",
        )
        running = self._rows_running()
        lines = [head, *running, *self._front(width, height - len(running) - 2)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _rows_running(self) -> list[Text]:
        from rich.text import Text

        rows = []
        for row, progress in self.running.values():
            state = "starting" if progress is None else f"epoch {progress.epoch.epoch}/{row.epochs}"
            error = "" if progress is None else f"error {progress.epoch.val_error:.1f} %"
            rows.append(Text(f"  {state:<12}{error:<14}{row.arch}"))
        return rows

    def _front(self, width: int, height: int) -> list[Text]:
        """The front so far; worked out anew only when a trial has ended."""
        from rich.text import Text

        from attnsearch.report.so_far import front_lines

        key = (len(self.finished), width, height)
        if key != self._drawn[0]:
            self._drawn = (key, front_lines(self.info, list(self.finished.values()), width, height))
        return [Text(line, style) for line, style in self._drawn[1]]


def ending(row: TrialResult, error: str = "error") -> str:
    """`error 12.3 %  all stages cbam (seed 0)`, or why there is no error."""
    result = f"{error} {row.error:5.2f} %" if row.error is not None else f"{row.state}: {row.reason}"
    return f"{result}  {row.arch}  seed {row.seed}"
