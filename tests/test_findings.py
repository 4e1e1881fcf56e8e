"""The answer for programs: the object `finding` of `report --json`, against pencil and paper."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from attnsearch import report as reports
from attnsearch.core.errors import UsageError
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch
from attnsearch.export.package import choose
from attnsearch.report import cards, glossary, html
from attnsearch.statistics.front import Status
from tests.test_reports import design, record, trial

FIELDS = {
    "verdict",
    "reason",
    "arch",
    "name",
    "difference",
    "low",
    "high",
    "confidence",
    "n",
    "cost_ratio",
    "positive_control",
    "metric",
    "unit",
}


def values(study: StudyRecord) -> dict[str, object]:
    return reports.as_json(reports.build(study))


def test_an_ablation_gives_one_finding_a_variant():
    # differences 1.0 1.5 0.8 1.1: mean 1.1, sd sqrt(0.26 / 3), t(0.975; 3) = 3.182446: half 0.468445
    told = values(design())
    assert told["findings"] == [told["finding"]]
    finding = told["finding"]
    assert isinstance(finding, dict)
    assert set(finding) == FIELDS
    assert (finding["verdict"], finding["arch"], finding["name"], finding["n"]) == ("gain", "key-se", "se", 4)
    assert finding["difference"] == pytest.approx(1.1)
    assert finding["low"] == pytest.approx(1.1 - 0.468445, abs=1e-5)
    assert finding["high"] == pytest.approx(1.1 + 0.468445, abs=1e-5)
    assert (finding["confidence"], finding["cost_ratio"]) == (0.95, pytest.approx(1.1))
    assert finding["positive_control"] is None
    assert "No positive control" in finding["reason"]


def test_a_positive_control_has_the_same_fields_and_is_no_variant():
    study = design(controls={"key-narrow": "narrow host"})
    narrow = tuple(trial("narrow", seed, e, role="design") for seed, e in enumerate((15.0, 16.0, 17.0, 16.5)))
    told = values(replace(study, trials=(*study.trials, *narrow)))
    assert [finding["name"] for finding in told["findings"]] == ["se"]  # type: ignore[attr-defined]
    control = told["finding"]["positive_control"]  # type: ignore[index]
    assert set(control) == FIELDS - {"positive_control"}
    assert (control["arch"], control["difference"]) == ("key-narrow", pytest.approx(-3.0))
    assert told["finding"]["reason"] == ""  # type: ignore[index]


def test_a_search_without_a_last_block_has_no_verdict_and_says_why():
    told = values(record())
    assert "findings" not in told
    finding = told["finding"]
    assert isinstance(finding, dict)
    assert (finding["verdict"], finding["arch"]) == ("none", "key-se")
    assert "no last block" in finding["reason"]
    # seeds 100, 101: se 12 12, plain 12 14
    assert (finding["difference"], finding["n"]) == (pytest.approx(1.0), 2)


def test_a_baseline_that_is_missing_leaves_no_verdict():
    alone = replace(design(), trials=tuple(t for t in design().trials if t.arch == "se"))
    finding = values(alone)["finding"]
    assert finding["verdict"] == "none"  # type: ignore[index]
    assert "baseline" in finding["reason"]  # type: ignore[index]


def test_the_short_name_of_a_report_names_the_same_architecture_to_export():
    study = record()
    for row in reports.build(study).rows:
        picked = choose(study, f"A{row.number}")
        assert (picked.key, picked.error) == (row.key, min(row.errors))
    with pytest.raises(UsageError, match="No architecture 'A9' in study 'tiny': A1 to A3"):
        choose(study, "A9")


RETIRED = re.compile(
    r"\b(rivals?|undersold|flatter(s|ed)?|agenda|aside|owed|errs|dearer|dearest|told from|deal(t)? anew)\b",
    re.I,
)


@pytest.mark.parametrize("study", [record, design])
def test_no_word_without_an_honest_use_stands_in_a_report(study, tmp_path):
    reports.write(reports.build(study()), tmp_path, pictures=False)
    for path in tmp_path.iterdir():
        assert not RETIRED.search(path.read_text()), path.name
    page = html.render(reports.build(study()), [])
    assert not RETIRED.search(page)


def test_every_term_is_explained_whatever_its_case():
    assert all(glossary.explain(term.upper()) == meaning for term, meaning in glossary.GLOSSARY.items())
    assert {str(status) for status in Status} <= set(glossary.GLOSSARY)
    with pytest.raises(UsageError, match="Did you mean 'equivalent'"):
        glossary.explain("equivalnt")


@pytest.mark.parametrize("study", [record, design])
def test_nothing_is_named_where_the_recipe_is_far_from_converged(study):
    """From 20 to 10 % with four times the epochs: half of the error goes, and 15 % may."""
    far = {"epochs": 2, "errors": [20.0, 20.0], "long_epochs": 8, "long_errors": [10.0, 10.0]}
    told = reports.as_json(reports.build(study(convergence=far)))
    shown = [card.name for card in cards.cards(reports.build(study(convergence=far)))]
    assert shown == ["training length", "data and training"]
    for finding in (told["finding"], *told.get("findings", ())):
        assert finding["verdict"] == "none"
        assert "far from converged" in finding["reason"]
    near = {**far, "long_errors": [18.0, 18.0]}
    assert "far from" not in reports.as_json(reports.build(study(convergence=near)))["finding"]["reason"]


def test_no_table_and_no_picture_ranks_where_the_recipe_is_far_from_converged(tmp_path):
    far = {"epochs": 2, "errors": [20.0, 20.0], "long_epochs": 8, "long_errors": [10.0, 10.0]}
    ranked, unranked = reports.build(record()), reports.build(record(convergence=far))
    assert any(row.p_front is not None and row.observed for row in ranked.rows)
    assert not any(
        row.p_front is not None or row.observed or row.tied or row.next_seeds for row in unranked.rows
    )
    assert {row.error for row in unranked.rows} == {row.error for row in ranked.rows}
    assert "no front" in unranked.front.title
    assert len(unranked.front.rows) == len(unranked.rows)
    reports.write(unranked, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "P(front) &gt;" not in page
    assert "There is no front" in page


def test_networks_that_guess_alike_are_not_called_one_network():
    """On two classes each guesses one a seed: 45.75 or 54.25 % of 153 images wrong. Their losses tell them apart."""
    guessed = {0: 100 * 70 / 153, 1: 100 * 83 / 153}

    def study(loss: float) -> StudyRecord:
        trials = tuple(
            trial(arch, seed, error, role="design", curve=(Epoch(1, 1.0, value, error, 1.0),))
            for arch, value in (("plain", 0.7), ("se", loss))
            for seed, error in guessed.items()
        )
        return replace(design(), trials=trials)

    found = reports.as_json(reports.build(study(0.8)))["findings"]
    assert [finding["verdict"] for finding in found] == ["none"]
    page = " ".join(reports.build(study(0.8)).judged.analysis.notes)
    assert "other losses: both may guess" in page
    assert "they are one network" not in page
    assert "they are one network" in " ".join(reports.build(study(0.7)).judged.analysis.notes)
