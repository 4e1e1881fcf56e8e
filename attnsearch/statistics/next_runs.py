"""Which runs to make next, so that architectures whose place on the front is undecided are decided."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heapreplace
from itertools import count as count_from
from itertools import islice

from attnsearch.statistics.front import CONFIRMED, Front, Status


def next_runs(front: Front, count: int) -> list[tuple[str, int]]:
    """The first `count` of `runs_in_turn`."""
    return list(islice(runs_in_turn(front), count))


def runs_in_turn(front: Front) -> Iterator[tuple[str, int]]:
    """The (arch key, seed) runs to make next so that undecided architectures become confirmed or dominated, endless.

    Greedy: each goes to the undecided architecture with the largest p (1 - p) / sqrt(1 + runs), and then counts as
    run. While too little is known of the noise the observed front is repeated. Seeds are the smallest that the
    architecture has not had. Empty when all is decided.
    """
    if front.sd is None:
        worth = [(row, 1.0) for row in front if row.observed]
    else:
        worth = [
            (row, max(row.p_front * (1 - row.p_front), CONFIRMED * (1 - CONFIRMED)))
            for row in front
            if row.p_front is not None and row.status == Status.UNDECIDED
        ]
    used = [set(row.seeds) for row, _ in worth]
    turns = [
        (-value / math.sqrt(1 + len(row.errors)), place, len(row.errors))
        for place, (row, value) in enumerate(worth)
    ]
    heapify(turns)
    while turns:
        _, place, runs = turns[0]
        row, value = worth[place]
        unused = next(seed for seed in count_from(0) if seed not in used[place])
        yield row.key, unused
        used[place].add(unused)
        heapreplace(turns, (-value / math.sqrt(2 + runs), place, runs + 1))
