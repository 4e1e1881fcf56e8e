"""The audit of a proxy, from the archs it draws to what a later run makes of its outcome."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

import attnsearch
from attnsearch.core.errors import UsageError
from attnsearch.report.archs import audit_label
from attnsearch.study import proxy_audit
from attnsearch.study.observer import Observer
from tests.engine import instead_of_workers

SPACE = """
question: Which, where?
host: resnet8
stages: {attention: [none, simam, gct]}
recipe: {epochs: 2}
"""
SETTINGS = {"data": "digits", "trials": 12, "sampler": "random", "confirm": 0, "workers": 1}


class Notes(Observer):
    def __init__(self):
        self.said = []

    def note(self, message):
        self.said.append(message)


def quality(arch):
    """A number in 0..10 that an arch always has and that its cost does not tell."""
    return hashlib.sha256(arch.key.encode()).digest()[0] / 25.6


def good(arch, seed, epochs):
    return 30 + quality(arch) - epochs + 0.01 * (seed % 10)


def inverted(arch, seed, epochs):
    return 30 + (quality(arch) if epochs <= 2 else -quality(arch)) + 0.01 * (seed % 10)


@pytest.fixture
def study(tmp_path, monkeypatch):
    def make(error):
        engine = instead_of_workers(monkeypatch, error)
        monkeypatch.setattr(
            "attnsearch.report.write", lambda record, folder, pictures=True: []
        )  # pictures take their time
        made = run(tmp_path)
        engine.jobs.clear()
        return made, engine

    return make


def run(tmp_path, **more):
    (tmp_path / "which.yaml").write_text(SPACE)
    return attnsearch.run(str(tmp_path / "which.yaml"), out=tmp_path, study="s", **{**SETTINGS, **more})


def audit(tmp_path, archs=10, **more):
    return proxy_audit.validate("s", archs=archs, factor=3, out=tmp_path, **more)


def test_a_good_proxy_is_trusted_and_an_inverted_one_is_not(study, tmp_path):
    study(good)
    outcome = audit(tmp_path, archs=24).record.attrs["audit"]
    assert outcome["verdict"] == "trust"
    assert outcome["tau"] == pytest.approx(1.0)
    assert (outcome["archs"], outcome["epochs"], outcome["long_epochs"]) == (24, 2, 6)


def test_an_untrusted_proxy_stops_nothing_and_marks_every_table(study, tmp_path):
    study(inverted)
    record = audit(tmp_path).record
    assert record.attrs["audit"]["verdict"] == "do not trust"
    assert audit_label(record.info) == "proxy audit: do not trust"
    watcher = Notes()
    again = run(tmp_path, resume=True, observer=watcher, trials=14)
    assert any("no training is stopped early" in said for said in watcher.said)
    assert again.record.attrs["pruner"].startswith("none")


def test_trainings_long_twice_for_eight_and_short_for_archs_that_are_new(study, tmp_path):
    made, engine = study(good)
    audit(tmp_path, archs=20)
    short = [job for job in engine.jobs if job.recipe.epochs == 2]
    long = [job for job in engine.jobs if job.recipe.epochs == 6]
    known = len({trial.key for trial in made.record.trials})
    assert len(short) == 20 - known
    assert len(long) == 20 + 8
    searched = {trial.seed for trial in made.record.trials}
    assert not searched & {job.seed for job in long}
    assert {job.seed for job in short} == {0}


def test_with_more_seeds_every_arch_has_them_at_both_lengths_and_none_at_both(study, tmp_path):
    study(good)
    record = audit(tmp_path, archs=10, seeds=2).record
    planned = {str(spec) for spec in record.info.audit_plan.archs}
    rows = [trial for trial in record.trials if str(trial.spec) in planned]
    for epochs in (2, 6):
        seeds = Counter(trial.key for trial in rows if trial.epochs == epochs)
        assert set(seeds.values()) == {2}
    assert not {t.seed for t in rows if t.epochs == 2} & {t.seed for t in rows if t.epochs == 6}
    assert record.attrs["audit"]["short_sd"] is not None


def test_an_audit_goes_on_where_it_was_interrupted_and_runs_nothing_twice(study, tmp_path):
    _, engine = study(good)
    with pytest.raises(attnsearch.core.errors.NoResultError, match="the same command goes on"):
        audit(tmp_path, timeout=1e-9)
    whole = audit(tmp_path)
    cells = [(job.spec["stages"].__repr__(), job.seed, job.recipe.epochs) for job in engine.jobs]
    assert len(cells) == len(set(cells)) == 18  # 10 archs long, 8 of them twice
    engine.jobs.clear()
    assert audit(tmp_path).record.attrs["audit"] == whole.record.attrs["audit"]
    assert engine.jobs == []


def test_a_seed_that_shifts_all_archs_alike_ranks_none_of_them(study, tmp_path):
    def shifted(arch, seed, epochs):
        return 30 + quality(arch) + (20 if seed % 1000 == 951 else 0)  # the second seed of the first eight

    study(shifted)
    outcome = audit(tmp_path, archs=24).record.attrs["audit"]
    assert outcome["tau"] == pytest.approx(1.0)
    assert outcome["run_sd"] == pytest.approx(0.0, abs=1e-9)


def test_an_audit_neither_fills_nor_steers_a_later_run(study, tmp_path):
    _, engine = study(good)
    audit(tmp_path)
    engine.jobs.clear()
    again = run(tmp_path, resume=True, trials=15)
    assert len(engine.jobs) == 3
    assert sum(trial.role == "search" for trial in again.record.trials) == 15
    assert len(again.front()) <= len({t.key for t in again.record.trials if t.role != "audit"})


@pytest.mark.parametrize(("archs", "factor"), [(7, 4), (30, 1)])
def test_an_audit_too_small_to_tell_is_refused(archs, factor, tmp_path):
    with pytest.raises(UsageError, match="at least 8 archs and a factor of 2"):
        proxy_audit.validate("s", archs=archs, factor=factor, out=tmp_path)
