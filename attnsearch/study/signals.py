"""Signals that end a run in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from attnsearch.core.errors import Interrupted


class Stop:
    """Which signal asked for the end, 0 while none did; while not `graceful`, a signal raises at once."""

    signal = 0
    graceful = False


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted`; once `graceful` is set, the first is only noted."""
    stop = Stop()

    def handler(number: int, _: Any) -> None:
        if stop.signal or not stop.graceful:
            raise Interrupted("stopped at once; add --resume to go on", number)
        stop.signal = number

    watched = [
        s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN
    ]
    try:
        before = {number: signal.signal(number, handler) for number in watched}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
