"""Metrics against scikit-learn and pencil and paper; class weights; a study that minimises another metric."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

import attnsearch
from attnsearch import report as reports
from attnsearch.__main__ import main
from attnsearch.core.errors import NoResultError, SpaceError, UsageError
from attnsearch.core.metrics import CONFUSION_CLASSES, METRICS, ClassCounts, check_classes
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Recipe
from attnsearch.data import open_data
from attnsearch.report import html, warnings
from attnsearch.space.space import load_space, read_space
from attnsearch.study import planning
from attnsearch.study.run import unequal_classes
from attnsearch.train.answers import among_top, class_counts
from attnsearch.train.loss import Loss, balanced_weights
from tests.test_reports import record, trial


def answers(classes: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, some classes rare, and logits that lean towards them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n) * rng.integers(0, 2, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.0
    return labels, logits


def counted(labels: np.ndarray, logits: np.ndarray) -> ClassCounts:
    x, y = torch.from_numpy(logits), torch.from_numpy(labels)
    classes = logits.shape[1]
    return class_counts(y, x.argmax(1), classes, int(among_top(x, y).sum()))


@pytest.mark.parametrize("classes", [2, 5, 6, 10, CONFUSION_CLASSES + 10])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn warns of classes without an image
def test_scores_are_scikit_learns(classes: int, seed: int) -> None:
    labels, logits = answers(classes, 200, seed)
    guesses = logits.argmax(1)
    scores = counted(labels, logits).scores()
    assert scores["accuracy"] == pytest.approx(100 * sklearn.accuracy_score(labels, guesses), abs=1e-9)
    expected = 100 * sklearn.balanced_accuracy_score(labels, guesses)
    assert scores["balanced_accuracy"] == pytest.approx(expected, abs=1e-9)
    expected = 100 * sklearn.f1_score(labels, guesses, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(expected, abs=1e-9)
    recalls = sklearn.recall_score(labels, guesses, average=None, labels=np.unique(labels))
    assert scores["worst_recall"] == pytest.approx(100 * recalls.min(), abs=1e-9)
    if classes <= 5:
        assert "top5" not in scores
    else:
        expected = sklearn.top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
        assert scores["top5"] == pytest.approx(100 * expected, abs=1e-9)


def test_paper_and_pencil() -> None:
    """Six cats, of which 5 are seen and 1 is a dog; four dogs, of which 1 is seen and 3 are cats."""
    counts = ClassCounts.of([[5, 1], [3, 1]])
    assert counts.error("error") == pytest.approx(40)
    assert counts.error("balanced_accuracy") == pytest.approx(100 - (100 * 5 / 6 + 100 / 4) / 2)
    # F1: cats 2 x 5 / (6 + 8) = 5/7, dogs 2 x 1 / (4 + 2) = 1/3
    assert counts.error("macro_f1") == pytest.approx(100 - 100 * (5 / 7 + 1 / 3) / 2)
    assert counts.worst_class() == 1
    assert counts.worst_recall() == 25
    # Within each class binomial: (5/6 x 1/6 / 6 + 1/4 x 3/4 / 4) / 2^2, in points squared
    expected = 1e4 * (5 / 6 * 1 / 6 / 6 + 1 / 4 * 3 / 4 / 4) / 4
    assert counts.sampling_variance("balanced_accuracy") == pytest.approx(expected)
    assert counts.sampling_variance("error") == pytest.approx(1e4 * 0.4 * 0.6 / 10)
    assert counts.sampling_variance("macro_f1") is None
    twice = counts + counts
    assert twice.confusion == ((10, 2), (6, 2))


def test_equal_logits_are_no_top_5() -> None:
    labels = torch.arange(8)
    assert among_top(torch.zeros(8, 8), labels).tolist() == [True] * 5 + [False] * 3


@pytest.mark.parametrize("classes", [3, CONFUSION_CLASSES, CONFUSION_CLASSES + 1])
def test_counts_survive_the_store(classes: int) -> None:
    counts = counted(*answers(classes, 500, 1))
    again = ClassCounts.from_json(counts.to_json())
    assert again == counts
    assert (again.confusion is None) == (classes > CONFUSION_CLASSES)
    assert (again + again).scores() == pytest.approx(counts.scores())


@pytest.mark.parametrize(
    ("metric", "classes", "chance"), [("error", 4, 75), ("top5", 20, 75), ("macro_f1", 2, 50)]
)
def test_guessing(metric: str, classes: int, chance: float) -> None:
    assert METRICS[metric].guessing(classes) == chance


def test_top5_needs_six_classes() -> None:
    check_classes("top5", 6)
    with pytest.raises(UsageError, match="needs more than 5 classes, the data has 5"):
        check_classes("top5", 5)


def test_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 7])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = balanced_weights(torch.from_numpy(labels), 3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert balanced_weights(torch.tensor([0, 2, 2]), 3).tolist() == [1.5, 0.0, 0.75]


def test_a_weighted_loss_by_hand() -> None:
    """One image of class 0, three of class 1: weights 4/2 and 4/6."""
    labels = torch.tensor([0, 1, 1, 1])
    logits = torch.tensor([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    each = -F.log_softmax(logits, 1)[torch.arange(4), labels]
    expected = (2 * each[0] + (each[1] + each[2] + each[3]) * 2 / 3) / 4
    loss = Loss(Recipe(class_weights="balanced"), labels, 2)(logits, labels)
    torch.testing.assert_close(loss, expected)
    plain = Loss(Recipe(), labels, 2)(logits, labels)
    torch.testing.assert_close(plain, each.mean())


MISTAKES = {
    "recipe: {metric: balanced-accuracy}": "Did you mean 'balanced_accuracy'",
    "recipe: {metric: accuracy}": "write the metric as 'error'",
    "recipe: {class_weights: balance}": "Did you mean 'balanced'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_in_a_file(line: str) -> None:
    text = f"host: resnet8\nstages: {{attention: [none, se]}}\n{line}\n"
    with pytest.raises(SpaceError, match=MISTAKES[line]):
        read_space(text, "x")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metric", "macrof1"], "Did you mean 'macro_f1'"),
        (["--metric", "accuracy"], "write the metric as 'error'"),
        (["--class-weights", "auto"], "Unknown class weights 'auto'. Known: none, balanced"),
    ],
)
def test_mistakes_of_flags(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["run", "--space", "cbam_variants", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of two classes, 10 to 1, which differ in brightness."""
    folder = tmp_path_factory.mktemp("unequal")
    rng = np.random.default_rng(0)
    labels = np.resize([0] * 10 + [1], 220)
    images = rng.integers(0, 100, (220, 12, 12, 3)) + 60 * labels[:, None, None, None]
    np.savez(folder / "d.npz", x_train=images.astype(np.uint8), y_train=labels)
    (folder / "s.yaml").write_text(
        "host: {name: resnet8, width: 4}\nstages: {attention: [none, se]}\ntied: true\n"
        "recipe: {epochs: 1, batch_size: 32, class_weights: balanced}\ndesign: add\n"
    )
    return folder


@pytest.fixture(scope="module")
def balanced(unequal: Path) -> StudyRecord:
    """A study of that folder which minimises the balanced-accuracy error."""
    study = attnsearch.run(unequal / "s.yaml", **options(unequal))
    return study.record


def options(folder: Path) -> dict[str, Any]:
    return {
        "data": str(folder / "d.npz"),
        "out": folder / "results",
        "study": "balanced",
        "metric": "balanced_accuracy",
        "seeds": 2,
        "controls": "none",
        "workers": 1,
        "device": "cpu",
    }


def test_every_trial_has_its_counts_and_is_judged_by_them(balanced: StudyRecord) -> None:
    done = [row for row in balanced.trials if row.finished]
    assert len(done) == 4
    for row in done:
        assert row.counts is not None
        assert row.counts.n == balanced.info.images.val
        assert row.error == row.curve[-1].val_error == row.counts.error("balanced_accuracy")
    assert any(row.counts.error("error") != row.error for row in done if row.counts)


def test_the_objective_and_the_scores_are_plain_optuna(balanced: StudyRecord, unequal: Path) -> None:
    import optuna

    study = optuna.load_study(study_name="balanced", storage=f"sqlite:///{unequal / 'results/attnsearch.db'}")
    assert study.metric_names is not None
    assert study.metric_names[0] == "validation balanced-accuracy error (%)"
    row = study.trials[0]
    assert row.user_attrs["score:balanced_accuracy"] == pytest.approx(100 - row.values[0], abs=1e-4)


def test_a_report_says_what_was_minimised(balanced: StudyRecord, unequal: Path) -> None:
    report = reports.build(balanced)
    values = reports.as_json(report)
    assert (values["finding"]["metric"], values["finding"]["unit"]) == (
        "balanced_accuracy",
        "percentage points",
    )
    first = values["tables"]["front"]["rows"][0]
    assert "balanced_accuracy_error_pct" in first
    assert "error_pct" not in first
    rows = values["tables"]["trials"]["rows"]
    assert rows[0]["balanced_accuracy_pct"] == pytest.approx(100 - rows[0]["balanced_accuracy_error_pct"])
    assert rows[0]["worst_class"] in ("0", "1")
    page = html.render(report, [])
    assert "Balanced-accuracy error against cost" in page
    assert "percentage points of balanced accuracy" in page
    assert "Confusion matrix of the baseline" in page
    baseline = values["tables"]["confusion_baseline"]["rows"]
    assert sum(sum(v for k, v in row.items() if k != "class") for row in baseline) == 2 * (
        balanced.info.images.val or 0
    )
    assert (unequal / "results/balanced/recalls.csv").exists()


def test_a_study_resumed_with_another_metric_is_refused(balanced: StudyRecord, unequal: Path) -> None:
    with pytest.raises(UsageError, match="began with --metric balanced_accuracy, not error"):
        attnsearch.run(unequal / "s.yaml", **{**options(unequal), "metric": None, "resume": True})


def test_too_few_classes_for_the_metric(unequal: Path) -> None:
    with pytest.raises(UsageError, match="top5 needs more than 5 classes, the data has 2"):
        attnsearch.run(unequal / "s.yaml", **{**options(unequal), "metric": "top5", "study": "few"})


def test_studies_without_counts_have_no_such_columns() -> None:
    report = reports.build(record())
    assert report.classes == ()
    assert "worst_class" not in [column.name for column in report.trials.columns]
    assert [column.name for column in report.archs.columns][4] == "error_pct"


def test_the_leaders_matrix_is_over_the_seeds_of_its_mean() -> None:
    """Two fresh seeds of `se`, whose counts add up; its search seed is left out, as of the printed mean."""
    names = [str(i) for i in range(10)]
    one = [[0] * 10 for _ in range(10)]
    for i in range(10):
        one[i][i], one[i][0] = 20, one[i][0] + 10
    plain = record()
    rows = tuple(replace(t, counts=ClassCounts.of(one)) for t in plain.trials)
    report = reports.build(replace(plain, trials=rows))
    tables = {table.name: table for table in report.classes}
    assert set(tables) == {"recalls", "confusion_baseline", "confusion_leader"}
    assert tables["confusion_leader"].rows[3] == ("3", 20, 0, 0, 40, *[0] * 6)
    assert tables["recalls"].column("class") == names
    assert tables["recalls"].column("recall_leader_pct")[3] == pytest.approx(100 * 2 / 3)


def test_image_noise_of_a_balanced_accuracy_is_by_class() -> None:
    """Two classes of 10 and 90 images, recalls 50 and 90 %: sd = sqrt(.25/10 + .09/90)/2 = 8.06 points."""
    counts = ClassCounts.of([[5, 5], [9, 81]])
    kept = record(recipe={"epochs": 4, "metric": "balanced_accuracy"})
    rows = tuple(replace(t, counts=counts) for t in kept.trials)
    line = warnings.images(reports.build(replace(kept, trials=rows)))
    assert "sampling error ±15.8 percentage points" in line


def test_a_later_trial_without_counts_hides_the_matrix() -> None:
    plain = record(trial("plain", 102, 12.0, role="confirm"))
    rows = tuple(replace(t, counts=ClassCounts.of([[1, 0], [0, 1]])) for t in plain.trials[:-1])
    report = reports.build(replace(plain, trials=(*rows, plain.trials[-1])))
    assert "confusion_baseline" not in [table.name for table in report.classes]


def test_parts_of_a_batch_weigh_as_the_whole() -> None:
    """Gradients of a batch in parts add up to those of the batch, by the weights and not by the numbers of images."""
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    loss = Loss(Recipe(class_weights="balanced"), labels, 2)
    parts = zip(logits.chunk(2), labels.chunk(2), strict=True)
    found = sum(loss(x, y) * loss.weight(y) for x, y in parts) / loss.weight(labels)
    torch.testing.assert_close(found, loss(logits, labels))


def test_a_plan_takes_no_noise_of_another_metric(balanced: StudyRecord, unequal: Path) -> None:
    asked = load_space(unequal / "s.yaml")
    with pytest.raises(UsageError, match="add --metric balanced_accuracy, or take another study"):
        planning.known(balanced, asked)
    with pytest.raises(
        NoResultError, match="has no arch whose runs show the noise"
    ):  # both guess in each seed
        planning.known(replace(balanced, trials=()), asked.with_recipe({"metric": "balanced_accuracy"}))


def test_a_plan_names_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--space", "cbam_variants", "--sd", "0.5", "--metric", "macro_f1"]) == 0
    assert "Points are percentage points of macro-F1." in capsys.readouterr().out


def test_unequal_classes_are_told_of_where_the_error_hides_them(unequal: Path) -> None:
    data = open_data(str(unequal / "d.npz"))
    assert "classes have 14 to 140 training images" in unequal_classes(data, Recipe())
    assert unequal_classes(data, Recipe(metric="macro_f1")) == ""
    assert unequal_classes(data, Recipe(class_weights="balanced")) == ""
    assert unequal_classes(open_data("digits"), Recipe()) == ""
