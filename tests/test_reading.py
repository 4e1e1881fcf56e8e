"""A study read by SQL alone against the same study read by Optuna."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from attnsearch.core.study_info import StudyRecord
from attnsearch.store.database import open_storage
from attnsearch.store.read import read_record, to_result
from attnsearch.store.sqlite import read_sqlite
from attnsearch.store.study_store import StudyStore
from attnsearch.study.study import open_study

SITES = {"stage1": CategoricalDistribution(("none", "se")), "stage2": CategoricalDistribution(("cbam", "gc"))}
KEPT = {"key": "ab", "arch": "se | gc", "spec": json.dumps({"host": "x"}), "versions": '{"torch": "2"}'}
CURVE = json.dumps([[1, 0.5, 0.6, 31.25, 1.5], [2, 0.4, 0.5, 30.0, 3.0]])


@pytest.fixture
def path(tmp_path):
    """Every state of a trial, values that are no numbers, attributes in any order, a companion, a later study."""
    path = tmp_path / "attnsearch.db"
    open_storage(f"sqlite:///{path}", create=True)
    url = f"sqlite:///{path}"
    study = optuna.create_study(study_name="mine", storage=url, directions=["minimize"] * 2)
    optuna.create_study(study_name="mine::curves", storage=url).add_trial(create_trial(value=1.0))
    for key, fact in {"sites": {"stage1": ["none", "se"]}, "seed": 3, "baseline": None, "größe": 0.1}.items():
        study.set_user_attr(key, fact)
    attributes = {**KEPT, "seed": 7, "curve": CURVE, "cost:macs": 4.0, "cost:flops": 8.5, "role": "confirm"}
    params = {"stage2": "gc", "stage1": "se"}
    for values in ([30.0, 4.0], [float("inf"), 4.0], [float("-inf"), 1.0]):
        study.add_trial(
            create_trial(values=values, params=params, distributions=SITES, user_attrs=attributes)
        )
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING):
        told = {"reason": "oom: 2 GB", "lost": True, "audited": 1, "seconds": 1.5}
        study.add_trial(create_trial(state=state, user_attrs=told))
    optuna.create_study(study_name="later", storage=url).set_user_attr("fingerprint", "ab")
    return path


def by_optuna(path: Path, name: str) -> StudyRecord:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{path}")
    return StudyRecord(name, study.user_attrs, tuple(map(to_result, study.get_trials())))


def test_a_store_does_not_ask_optuna_for_every_trial(path, monkeypatch):
    """Ten thousand trials take Optuna 15 s and 1.3 GB, since each has distributions of its own."""
    storage = open_storage(f"sqlite:///{path}", create=False)
    monkeypatch.setattr(optuna.Study, "get_trials", lambda *_, **__: pytest.fail("asked Optuna"))
    assert len(read_record(storage, "mine").trials) == 7
    sites = {site: distribution.choices for site, distribution in SITES.items()}
    store = StudyStore(storage, "mine", sites, ["error", "cost"], ["macs"])
    store.fail_stale_trials(retries=1, released=False)
    assert [row.state for row in store.results.values()].count("failed") == 3


@pytest.mark.parametrize("name", ["mine", "later"])
def test_it_is_what_optuna_reads(path, name):
    expected = by_optuna(path, name)
    found = read_sqlite(path, name)
    assert found == read_record(open_storage(f"sqlite:///{path}", create=False), name) == expected
    assert repr(found) == repr(expected), "in the same order too"
    assert len(found.trials) == (7 if name == "mine" else 0)


def test_the_latest_study_is_read_when_none_is_named(path):
    assert read_sqlite(path, None).name == "later"


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_what_is_not_known_is_left_to_optuna(path):
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{path}")
    numbers = {"width": IntDistribution(8, 64)}
    study.add_trial(create_trial(values=[1.0, 2.0], params={"width": 16}, distributions=numbers))
    assert read_sqlite(path, "mine") is None
    assert open_study("mine", f"sqlite:///{path}").record.trials[-1].sites == {"width": 16}
    assert read_sqlite(path, "unheard") is None
    assert read_sqlite(path.with_name("nothing.db"), None) is None
    assert read_sqlite(path, "later") is not None
    spoil(path, "UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    assert read_sqlite(path, "later") is None
