"""Two studies side by side: the words follow from the intervals, which are worked out by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from attnsearch import report as reports
from attnsearch.core.errors import UsageError
from attnsearch.core.study_info import StudyRecord
from attnsearch.report import comparison_files
from attnsearch.report.comparison import Comparison, _between, compare
from tests.test_reports import DESIGN, design, record, trial

# se against plain on four seeds: 1.0, 1.5, 0.8, 1.1 better, mean 1.1, t(.975; 3) 3.182446 x sqrt(.26 / 3 / 4)
HALF = 0.468445


def moved(points: float) -> StudyRecord:
    """The same ablation under another name, in which `se` is that much worse on every seed."""
    trials = tuple(replace(t, error=(t.error or 0) + points * (t.arch == "se")) for t in design().trials)
    return replace(design(), name="other", trials=trials)


def compared(points: float) -> Comparison:
    return compare(reports.build(design()), reports.build(moved(points)))


def row_of(found: Comparison) -> dict[str, object]:
    names, rows = found.table.flat()
    return next(dict(zip(names, row, strict=True)) for row in rows if row[0] == "se")


def test_a_gain_in_both_studies_agrees():
    row = row_of(compared(0.0))
    assert row["agreement"] == "both better"
    assert row["between_points"] == pytest.approx(0)
    assert row["between_points_high"] == pytest.approx(
        HALF * 2**0.5, abs=1e-5
    )  # independent halves: root of squares


def test_a_gain_here_and_a_harm_there_differ():
    row = row_of(compared(5.0))
    assert row["agreement"] == "differ"
    assert (row["first_points"], row["second_points"]) == (pytest.approx(1.1), pytest.approx(-3.9))
    assert row["between_points_low"] == pytest.approx(5 - HALF * 2**0.5, abs=1e-5)


def test_what_lies_within_the_noise_is_called_neither_agreement_nor_difference():
    assert row_of(compared(0.65))["agreement"] == "no significant difference"


def test_two_architectures_widen_the_intervals_by_bonferroni():
    report = reports.build(design())
    se = next(row for row in report.rows if row.label == "se")
    wider = 2.241403 / 1.959964  # normal quantiles of 1 - .025 / 2 and of .975, any printed table
    assert _between([(se, se), (se, se)])[0].half == pytest.approx(HALF * 2**0.5 * wider, abs=1e-5)


def test_single_seeds_have_no_interval_and_many_architectures_wider_ones():
    pairs = {
        102: (13.0, 12.0),
        103: (13.5, 12.1),
    }  # with the gaps of 0 and 2: 1.1 on 3 degrees of freedom, +- 1.3
    more = [
        trial(arch, seed, error, role="confirm")
        for seed, errors in pairs.items()
        for arch, error in zip(("plain", "se"), errors, strict=True)
    ]
    study = record(*more)
    one = reports.build(study)
    row = row_of(compare(one, reports.build(replace(study, name="again"))))
    assert row["agreement"] == "no significant difference"
    by_name = {line[0].label: line for line in compare(one, one).table.rows}  # type: ignore[union-attr]
    assert by_name["all stages cbam"][6] == "no interval"


def test_the_setup_lists_what_differs_and_nothing_else():
    other = replace(
        moved(0.0), attrs={**design().attrs, "recipe": {"epochs": 4, "train_images": 1000, "lr": 0.3}}
    )
    found = compare(reports.build(design()), reports.build(other))
    assert [row[:3] for row in found.setup.rows] == [("recipe: lr", "0.1", "0.3")]


def test_studies_without_anything_in_common_say_so():
    other = replace(record(), name="other", trials=tuple(t for t in record().trials if t.arch == "plain"))
    with pytest.raises(UsageError, match="no architecture beside the baseline in common"):
        compare(reports.build(record()), reports.build(other))


def test_every_format_says_the_same(tmp_path):
    found = compared(5.0)
    written = comparison_files.write(found, tmp_path)
    assert written[-1].name == "comparison.html"
    out = io.StringIO()
    comparison_files.show(found, out, 80)
    plain = json.loads((tmp_path / "comparison.json").read_text())
    assert plain["tables"]["comparison"]["rows"][0]["agreement"] == "differ"
    for text in (out.getvalue(), (tmp_path / "comparison.md").read_text(), written[-1].read_text()):
        assert "differ 1" in text
        assert "+5.00" in text
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_the_order_of_five_architectures_or_more_is_compared():
    more = [trial(f"gate{i}", 0, 12.0 - i, costs={"macs": 41e6 + i, "params": 1.0}) for i in range(5)]
    first = reports.build(record(*more))
    assert "Rank correlation of the differences: 1.00" in " ".join(compare(first, first).sentences)
    assert len(DESIGN) < 5
    assert "takes 5 shared architectures" in " ".join(compared(0.0).sentences)
