"""Plans before an ablation: where the noise comes from, and what the command says."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import attnsearch
from attnsearch.cli import app
from attnsearch.core.errors import NoResultError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.study import planning
from attnsearch.study.observer import Observer
from tests.engine import instead_of_workers

SPACE = """
question: Which?
host: {name: resnet8, width: 4}
stages: {attention: [none, simam]}
tied: true
recipe: {epochs: 1, batch_size: 64}
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "which.yaml").write_text(SPACE)
    return str(tmp_path / "which.yaml")


def record(errors, role="design"):
    """A study of archs `a`, `b`, ... whose rows of errors are given, a column for each seed."""
    trials = tuple(
        TrialResult(
            key=key, arch=key, seed=seed, epochs=2, state="complete", error=error, role=role, seconds=3.0
        )
        for key, row in zip("abc", errors, strict=False)
        for seed, error in enumerate(row)
    )
    return StudyRecord("s", {"recipe": {"epochs": 2}}, trials)


def test_noise_is_pooled_over_the_archs_of_a_study():
    noise = planning.known(record([[1.0, 2.0, 3.0], [4.0, 4.0, 7.0]], role="confirm"))
    assert noise.sd == pytest.approx(2**0.5)  # variances 1 and 3, two degrees of freedom each
    assert (noise.degrees, noise.rho, noise.seconds) == (4, 0.0, 3.0)


def test_whole_seed_blocks_tell_of_the_correlation_that_pairing_reached():
    # ICC(3,1) by hand: blocks 1, 2, 6 and 2, 4, 6: MS_block = 10.5, MS_error = 0.5, (10.5 - 0.5) / (10.5 + 0.5)
    assert planning.known(record([[1.0, 2.0, 6.0], [2.0, 4.0, 6.0]])).rho == pytest.approx(10 / 11)


def test_the_same_runs_under_two_names_count_once():
    once, twice = (
        record([[1.0, 2.0, 6.0], [2.0, 4.0, 6.0]]),
        record([[1.0, 2.0, 6.0]] * 2 + [[2.0, 4.0, 6.0]]),
    )
    assert planning.known(twice) == planning.known(once)


def test_one_run_of_each_arch_tells_nothing():
    with pytest.raises(NoResultError, match="--measure N makes some"):
        planning.known(record([[1.0], [2.0]]))


def test_a_plan_counts_the_controls(space):
    settings = Settings(data="digits", design="add", controls="null")
    assert [row.control for row in planning.rows(attnsearch.load_space(space), settings)] == [
        "",
        "",
        "null gate",
    ]


def test_the_command_prints_what_the_power_library_says(space):
    given = [
        "plan",
        "--space",
        space,
        "--data",
        "digits",
        "--controls",
        "none",
        "--effect",
        "1",
        "--sd",
        "1",
        "--json",
    ]
    said = json.loads(CliRunner().invoke(app, given).stdout)
    # one-sample t on pairs whose sd is sqrt(2): d = 0.707 takes 18 pairs (statsmodels TTestPower: 17.7)
    assert (said["variants"], said["seeds"], said["trials"]) == (2, 18, 36)


def test_a_search_is_planned_from_its_shape_and_the_noise(space):
    given = ["plan", "--space", space, "--data", "digits", "--design", "search", "--sd", "1"]
    more = ["--trials", "30", "--confirm", "0.67"]
    told = json.loads(CliRunner().invoke(app, [*given, *more, "--json"]).stdout)
    # 20 trials for fresh seeds: 8 pairs of baseline and control, 4 seeds of one finalist; the rest but one looks
    assert (told["archs"], told["finalists"], told["seeds"], told["pair"]) == (9, 1, 4, 8)
    # paired t test at 5 %, 80 % power, a million simulated: 2.128 sds of a pair with 4 pairs, 1.156 with 8
    assert told["visible"] == pytest.approx(2.128 * math.sqrt(2), rel=3e-3)
    assert told["control_visible"] == pytest.approx(1.156 * math.sqrt(2), rel=3e-3)
    text = CliRunner().invoke(app, [*given, *more]).stdout
    assert "The last block judges 1 finalist in 4 seeds" in " ".join(text.split())
    few = CliRunner().invoke(app, [*given, "--trials", "8"]).stdout
    assert "ends without a verdict" in " ".join(few.split())


def test_a_plan_wants_one_source_of_noise(space):
    for given in ([], ["--sd", "1", "--measure", "3"]):
        result = CliRunner().invoke(app, ["plan", "--space", space, "--data", "digits", *given])
        assert isinstance(result.exception, UsageError)
        assert "one of --sd, --study and --measure" in str(result.exception)


def test_measuring_trains_the_baseline_with_seeds_of_its_own(space):
    settings = Settings(data="digits", train_images=128, device="cpu")
    said = []
    noise = planning.measured(attnsearch.load_space(space), settings, 2, said.append)
    assert noise.degrees == 1
    assert noise.sd > 0
    assert noise.seconds > 0
    assert len(said) == 2


def test_a_design_says_what_it_can_see_before_it_runs(space, tmp_path, monkeypatch):
    class Notes(Observer):
        said = ()

        def note(self, message):
            self.said = (*self.said, message)

    instead_of_workers(monkeypatch, lambda arch, seed, epochs: 10.0 + seed)
    monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
    watcher = Notes()
    attnsearch.run(space, data="digits", out=tmp_path, design="add", seeds=4, workers=1, observer=watcher)
    assert any("4 variants x 4 seed blocks see, with 80 % power" in said for said in watcher.said)


@pytest.mark.parametrize(
    ("seeds", "words"),
    [(3, "2 variants in 3 seeds tell too little of the noise"), (4, "run standard deviations or more")],
)
def test_a_design_of_one_seed_promises_no_verdict(space, seeds, words):
    from attnsearch.cost.cost_table import CostTable
    from attnsearch.study.ablation import AblationSchedule

    question, settings = attnsearch.load_space(space), Settings(design="add", seeds=seeds, controls="none")
    schedule = AblationSchedule(question, CostTable(question, (3, 20, 20), 10), None, settings, ())  # type: ignore[arg-type]
    said = planning.outlook(schedule, StudyRecord("s", {}, ()))
    assert words in said
    assert "inf" not in said
