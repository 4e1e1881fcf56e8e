"""A study as a notebook or a report reads it: from its storage, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch import database, storage
from attnsearch.errors import UsageError
from attnsearch.names import masked
from attnsearch.settings import Settings
from attnsearch.trial import StudyRecord

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A study as it stands in its storage."""

    name: str
    record: StudyRecord

    def trials(self) -> pd.DataFrame:
        """One row per training."""
        from attnsearch.reports import tables

        return tables.trials_frame(self.record)

    def front(self) -> pd.DataFrame:
        """One row per arch on the front, with n, interval, costs and P(front)."""
        from attnsearch.reports import tables

        return tables.front_frame(self.record)

    def verdicts(self) -> pd.DataFrame:
        """One row per variant of a design; empty for a search."""
        from attnsearch.reports import tables

        return tables.verdicts_frame(self.record)


def open_study(
    name: str | None = None, storage_url: str | None = None, *, out: Path = Path("results")
) -> Study:
    """A study by name, the latest when None; raises `UsageError` for an unknown one."""
    url = Settings(storage=storage_url, out=out).url()
    opened = database.open_storage(url, create=False)
    with database.faults(url, reading=True):
        names = storage.study_names(opened)
        if not names:
            raise UsageError(f"No study in {masked(url)} yet: attnsearch run --space cbam_variants makes one")
        name = name or names[-1]
        return Study(name, storage.read_record(opened, name))
