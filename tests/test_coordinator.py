"""The coordinator and its schedules on an engine that answers at once, so that hundreds of trials take seconds."""

from __future__ import annotations

import ast
import hashlib
import re
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from attnsearch import report as reports
from attnsearch.core.errors import Interrupted, NoResultError, UsageError
from attnsearch.core.messages import Job, Outcome
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Epoch
from attnsearch.data import open_data
from attnsearch.report import sentences
from attnsearch.report.finalists import positive_control
from attnsearch.space.space import load_space
from attnsearch.study.coordinator import Coordinator
from attnsearch.study.observer import Observer
from attnsearch.study.run import Run
from attnsearch.study.search import SearchSchedule
from attnsearch.study.search_shape import block_seeds, shape
from attnsearch.study.study import open_study
from tests.engine import FakeEngine

SMALL = """
question: Where does ECA help?
host: resnet8
stages: {attention: [none, {block: eca, kernel: [3, 5]}, se]}
recipe: {epochs: 4}
"""


class Oracle(FakeEngine):
    """Errors from a formula: 20 %, less 2 points for each stage with a block, plus noise by arch and seed."""

    def __init__(self, *, slots: int = 2, dies: tuple[int, ...] = (), fails: str = "") -> None:
        super().__init__(by_formula, slots=slots, dies=dies, fails=fails)


def by_formula(job: Job) -> tuple[Epoch, ...]:
    blocks = sum("attention" in stage for stage in job.spec["stages"])
    digest = hashlib.sha256(f"{job.spec}{job.seed}".encode()).digest()
    last = 20 - 2 * blocks + (digest[0] / 255 - 0.5) * 1.0
    return tuple(Epoch(e, 1.0, 1.0, last + 10 / e, float(e)) for e in range(1, job.recipe.epochs + 1))


class OneAtATime(Oracle):
    """One worker; interrupted as by a signal after so many finished trainings."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__(slots=1)
        self.left = until

    def wait(self, seconds):
        messages = super().wait(seconds)
        if self.left is not None:
            if self.left == 0:
                raise Interrupted("stopped", 2)
            self.left -= any(isinstance(message, Outcome) for message in messages)
        return messages


class Noted(Oracle):
    """Writes down what is asked of the engine, in order; its places are ready after so many looks."""

    def __init__(self, *, slots: int, ready_after: int = 0) -> None:
        super().__init__(slots=slots)
        self.places, self.left = slots, ready_after
        self.calls: list[str] = []
        self.slots = 0 if ready_after else slots

    def submit(self, job):
        self.calls.append("submit")
        super().submit(job)

    def wait(self, seconds):
        self.left -= 1
        self.slots = self.slots if self.left > 0 else self.places
        self.calls.append("wait")
        return super().wait(seconds)


def test_workers_are_heard_before_each_job_that_is_given_out(question, tmp_path, monkeypatch):
    """A worker that waits at a rung must not wait for the proposals of all free places."""
    engine = Noted(slots=8)
    go(question, tmp_path, monkeypatch, engine, trials=24, workers=8)
    assert engine.calls.count("submit") == 24
    assert ("submit", "submit") not in set(pairwise(engine.calls))


def test_a_schedule_with_nothing_to_give_is_asked_again_only_once_a_training_has_ended(
    question, tmp_path, monkeypatch
):
    engine, answers = Noted(slots=8), []
    monkeypatch.setattr(SearchSchedule, "next", recorded(SearchSchedule.next, answers))
    go(question, tmp_path, monkeypatch, engine, trials=24, workers=8)
    assert answers.count(None) <= 24, "at most once for each training that ends"


def recorded(call, answers):
    def method(self):
        answers.append(call(self))
        return answers[-1]

    return method


def test_an_engine_without_a_place_for_a_while_is_waited_for(question, tmp_path, monkeypatch):
    study = go(question, tmp_path, monkeypatch, Noted(slots=2, ready_after=5), trials=6, confirm=0.0)
    assert sum(row.finished for row in study.record.trials) == 6


def test_the_time_of_a_training_counts_from_when_a_worker_took_it_up():
    """A worker that starts imports torch first; a training in its queue was ended for that."""
    cancelled = []
    coordinator = SimpleNamespace(
        settings=SimpleNamespace(trial_timeout=4.0),
        engine=SimpleNamespace(cancel=lambda number, reason: cancelled.append((number, reason))),
        running={1: None, 2: time.monotonic() - 3.0, 3: time.monotonic() - 5.0},
    )
    Coordinator._cancel_hanging(coordinator)
    assert cancelled == [(3, "timeout: longer than 4 s")]


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return load_space(path)


def go(question, tmp_path, monkeypatch, oracle=None, **settings):
    monkeypatch.setattr(
        "attnsearch.train.local_engine.LocalPool", lambda *args, **options: oracle or Oracle()
    )
    wanted = Settings(**{"data": "digits", "out": tmp_path / "results", "device": "cpu", **settings}).check()
    return Run(question, wanted, Observer()).execute()


def test_the_baseline_comes_first_with_as_many_seeds_as_any_rival(question, tmp_path, monkeypatch):
    found = go(question, tmp_path, monkeypatch, trials=30)
    rows = found.record.trials
    baseline = found.record.attrs["baseline"]
    assert [row.key for row in rows[:2]] == [baseline] * 2
    seeds = {key: {r.seed for r in rows if r.key == key} for key in {r.key for r in rows}}
    assert all(rival <= seeds[baseline] for rival in seeds.values())


@pytest.mark.parametrize("trials", [2, 3, 6])
def test_few_trials_try_archs_too(question, tmp_path, monkeypatch, trials):
    found = go(question, tmp_path, monkeypatch, trials=trials).record
    assert len(found.trials) == trials
    assert len({row.key for row in found.trials} - {found.attrs["baseline"]}) >= trials // 2


@pytest.mark.parametrize("trials", [26, 27])
def test_no_trial_is_left_over_behind_the_last_block(question, tmp_path, monkeypatch, trials):
    found = go(question, tmp_path, monkeypatch, trials=trials, pruner="one-epoch").record
    assert (len(found.trials), found.attrs["ended"]) == (trials, f"all {trials} trials are done")
    block = [row for row in found.trials if row.role == "report"]
    plain, narrow = found.attrs["baseline"], next(iter(found.attrs["controls"]))
    seeds = {key: {row.seed for row in block if row.key == key} for key in {row.key for row in block}}
    finalists = [found for key, found in seeds.items() if key not in (plain, narrow)]
    assert seeds[plain] == seeds[narrow]
    assert all(len(each) >= 3 and each <= seeds[plain] for each in finalists)


@pytest.mark.parametrize(
    ("trials", "archs", "seeds", "further"),
    [
        *(
            (9, 3, 3, 0),
            (11, 3, 3, 1),
            (13, 3, 4, 0),
            (14, 3, 4, 1),
            (16, 3, 4, 2),
            (20, 3, 4, 4),
            (22, 3, 6, 2),
        ),
        *((24, 3, 8, 0), (30, 3, 10, 0), (18, 4, 4, 1), (24, 4, 4, 4)),
    ],
)
def test_what_a_last_block_leaves_over_goes_to_the_baseline_and_the_control(trials, archs, seeds, further):
    assert block_seeds(trials, archs, control=True) == (seeds, further)
    assert seeds * archs + 2 * further <= trials
    assert block_seeds(trials, archs, control=False) == (trials // archs, 0)


def test_the_control_is_judged_in_all_its_seeds_and_the_finalist_in_those_it_has(
    question, tmp_path, monkeypatch
):
    found = go(question, tmp_path, monkeypatch, trials=30, confirm=0.67, pruner="one-epoch").record
    search, planned = found.info.search, shape(30, 0.67, control=True)
    assert (len(search.report_repeats), len(search.control_repeats)) == (4, 4)
    assert (planned.archs, planned.finalists, planned.seeds, planned.pair) == (9, 1, 4, 8)
    assert sum(trial.role == "search" for trial in found.trials) == planned.archs
    report = reports.build(found)
    assert report.final is not None
    assert {verdict.n for verdict in report.final.verdicts} == {4}
    verdict = positive_control(found, report.epochs)
    assert verdict is not None
    assert verdict.n == 8


def test_no_training_is_repeated(question, tmp_path, monkeypatch):
    rows = go(question, tmp_path, monkeypatch, trials=60).record.trials
    assert len(rows) == 60
    assert len({(row.key, row.seed) for row in rows}) == 60


def test_the_users_own_archs_come_first_and_are_trained_to_the_end(question, tmp_path, monkeypatch):
    own = ("se | none | eca(kernel=5)", "none | se | se")
    rows = go(question, tmp_path, monkeypatch, trials=20, enqueue=own).record.trials
    assert [row.arch for row in rows[2:4]] == list(own)
    assert all(row.protected and row.state == "complete" for row in rows[2:4])


@pytest.mark.parametrize(
    ("said", "budget", "words"),
    [
        ("sse", "", "Unknown option 'sse'. Did you mean 'se'?"),
        ("se | none", "", "names 2 options, the space has 3 sites: stage1, stage2, stage3"),
        (
            "se | none | eca(kernel=7)",
            "",
            "'eca(kernel=7)' is no option of stage3 in this space. Known: none, eca(kernel=3), eca(kernel=5), se",
        ),
        ("se", "params<=1.00015x", "over params<=1.00015x"),
    ],
)
def test_what_cannot_be_enqueued(question, tmp_path, monkeypatch, said, budget, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        go(question, tmp_path, monkeypatch, trials=20, enqueue=(said,), budget=budget)


@pytest.mark.parametrize(("confirm", "rest"), [(0.0, "will stop at 4"), (0.3, "the rest are further seeds")])
def test_more_trials_than_archs_is_said(question, tmp_path, monkeypatch, confirm, rest):
    noted = []
    monkeypatch.setattr(Observer, "note", lambda self, message: noted.append(message))
    tied = replace(question, tied=True, choices={"stages": question.choices["stage1"]})
    rows = go(tied, tmp_path, monkeypatch, trials=20, confirm=confirm).record.trials
    assert f"only 4 distinct architectures; {rest}" in noted
    assert len({row.key for row in rows}) == 4 + bool(confirm), (
        "and the positive control, where there is a last block"
    )


@pytest.mark.parametrize("sampler", ["pool", "tpe", "nsga2", "random"])
def test_samplers_propose_each_arch_once(question, tmp_path, monkeypatch, sampler):
    rows = go(question, tmp_path, monkeypatch, trials=40, sampler=sampler, confirm=0.0).record.trials
    search = [row.key for row in rows if row.role == "search"]
    assert len(search) == len(set(search))
    assert len(search) == 40 or sampler == "pool"  # the pool ends when nothing left promises an improvement
    assert len(search) >= 20


def test_trials_is_a_total_over_resumes(question, tmp_path, monkeypatch):
    go(question, tmp_path, monkeypatch, trials=10)
    with pytest.raises(UsageError, match=r"exists \(10 trials\). Use --resume or another --study"):
        go(question, tmp_path, monkeypatch, trials=10)
    assert len(go(question, tmp_path, monkeypatch, trials=14, resume=True).record.trials) == 14


@pytest.mark.parametrize("after", [1, 4, 9, 15])
def test_a_killed_and_resumed_study_does_what_an_uninterrupted_one_does(
    question, tmp_path, monkeypatch, after
):
    whole = go(question, tmp_path, monkeypatch, OneAtATime(), trials=20, study="whole")
    with pytest.raises(Interrupted):
        go(question, tmp_path, monkeypatch, OneAtATime(until=after), trials=20, study="parts")
    parts = go(question, tmp_path, monkeypatch, OneAtATime(), trials=20, study="parts", resume=True)
    cells = [
        {(r.key, r.seed, r.error) for r in found.record.trials if not r.lost} for found in (whole, parts)
    ]
    assert cells[0] == cells[1]
    assert not any(row.state == "running" for row in parts.record.trials)


def test_a_lost_training_is_run_again_with_its_seed(question, tmp_path, monkeypatch):
    rows = go(question, tmp_path, monkeypatch, Oracle(dies=(4,)), trials=10).record.trials
    lost = [row for row in rows if row.lost]
    assert [row.number for row in lost] == [4]
    again = [row for row in rows if (row.key, row.seed) == (lost[0].key, lost[0].seed) and not row.lost]
    assert [(row.state, row.attempt) for row in again] == [("complete", 1)]
    assert sum(not row.lost for row in rows) == 10


def test_failures_from_the_start_end_the_run(question, tmp_path, monkeypatch):
    with pytest.raises(NoResultError, match="10 of the first 10 trials failed: RuntimeError: shapes"):
        go(question, tmp_path, monkeypatch, Oracle(fails="RuntimeError: shapes"), trials=30)
    assert NoResultError("x").exit_code == 5


def test_nothing_over_budget_is_trained(question, tmp_path, monkeypatch):
    rows = go(question, tmp_path, monkeypatch, trials=20, budget="params<=1.001x").record.trials
    baseline = next(row for row in rows if row.key == rows[0].key)
    assert all(row.costs["params"] <= 1.001 * baseline.costs["params"] for row in rows)
    # the limit's own cost and range, not that of the axis: 77,754 parameters without a gate
    with pytest.raises(UsageError, match=r"keeps params<=10: its params are 77,754 to 7\d,\d{3}$"):
        go(question, tmp_path, monkeypatch, trials=20, budget="params<=10", study="none")


def test_a_changed_space_is_refused_with_the_difference(question, tmp_path, monkeypatch):
    go(question, tmp_path, monkeypatch, trials=4, study="s")
    path = tmp_path / "changed.yaml"
    path.write_text(SMALL.replace("[3, 5]", "[3, 7]"))
    with pytest.raises(UsageError, match=r"stage1: -eca\(kernel=5\) \+eca\(kernel=7\)"):
        go(load_space(path), tmp_path, monkeypatch, trials=6, study="s", resume=True)


def test_optuna_reads_the_study_without_attnsearch(question, tmp_path, monkeypatch):
    go(question, tmp_path, monkeypatch, trials=12)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/results/attnsearch.db")
    assert study.metric_names == ["validation error (%)", "macs (multiply-adds)"]
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert complete
    for trial in complete:
        assert trial.values[1] == trial.user_attrs["cost:macs"]
        assert {"key", "arch", "seed", "curve", "device", "versions"} <= set(trial.user_attrs)
        assert trial.params["stage1"] in ("none", "eca(kernel=3)", "eca(kernel=5)", "se")
    assert study.best_trials
    curves = optuna.load_study(
        study_name="small::curves", storage=f"sqlite:///{tmp_path}/results/attnsearch.db"
    )
    assert any(len(trial.intermediate_values) == 4 for trial in curves.trials)


def test_a_design_leaves_out_what_a_limit_refuses(question, tmp_path, monkeypatch):
    found = go(question, tmp_path, monkeypatch, design="swap", seeds=2, study="d", budget="params<=1.00015x")
    bound = 1.00015 * 77_754
    assert all(row.costs["params"] <= bound for row in found.record.trials)
    # 791 parameters more than the plain host for SE, 3 x 3 for ECA of 3 weights, 3 x 5 for ECA of 5
    assert set(found.record.attrs["variants"].values()) == {
        "plain",
        "eca(kernel=3)",
        "null gate",
        "plain, widths 8-16-32",
    }
    assert found.record.info.costs.over_limits == 2
    with pytest.raises(UsageError, match=r"compares with what a limit refuses: 'reference' costs .* params"):
        go(
            question,
            tmp_path,
            monkeypatch,
            design="loo",
            reference="se",
            study="e",
            budget="params<=1.00015x",
        )


def test_a_design_runs_whole_blocks_with_its_controls(question, tmp_path, monkeypatch):
    found = go(question, tmp_path, monkeypatch, design="swap", seeds=3, study="d")
    rows = found.record.trials
    variants = found.record.attrs["variants"]
    assert set(variants.values()) >= {"plain", "se", "eca(kernel=3)", "eca(kernel=5)", "null gate"}
    # blocks follow one another: an interrupted run leaves whole ones
    assert [row.seed for row in rows] == sorted(row.seed for row in rows)
    assert {len({r.seed for r in rows if r.key == key}) for key in variants} == {3}
    verdicts = found.verdicts().set_index("variant")
    assert verdicts.loc["se", "verdict"].startswith("gain")  # 6 points by construction
    # the report's way to know more: the same command with more seeds
    more = go(question, tmp_path, monkeypatch, design="swap", seeds=4, study="d", resume=True)
    assert {len({r.seed for r in more.record.trials if r.key == key}) for key in variants} == {4}
    assert more.record.trials[: len(rows)] == rows
    # what the report gives as command is the call that makes this study again
    called = ast.parse(str(found.record.attrs["command"]), mode="eval").body
    given = {k.arg: ast.literal_eval(k.value) for k in called.keywords}
    assert ast.literal_eval(called.args[0]) == "space.yaml"
    assert {"design": "swap", "seeds": 3, "study": "d"}.items() <= given.items()
    assert Settings(**{**given, "out": Path(given["out"])}).check()


def test_a_study_can_be_opened_again(question, tmp_path, monkeypatch):
    go(question, tmp_path, monkeypatch, trials=8)
    again = open_study(out=tmp_path / "results")
    assert again.name == "small"
    assert len(again.trials()) == 8
    with pytest.raises(UsageError, match="Did you mean 'small'"):
        open_study("smal", out=tmp_path / "results")


def test_a_changed_space_takes_over_what_is_known(question, tmp_path, monkeypatch):
    old = go(question, tmp_path, monkeypatch, trials=14, study="old")
    path = tmp_path / "wider.yaml"
    path.write_text(SMALL.replace("kernel: [3, 5]", "kernel: [3, 7]"))
    wider = load_space(path)
    new = go(wider, tmp_path, monkeypatch, trials=20, study="new", extend="old")
    kept = {(r.key, r.seed, r.error) for r in old.record.trials if "kernel=5" not in r.arch}
    assert kept <= {(r.key, r.seed, r.error) for r in new.record.trials}
    assert len({(r.key, r.seed) for r in new.record.trials}) == len(new.record.trials) == 20
    with pytest.raises(UsageError, match="another recipe"):
        go(wider, tmp_path, monkeypatch, trials=20, study="newer", extend="old", epochs=5)


def test_the_last_block_is_whole_and_had_no_say(question, tmp_path, monkeypatch):
    rows = go(question, tmp_path, monkeypatch, trials=36).record.trials
    last = [row for row in rows if row.role == "report"]
    seeds = {row.seed for row in last}
    assert not seeds & {row.seed for row in rows if row.role != "report"}
    # 18 trials: 4 seeds of the finalist, the rest to the baseline and the positive control
    counts = Counter(row.key for row in last)
    assert sorted(counts.values()) == [4, 7, 7]
    assert counts[rows[0].key] == len(seeds) == 7


@pytest.mark.parametrize(
    ("own_val", "by_role"),
    [
        (False, {"search": (False, None), "confirm": (False, None), "report": (True, None)}),
        (True, {"search": (False, "first"), "confirm": (False, "first"), "report": (False, "second")}),
    ],
)
def test_the_last_block_is_judged_on_images_that_had_no_say(
    question, tmp_path, monkeypatch, own_val, by_role
):
    opened = open_data("digits")
    monkeypatch.setattr("attnsearch.study.run.open_data", lambda *a, **o: replace(opened, own_val=own_val))
    oracle = Oracle()
    rows = go(question, tmp_path, monkeypatch, oracle, trials=36).record.trials
    jobs = {job.number: job for job in oracle.jobs}
    for row in rows:
        job = jobs[row.number]
        assert (job.recipe.resplit, job.val_half) == by_role[row.role], row.role


def test_a_search_ends_in_a_verdict(question, tmp_path, monkeypatch):
    found = go(question, tmp_path, monkeypatch, trials=32).record
    said = " ".join(sentences.answer(reports.build(found)))
    assert "Verdict: gain." in said  # 2 points a block by construction, noise of half a point at most
    assert "rests on the last" in said
