"""Names of studies looked up by SQLite alone, against a database that Optuna made."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.store import sqlite


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    study = optuna.create_study(study_name="mine", storage=url)
    optuna.create_study(study_name="mine::curves", storage=url)
    optuna.create_study(study_name="empty", storage=url).set_user_attr("fingerprint", "ab")
    optuna.create_study(study_name="theirs", storage=url)
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        value = 1.0 if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value))
    lost = create_trial(state=TrialState.FAIL, user_attrs={"lost": True})
    study.add_trial(lost)
    return url


def test_three_trainings_ended_and_two_did_not(url):
    path = sqlite.sqlite_path(url)
    assert path is not None
    assert sqlite.trainings(path) == {"mine": 3, "empty": 0}


def test_what_a_user_is_told(url, tmp_path):
    with pytest.raises(UsageError, match=r"Unknown study 'mien'\. Did you mean 'mine'\? Known: mine, empty"):
        sqlite.check_study("mien", url)
    with pytest.raises(UsageError, match=r"study 'mine' exists \(3 trials\)\. Use --resume"):
        sqlite.check_free("mine", url)
    with pytest.raises(EnvironmentFault, match="No study database"):
        sqlite.check_study(None, f"sqlite:///{tmp_path / 'nothing.db'}")
    for refusing in (sqlite.check_study, sqlite.check_free):
        with pytest.raises(UsageError, match="study 'theirs' was not made by attnsearch"):
            refusing("theirs", url)
    for name in ("mine", "empty", None):
        sqlite.check_study(name, url)
    for name in ("empty", "another"):
        sqlite.check_free(name, url)


def test_what_cannot_be_read_passes(tmp_path):
    """Whoever opens it says what is wrong with it."""
    (tmp_path / "damaged.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    for url in (f"sqlite:///{tmp_path / 'damaged.db'}", "postgresql://host/db"):
        sqlite.check_study("mine", url)
        sqlite.check_free("mine", url)
