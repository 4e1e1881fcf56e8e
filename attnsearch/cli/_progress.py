"""What a run shows while it runs: a live screen on a terminal, plain lines anywhere else. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnsearch.core.jobs import Progress
from attnsearch.core.requirements import Requirements
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.study_parts import DataInfo
from attnsearch.core.text import clock, many
from attnsearch.core.trial import TrialResult
from attnsearch.study.observer import Observer
from attnsearch.study.rate import Clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESHES = 2  # per second; more would cost the workers time and show nothing more
FRONT_ROWS = 8


def observer() -> Observer:
    """A live screen if stderr is a terminal that can move its cursor, else lines."""
    from attnsearch.report.console import make_console

    console = make_console(sys.stderr)
    return Screen(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


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
            f"{data.name} ({data.train or 0:,} train, {data.val or 0:,} val images), "
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
    """Trials done, what runs with epoch and accuracy, time left, and the front so far."""

    wants_estimate = True

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.clock = Clock()
        self.running: dict[int, tuple[TrialResult, Progress | None]] = {}
        self.finished: dict[int, TrialResult] = {}
        self.info = StudyInfo()
        self.notes: list[str] = []
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
        from rich.console import Group
        from rich.text import Text

        done, total = self.clock.done, self.clock.total
        width = 24
        full = round(width * done / total) if total else 0
        rate = 3600 * self.clock.rate()
        head = Text.assemble(
            ("━" * full, "green"),
            ("╌" * (width - full), "bright_black"),
            f" {done}/{total} trials · {rate:.0f} an hour · left {self.clock.left()}",
        )
        return Group(head, *self._rows_running(), self._front())

    def _rows_running(self) -> list[RenderableType]:
        from rich.text import Text

        rows: list[RenderableType] = []
        short = "acc" if self.info.metric.name == "error" else self.info.metric.title
        for row, progress in self.running.values():
            state = "starting" if progress is None else f"epoch {progress.epoch.epoch}/{row.epochs}"
            score = "" if progress is None else f" {short} {100 - progress.epoch.val_error:.1f} %"
            rows.append(Text(f"  {state:>12}{score:>12}  {row.arch}", overflow="ellipsis", no_wrap=True))
        return rows

    def _front(self) -> RenderableType:
        from rich.table import Table

        from attnsearch.report.table import quantity
        from attnsearch.statistics.front import assess, gather

        cost = self.info.costs.drawn or "macs"
        controls = self.info.controls
        complete = [row for row in self.finished.values() if row.finished and row.key not in controls]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("front so far", overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column(f"{self.info.metric.error} %", justify="right")
        table.add_column(cost, justify="right")
        table.add_column("seeds", justify="right")
        if complete:
            front = [row for row in assess(gather(complete, [cost]), draws=1) if row.observed]
            for row in front[-FRONT_ROWS:]:
                table.add_row(row.label, f"{row.mean:.2f}", quantity(row.costs[0]), str(row.error.n))
        return table


def ending(row: TrialResult, error: str = "error") -> str:
    """`error 12.3 %  all stages cbam (seed 0)`, or why there is no error."""
    result = f"{error} {row.error:5.2f} %" if row.error is not None else f"{row.state}: {row.reason}"
    return f"{result}  {row.arch}  seed {row.seed}"
