"""How fast a run goes, and the time that is left of it."""

from __future__ import annotations

import time

from attnsearch.core.text import clock


class Clock:
    """Counts trials and estimates the time left from the rate so far."""

    def __init__(self) -> None:
        self.began, self.total, self.done, self.before = time.monotonic(), 0, 0, 0
        self.share: dict[int, float] = {}

    def start(self, total: int, before: int) -> None:
        """Set out for `total` trials, of which earlier runs did `before`."""
        self.began, self.total, self.done, self.before = time.monotonic(), total, before, before

    def rate(self) -> float:
        """Trials per second since this run began, running ones counted by their epochs."""
        worked = self.done - self.before + sum(self.share.values())
        return worked / max(time.monotonic() - self.began, 1e-9)

    def left(self) -> str:
        rate = self.rate()
        if rate <= 0:
            return "?"
        return clock((self.total - self.done - sum(self.share.values())) / rate)


__all__ = ["Clock"]
