"""A task is one training to do; the coordinator asks a schedule for the next whenever a worker is free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from attnsearch.core.trial import Role, TrialResult
from attnsearch.space.arch import Arch
from attnsearch.store.results import counts
from attnsearch.store.study_store import StudyStore


@dataclass(frozen=True)
class Task:
    """One training to do.

    Args:
        epochs: where they are not the recipe's.
        number: set where the trial is already in the study (a sampler asked for it).
    """

    arch: Arch
    seed: int
    role: Role
    protected: bool = False
    choice: Mapping[str, str] | None = None
    number: int | None = None
    attempt: int = 0
    epochs: int | None = None


Costed = tuple[Arch, Mapping[str, float]]  # with its costs


class Schedule(Protocol):
    """What the coordinator works through; an audit answers another question than the study's and does not end it."""

    total: int
    is_audit: bool

    @property
    def may_end_early(self) -> str:
        """Why fewer or shorter trainings than planned may do, in words; empty where they may not."""

    def expected(self) -> list[Costed]:
        """The archs that are trained, or a sample of them, the baseline first; empty where they are not costed."""

    def next(self) -> Task | None:
        """The next task; None when there is none now, or ever: then `ended` says why once nothing runs."""

    @property
    def ended(self) -> str:
        """Why there is nothing more to do, in words; empty while there is."""


def counted(store: StudyStore) -> list[TrialResult]:
    """Trainings that count for a run: those of an audit come on top, lost ones are run again."""
    return [row for row in store.results.values() if counts(row)]
