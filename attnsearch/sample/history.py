"""History: what a sampler knows of a study, read from its trials alone.

Nothing that a proposal depends on lives in memory only, so a resumed study proposes what an uninterrupted one
would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from attnsearch.core.trial import TrialResult
from attnsearch.sample.domain import Codes, Domain, Floats

CLAIM = "attnsearch:claim"  # system attribute: the codes of a proposal, before its parameters are written
_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
}
RUNG = "rung:"  # user attributes rung:0, rung:1: validation error at a rung


@dataclass(frozen=True)
class Observation:
    """One search trial: its arch, and what is known of its error.

    `error` is the final error of a complete trial, `rungs` the errors at the rungs reached, in order.
    """

    number: int
    codes: Codes
    state: TrialState
    error: float | None
    rungs: tuple[float, ...]


class History:
    """Reads studies, remembering finished trials (they never change)."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._finished: dict[tuple[str, int], Observation | None] = {}

    def read(self, study: Study, *, but: int | None = None) -> list[Observation]:
        """Search trials by number, without trial `but`; other roles (repeats, confirm) and lost ones are left out."""
        observations = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number == but:
                continue
            known = study.study_name, trial.number
            if known in self._finished:
                entry = self._finished[known]
            else:
                entry = self._past(trial)
                if trial.state.is_finished():
                    self._finished[known] = entry
            if entry is not None:
                observations.append(entry)
        return observations

    def _past(self, trial: FrozenTrial) -> Observation | None:
        if trial.user_attrs.get("role", "search") != "search" or trial.user_attrs.get("lost"):
            return None  # a lost training is begun again, and must change nothing for those after it
        claim = trial.system_attrs.get(CLAIM)
        chosen: dict[str, Any] = trial.params or trial.system_attrs.get("fixed_params", {})
        codes = self._domain.encode(chosen)
        if codes is None and claim is not None:
            codes = np.array(claim)
        if codes is None:
            return None
        complete = trial.state == TrialState.COMPLETE
        rungs = [value for name, value in sorted(trial.user_attrs.items()) if name.startswith(RUNG)]
        return Observation(
            trial.number, codes, trial.state, trial.values[0] if complete else None, tuple(rungs)
        )


class MemoryHistory:
    """The same history from the rows that the one coordinator of a study keeps in memory.

    Optuna reads every unfinished trial anew at each call, 0.8 to 1.5 ms a trial; with 100 workers that is most of an
    ask.

    Args:
        rows: gives all trials of the study.
        rungs: the epochs that rungs lie after in a training of so many epochs.
    """

    def __init__(
        self,
        domain: Domain,
        rows: Callable[[], Iterable[TrialResult]],
        rungs: Callable[[int], tuple[int, ...]],
    ) -> None:
        self._domain, self._rows, self._rungs = domain, rows, rungs
        self._known: dict[int, tuple[TrialResult, Observation | None]] = {}

    def read(self, study: Study, *, but: int | None = None) -> list[Observation]:
        """See `History.read`; the study itself is not asked."""
        observations = []
        for row in self._rows():
            known = self._known.get(row.number)
            if known is None or known[0] is not row:  # rows are replaced, never changed
                self._known[row.number] = known = row, self._past(row)
            if known[1] is not None and row.number != but:
                observations.append(known[1])
        return observations

    def _past(self, row: TrialResult) -> Observation | None:
        if row.role != "search" or row.lost:
            return None
        codes = self._domain.encode(dict(row.sites))
        if codes is None:
            return None
        rungs = tuple(row.curve[e - 1].val_error for e in self._rungs(row.epochs) if len(row.curve) >= e)
        return Observation(row.number, codes, _STATES.get(row.state, TrialState.FAIL), row.error, rungs)


def imputed(observations: list[Observation]) -> dict[int, tuple[float, float]]:
    """Final error predicted for each stopped trial, and its standard deviation: {number: (error, sd)}.

    A straight line through (error at the rung, final error) of the complete trials, per rung; with fewer than
    three pairs the error at the rung itself, with the spread of those errors.
    """
    out = {}
    for entry in observations:
        if entry.state == TrialState.PRUNED and entry.rungs:
            rung = len(entry.rungs) - 1
            pairs = [
                (p.rungs[rung], p.error) for p in observations if p.error is not None and len(p.rungs) > rung
            ]
            out[entry.number] = _foresee(entry.rungs[-1], np.array(pairs, dtype=float))
    return out


def _foresee(error: float, pairs: Floats) -> tuple[float, float]:
    if len(pairs) < 3 or np.ptp(pairs[:, 0]) == 0:
        return error, float(pairs.std()) if len(pairs) > 1 else 1.0
    slope, offset = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    residual = pairs[:, 1] - slope * pairs[:, 0] - offset
    return float(slope * error + offset), float(np.sqrt((residual**2).sum() / (len(pairs) - 2)))
