"""Studies that name nothing: near chance level, far from converged, or with too little known of the noise."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest

from attnsearch import report as reports
from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyRecord
from attnsearch.report import cards, formatting, html, terminal
from tests.test_reports import design, record, trial

TWO = {"name": "photos", "classes": ["ants", "bees"], "train": 245, "val": 153, "test": 0}
FAR = {"epochs": 2, "errors": [20.0, 20.0], "long_epochs": 8, "long_errors": [10.0, 10.0]}


def ablation(errors: dict[str, tuple[float, ...]], **facts: object) -> StudyRecord:
    trials = tuple(trial(a, s, e, role="design") for a, row in errors.items() for s, e in enumerate(row))
    return replace(design(**facts), trials=trials)


def guessing(seeds: int = 4) -> StudyRecord:
    """Two classes; the baseline has 46.1 % wrong, a wider control 33.7: +12.4, in every seed, with little noise."""
    errors = {
        "plain": (46.1, 46.1, 46.2, 46.0),
        "se": (44.0, 43.8, 44.4, 44.1),
        "wide": (33.7, 33.5, 34.0, 33.6),
    }
    cut = {arch: row[:seeds] for arch, row in errors.items()}
    return ablation(cut, data=TWO, controls={"key-wide": "width-matched"})


@pytest.mark.parametrize("seeds", [2, 4])
def test_a_design_whose_baseline_guesses_has_no_verdict_in_any_format(seeds, tmp_path):
    report = reports.build(guessing(seeds))
    reports.write(report, tmp_path, pictures=False)
    out = io.StringIO()
    terminal.show(report, out, width=120)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    texts |= {"terminal": out.getvalue(), "report.html": html.render(report, [])}
    assert {"verdicts.csv", "front.csv", "front.md", "front.tex", "report.json"} <= set(texts)
    for name, text in texts.items():
        if name not in ("report.html", "report.json"):  # both explain or list all words
            assert "gain" not in text, name
    for name in ("terminal", "front.md", "report.html"):
        assert "Baseline near chance level: error 46.1 %, guessing among 2 classes 50.0 %" in texts[name], (
            name
        )
        assert "--epochs" in texts[name]
    plain = json.loads(texts["report.json"])
    for found in (plain["finding"], *plain["findings"]):
        assert (found["verdict"], found["low"], found["high"]) == ("none", None, None)
        assert "near chance level" in found["reason"]
        assert found["positive_control"] is None
    assert plain["finding"]["arch"] is None
    for row in (*plain["tables"]["verdicts"]["rows"], *plain["tables"]["front"]["rows"]):
        assert row["over_baseline_points_low"] is row["over_baseline_points_high"] is None
    rows = plain["tables"]["verdicts"]["rows"]
    assert {row["variant"]: row["over_baseline_points"] for row in rows}["wide (width-matched)"] > 12
    assert {row["p"] for row in rows} == {row["visible_points"] for row in rows} == {None}
    assert {row["verdict"] for row in rows} == {"no verdict (baseline near chance level)"}
    assert [card.name for card in cards.cards(report)] == ["training length", "data and training"]


def test_a_variant_that_guesses_has_no_verdict_and_the_others_have_theirs():
    errors = {
        "plain": (20.1, 19.7, 20.4, 20.0),
        "se": (15.2, 14.8, 15.1, 15.3),
        "cbam": (50.0, 40.0, 58.0, 47.0),
    }
    plain = reports.as_json(reports.build(ablation(errors, data=TWO)))
    found = {finding["name"]: finding for finding in plain["findings"]}
    assert (found["se"]["verdict"], found["cbam"]["verdict"]) == ("gain", "none")
    assert found["cbam"]["low"] is None
    assert "near chance level" in found["cbam"]["reason"]
    assert "gain 1, harm 0, equivalent 0, no evidence 0, no verdict 1" in " ".join(plain["answer"])
    row = next(row for row in plain["tables"]["front"]["rows"] if row["variant"] == "cbam")
    assert (row["error_pct"], row["error_pct_low"]) == (48.75, None)


def test_a_search_whose_baseline_guesses_names_nothing():
    lost = replace(record(data=TWO), trials=tuple(replace(t, error=47.0) for t in record().trials))
    report = reports.build(lost)
    assert report.withheld
    plain = reports.as_json(report)
    assert (plain["finding"]["verdict"], plain["finding"]["arch"]) == ("none", None)
    assert "no front: baseline near chance level" in plain["tables"]["front"]["title"]
    assert not any(row.p_front is not None or row.tied or row.next_seeds for row in report.rows)


def test_a_design_far_from_converged_names_no_winner():
    report = reports.build(design(convergence=FAR))
    plain = reports.as_json(report)
    assert [row["verdict"] for row in plain["tables"]["verdicts"]["rows"]] == [
        "no verdict (recipe far from converged)"
    ]
    assert report.verdicts is not None
    assert not report.verdicts.strong  # nothing is bold
    assert plain["answer"][0].startswith("The recipe of 2 epochs is far from converged")
    # what was measured at this length stays: 1.1 points, +-0.468 (t of 3 degrees of freedom)
    assert plain["findings"][0]["low"] == pytest.approx(1.1 - 0.468445, abs=1e-5)


def test_three_seeds_of_one_variant_give_a_difference_and_no_verdict():
    errors = {"plain": (13.0, 14.0, 12.0), "se": (8.0, 9.0, 7.1)}
    plain = reports.as_json(reports.build(ablation(errors)))
    assert plain["finding"]["verdict"] == "none"
    assert "under 3 degrees of freedom" in plain["finding"]["reason"]
    assert plain["tables"]["verdicts"]["rows"][0]["next"] == "4 seeds, to estimate the noise"
    assert "no verdict (under 3 degrees of freedom); +4.97 pp on 3 seeds" in " ".join(plain["answer"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Estimate(1.2, 0.9, 1.5), "1.20 ± 0.30"),
        (Estimate(1.0, 0.0, 4.0), "1.00 (0.00 to 4.00)"),
        (Estimate(1.0), "1.00"),
    ],
)
def test_an_interval_that_ends_at_what_is_possible_is_written_with_both_ends(value, text):
    assert formatting.estimate(value) == text
    assert value.half == pytest.approx({"1.20 ± 0.30": 0.3, "1.00 (0.00 to 4.00)": 3.0}.get(text))


def test_errors_end_at_0_and_100_percent():
    """0.2 % in the mean of four seeds, where one seed differs from the next by a point: the interval ends at 0."""
    errors = (0.1, 0.3, 0.0, 0.4)
    found = reports.build(record(*(trial("near", s, e, role="confirm") for s, e in enumerate(errors))))
    near = next(row for row in found.rows if row.label == "near")
    assert near.error.low == 0.0
    assert near.error.high is not None
    assert math.isfinite(near.error.high)


def test_why_there_are_no_intervals_is_said_by_what_is_missing():
    pair = tuple(trial("plain", seed, 13.0 + seed) for seed in range(3))
    few = " ".join(reports.as_json(reports.build(replace(record(), trials=pair)))["answer"])
    assert "2 degrees of freedom, under 3, so there are no intervals" in few
    same = [trial("same", seed, 12.0, role="confirm") for seed in range(4)]
    still = replace(record(), trials=(trial("plain", 0, 13.0), *same))
    assert "Repeated runs do not vary" in " ".join(reports.as_json(reports.build(still))["answer"])
