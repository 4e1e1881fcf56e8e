"""The rows of a study in memory, with what is asked for at every message counted as they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attnsearch.core.trial import TrialResult


class Results(dict[int, TrialResult]):
    """Rows by number.

    Rows count for a run unless they were lost (they are run again) or belong to an audit (which comes on top).

    Attributes:
        counted: how many rows count. searched: of these, with the role `search`. finished: trained to the end.
        running: numbers of the counted rows that are not over.
        runs: counted rows by (arch key, seed).
    """

    def __init__(self, rows: Iterable[TrialResult] = ()) -> None:
        super().__init__()
        self.counted = self.searched = self.finished = 0
        self.running: set[int] = set()
        self.runs: Counter[tuple[str, int]] = Counter()
        for row in rows:
            self[row.number] = row

    def __setitem__(self, number: int, row: TrialResult) -> None:
        if number in self:
            self._count(self[number], -1)
        super().__setitem__(number, row)
        self._count(row, 1)

    def _count(self, row: TrialResult, by: int) -> None:
        if not counts(row):
            return
        self.counted += by
        self.searched += by * (row.role == "search")
        self.finished += by * row.finished
        self.runs[row.key, row.seed] += by
        if row.state == "running":
            (self.running.add if by > 0 else self.running.discard)(row.number)


def counts(row: TrialResult) -> bool:
    """Whether a row counts for a run."""
    return not row.lost and row.role != "audit"
