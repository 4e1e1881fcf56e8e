"""Has the recipe converged, and could the study have seen a harm? What a report says before it names anything."""

from __future__ import annotations

import pytest

from attnsearch.core.controls import NARROW
from attnsearch.core.convergence import Convergence
from attnsearch.core.errors import SpaceError
from attnsearch.core.study_attrs import RunInfo
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.report.finalists import control_sentence, is_seen, positive_control
from attnsearch.space.space import load_space, read_space
from attnsearch.study.ablation import narrowed

HOST = "host: resnet8\nstages: {attention: [none, se]}\n"


def test_a_fall_by_less_than_15_percent_of_the_error_is_convergence() -> None:
    assert Convergence(4, (20.0, 22.0), 16, (18.0, 18.0)).reached  # 21 -> 18: 14.3 % of 21
    assert not Convergence(4, (20.0, 22.0), 16, (17.0, 18.0)).reached  # 21 -> 17.5: 16.7 %
    assert Convergence(4, (20.0, 20.0), 16, (25.0, 25.0)).reached  # it gets worse: longer is not better


def test_what_was_measured_holds_for_the_recipe_it_was_measured_of() -> None:
    space = load_space("cbam_variants").on("cued-digits")
    assert space.convergence is not None
    assert space.convergence.epochs == space.recipe.epochs
    assert space.with_recipe({}).convergence == space.convergence
    assert space.with_recipe({"epochs": space.recipe.epochs}).convergence == space.convergence
    assert space.with_recipe({"epochs": 1}).convergence is None
    assert load_space("cbam_variants").on("cifar10").convergence is None


@pytest.mark.parametrize(
    ("measured", "problem"),
    [
        ("{errors: [20.0, 21.0], long_epochs: 8, long_errors: [20.0, 21.0]}", "4 times the 4 epochs"),
        ("{errors: [20.0], long_epochs: 16, long_errors: [20.0, 21.0]}", "2 seeds"),
        ("{errors: [20.0, 21.0]}", "errors, long_epochs, long_errors"),
    ],
)
def test_a_measurement_that_shows_nothing_is_refused(measured: str, problem: str) -> None:
    text = f"{HOST}for_data: {{digits: {{recipe: {{epochs: 4}}, convergence: {measured}}}}}\n"
    with pytest.raises(SpaceError, match=problem):
        read_space(text, "mine")


def test_a_study_keeps_what_was_measured() -> None:
    measured = Convergence(4, (20.0, 22.0), 16, (18.0, 18.5))
    attrs = RunInfo(convergence=measured).to_attrs()
    assert attrs["convergence"] == {
        "epochs": 4,
        "errors": [20.0, 22.0],
        "long_epochs": 16,
        "long_errors": [18.0, 18.5],
    }
    assert StudyInfo.from_attrs(attrs).run.convergence == measured


@pytest.mark.parametrize("epochs", ["no4", "[4]", "4.5", "yes"])
def test_epochs_that_are_no_number_are_a_mistake_of_the_recipe(epochs: str) -> None:
    measured = "{errors: [20.0, 21.0], long_epochs: 16, long_errors: [20.0, 19.0]}"
    text = f"{HOST}for_data: {{digits: {{recipe: {{epochs: {epochs}}}, convergence: {measured}}}}}\n"
    with pytest.raises(SpaceError, match=r"for_data\.digits\.recipe\.epochs: epochs must be an integer"):
        read_space(text, "s.yaml")


def test_the_positive_control_is_the_plain_host_with_fewer_channels() -> None:
    space = load_space("cbam_variants").on("cued-digits")
    arch = narrowed(space)
    assert arch.host.widths == (5, 10, 20)
    assert not any(stage.attention for stage in arch.stages)
    assert narrowed(load_space("cbam_variants")).host.widths == (
        8,
        16,
        32,
    )  # half, where nothing was measured


def test_a_control_is_seen_where_its_whole_interval_lies_below_zero() -> None:
    """Differences of -2, -1, -3 and 0 points: mean -1.5, standard error 0.645, t(3) = 3.182: -3.55 to +0.55."""
    verdict = positive_control(study([20.0, 21.0, 22.0, 20.0], [22.0, 22.0, 25.0, 20.0]), 4)
    assert verdict is not None
    assert verdict.estimate == pytest.approx(-1.5)
    assert verdict.interval == pytest.approx((-3.554, 0.554), abs=1e-3)
    assert not is_seen(verdict)
    # -2.0, -2.1, -1.9, -2.0: standard error 0.041: -2.13 to -1.87
    seen = positive_control(study([20.0, 21.0, 22.0, 20.0], [22.0, 23.1, 23.9, 22.0]), 4)
    assert seen is not None
    assert is_seen(seen)


def test_a_study_that_did_not_see_it_says_what_that_means() -> None:
    unseen = control_sentence(study([20.0, 21.0, 22.0, 20.0], [22.0, 22.0, 25.0, 20.0]), 4)
    assert 'Take no "equivalent"' in unseen
    assert "1.50 points worse" in unseen
    assert 'take no "equivalent"' in control_sentence(study([20.0, 21.0, 22.0], []), 4)
    few = control_sentence(study([20.0, 21.0, 22.0], [22.0, 25.0, 23.0]), 4)
    assert few.startswith("The positive control has not finished 4 seeds beside the baseline"), few


def study(plain: list[float], narrow: list[float]) -> StudyRecord:
    trials = [
        TrialResult(key=key, arch=key, seed=seed, epochs=4, role="design", state="complete", error=error)
        for key, errors in (("plain", plain), ("narrow", narrow))
        for seed, error in enumerate(errors)
    ]
    facts = {
        "baseline": "plain",
        "design": {"kind": "add"},
        "variants": {"plain": "plain", "narrow": "narrow"},
        "controls": {"narrow": NARROW},
    }
    return StudyRecord("s", facts, tuple(trials))
