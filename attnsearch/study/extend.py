"""A changed space is a new study; the trials of an earlier one are copied for the archs that both have.

Optuna's categorical parameters cannot change within a study, so options are never added to one: its finished trials are
replayed into another, each with the parameters that its arch has there.
"""

from __future__ import annotations

from dataclasses import replace

from attnsearch.core.errors import DataError, UsageError
from attnsearch.core.messages import Outcome
from attnsearch.core.study_info import StudyRecord
from attnsearch.data import Data
from attnsearch.sample.rungs import Rungs
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space
from attnsearch.store.study_store import StudyStore
from attnsearch.study.starting_weights import check_same


def replay(old: StudyRecord, store: StudyStore, space: Space, data: Data, rungs: Rungs) -> int:
    """Take every finished trial of `old` whose arch the space has; the answer is their number.

    Raises:
        DataError: the images were others. UsageError: the recipe was another.
    """
    if old.info.data is None or old.info.data.fingerprint != data.fingerprint:
        raise DataError(f"study '{old.name}' saw other images: its results say nothing about these")
    before, recipe = old.info.run.recipe or space.recipe, space.recipe.to_dict()
    changed = [key for key, was in before.to_dict().items() if was != recipe[key]]
    if changed:
        raise UsageError(f"study '{old.name}' trained by another recipe ({', '.join(changed)})")
    check_same(old.name, old.info.weights, store.info.weights)
    taken = 0
    for row in old.trials:
        if row.lost or row.state not in ("complete", "stopped") or row.role == "audit":
            continue
        choice = space.choice(Arch.from_dict(row.spec))
        if choice is None and row.key != space.baseline().key:
            continue
        unrun = replace(row, state="running", curve=(), error=None, counts=None, sites=choice or {})
        started = store.start(unrun, choice)
        reached = [epoch.val_error for epoch in row.curve if epoch.epoch in rungs.epochs]
        known = {f"rung:{i}": error for i, error in enumerate(reached)} | {"replayed_from": old.name}
        outcome = Outcome(
            started.number, row.state, row.curve, row.reason, row.seconds, row.device, counts=row.counts
        )
        store.finish(started.number, outcome, known)
        taken += 1
    return taken
