"""What a database holds: its studies in one line each, and the removal of one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import optuna

from attnsearch.core.errors import UsageError, unknown
from attnsearch.store import database
from attnsearch.store.records import CURVES, OURS, our_studies
from attnsearch.store.sqlite import not_ours, sqlite_path


@dataclass(frozen=True)
class StudyEntry:
    """One study.

    Args:
        state: `running`, `ended`, `interrupted`, or `not attnsearch's` for a study of another program.
        trainings: in all, finished or not.
        began: date and time of the first training; empty before it.
        ended: why the last run ended, in words.
    """

    name: str
    question: str
    state: str
    trainings: int
    began: str
    ended: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_studies(url: str) -> list[StudyEntry]:
    """The studies of a database in the order they were made.

    Raises:
        EnvironmentFault: no database there, or one that cannot be read.
    """
    storage = database.open_storage(url, create=False)
    with database.faults(url, reading=True):
        summaries = optuna.get_all_study_summaries(storage)
    marked = {summary.study_name for summary in summaries if OURS in summary.user_attrs}
    ours = set(our_studies([summary.study_name for summary in summaries], marked))
    return [_entry(url, s, s.study_name in ours) for s in summaries if not s.study_name.endswith(CURVES)]


def remove_study(url: str, name: str) -> None:
    """Delete a study and its learning curves from the database.

    Raises:
        UsageError: no such study, or another program's. EnvironmentFault: it is being run.
    """
    entries = {entry.name: entry for entry in list_studies(url)}
    if name not in entries:
        raise UsageError(unknown("study", name, entries))
    if entries[name].state == "not attnsearch's":
        raise not_ours(name)
    storage = database.open_storage(url, create=False)
    with database.owned(url, name, storage), database.faults(url):
        names = {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
        for part in (name, f"{name}{CURVES}"):
            if part in names:
                optuna.delete_study(study_name=part, storage=storage)


def _entry(url: str, summary: optuna.study.StudySummary, ours: bool) -> StudyEntry:
    attrs, began = summary.user_attrs, summary.datetime_start
    return StudyEntry(
        name=summary.study_name,
        question=str(attrs.get("question", "")),
        state=_state(url, summary.study_name, attrs) if ours else "not attnsearch's",
        trainings=summary.n_trials,
        began=began.isoformat(sep=" ", timespec="minutes") if began else "",
        ended=str(attrs.get("ended", "")),
    )


def _state(url: str, name: str, attrs: dict[str, Any]) -> str:
    # A database server is not asked who runs a study: what the study says of its end is what is known.
    if sqlite_path(url) is not None and database.is_owned(url, name):
        return "running"
    return "ended" if attrs.get("ended") else "interrupted"
