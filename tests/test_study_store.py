"""The store writes what Optuna's public calls write, and nothing that they cannot read."""

from __future__ import annotations

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution

from attnsearch.core.study_attrs import CostsInfo, SearchInfo
from attnsearch.core.trial import TrialResult
from attnsearch.store import database
from attnsearch.store.batch import write_batch, write_lines
from attnsearch.store.study_store import StudyStore

ATTRIBUTES = {"key": "ab", "seed": 3, "protected": True, "cost:macs": 1.5e9, "curve": "[[1, 2.0]]", "ä": None}
PARAMS = {"stage1": (CategoricalDistribution(("none", "se", "eca")), "eca")}


@pytest.fixture
def storage(tmp_path):
    return database.open_storage(f"sqlite:///{tmp_path / 's.db'}", create=True)


def rows(storage, table: str) -> dict[int, list[tuple[object, ...]]]:
    """Every row of a table by trial, without the numbers that count rows."""
    query = {
        "trial_user_attributes": "SELECT trial_id, key, value_json FROM trial_user_attributes ORDER BY key",
        "trial_params": "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params",
    }[table]
    found: dict[int, list[tuple[object, ...]]] = {}
    with storage._backend.engine.connect() as connection:
        for trial, *values in connection.execute(sqlalchemy.text(query)):
            found.setdefault(trial, []).append(tuple(values))
    return found


def test_a_batch_is_what_the_public_calls_write(storage):
    study = optuna.create_study(storage=storage, study_name="s")
    ids = [storage.create_new_trial(storage.get_study_id_from_name("s")) for _ in range(2)]
    write_batch(storage, ids[0], ATTRIBUTES, PARAMS)
    for name, (distribution, value) in PARAMS.items():
        storage.set_trial_param(ids[1], name, distribution.to_internal_repr(value), distribution)
    for key, value in ATTRIBUTES.items():
        storage.set_trial_user_attr(ids[1], key, value)
    for table in ("trial_user_attributes", "trial_params"):
        written = rows(storage, table)
        assert written[ids[0]] == written[ids[1]]
    ours, theirs = study.get_trials()
    assert (ours.params, ours.user_attrs) == (theirs.params, theirs.user_attrs)
    assert ours.params == {"stage1": "eca"}


def test_lines_are_what_the_public_calls_write(storage):
    study = optuna.create_study(storage=storage, study_name="s")
    ids = [storage.create_new_trial(storage.get_study_id_from_name("s")) for _ in range(2)]
    values = [(1, 31.25), (2, float("nan")), (3, float("inf")), (4, float("-inf"))]
    write_lines(storage, [(ids[0], *line) for line in values], [(ids[0], "rung:0", 31.25)])
    for step, value in values:
        storage.set_trial_intermediate_value(ids[1], step, value)
    storage.set_trial_user_attr(ids[1], "rung:0", 31.25)
    ours, theirs = study.get_trials()
    assert repr(ours.intermediate_values) == repr(theirs.intermediate_values)
    assert len(ours.intermediate_values) == 4
    assert ours.user_attrs == theirs.user_attrs == {"rung:0": 31.25}


def test_an_attribute_that_is_written_again_replaces_the_first(storage):
    study = optuna.create_study(storage=storage, study_name="s")
    trial = storage.create_new_trial(storage.get_study_id_from_name("s"))
    write_batch(storage, trial, {"a": 1, "b": 2}, {})
    write_batch(storage, trial, {"a": 3}, {})
    assert study.get_trials()[0].user_attrs == {"a": 3, "b": 2}


def test_a_batch_is_whole_or_not_there(storage):
    study = optuna.create_study(storage=storage, study_name="s")
    trial = storage.create_new_trial(storage.get_study_id_from_name("s"))
    write_batch(storage, trial, {}, PARAMS)
    with pytest.raises(sqlalchemy.exc.IntegrityError):  # a parameter is new but once
        write_batch(storage, trial, {"a": 1}, PARAMS)
    assert study.get_trials()[0].user_attrs == {}


def test_only_what_has_changed_of_a_study_is_written(storage, monkeypatch):
    store = StudyStore(storage, "s", {"stage1": ("none", "se")}, ["error", "macs"], ["macs"])
    written: list[str] = []
    whole = storage.set_study_user_attr
    monkeypatch.setattr(
        storage,
        "set_study_user_attr",
        lambda study, key, value: written.append(key) or whole(study, key, value),
    )
    store.set_attrs(SearchInfo(sampler="pool"), CostsInfo(over_limits=0))
    assert written == ["sampler", "over_budget"]  # none over the limits says something, an empty list nothing
    store.set_attrs(SearchInfo(sampler="pool", pruner="par"))
    assert written[2:] == ["pruner"]
    assert (store.info.search.pruner, store.info.costs.over_limits) == ("par", 0)


def test_numbers_are_those_of_the_storage_also_when_others_add_trials(storage):
    """A trial is not read back for its number; one that somebody adds beside the run moves the next."""
    store = StudyStore(storage, "s", {"stage1": ("none", "se")}, ["error", "macs"], ["macs"])
    asked = []
    row = TrialResult(key="k", arch="a", seed=0, epochs=1, state="running", costs={"macs": 1.0})

    class Sampler:
        def exhausted(self, study):
            return False

        def sample_relative(self, study, trial, search_space):
            asked.append((trial.number, trial._trial_id))
            return {"stage1": "se"}

    assert [store.start(row, None).number, store.ask(Sampler())[0]] == [0, 1]
    store.study.enqueue_trial({"stage1": "none"})
    assert [store.ask(Sampler())[0], store.start(row, None).number] == [3, 4]
    for number, trial in asked:
        assert storage.get_trial(trial).number == number
    again = StudyStore(storage, "s", {"stage1": ("none", "se")}, ["error", "macs"], ["macs"])
    assert again.ask(Sampler())[0] == 5
