"""Reports: one set of numbers in every format, and no word more than they say.

The study of `record()` is small enough for pencil and paper: proxy of 4 epochs, three archs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from attnsearch import report as reports
from attnsearch.core.errors import EnvironmentFault, NoResultError
from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.report import (
    atomic,
    cards,
    console,
    glossary,
    html,
    latex,
    markdown,
    plots,
    provenance,
    sentences,
    tables,
    warnings,
)
from attnsearch.report import json as report_json
from attnsearch.report.archs import is_listed
from attnsearch.report.csv import safe
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.formatting import Column, probability, quantity, text
from attnsearch.report.tables import Report
from attnsearch.statistics.front import Status

ARCHS = {"plain": 40_000_000, "se": 44_000_000, "all stages cbam": 50_000_000}
# errors in percent by role and seed
SEARCH = {"plain": (12.0, 13.0, 14.0), "se": (11.0,), "all stages cbam": (13.0,)}
OPENING = {
    "opening": 1,
    "frozen": "f00",
    "archs": {"k": "se"},
    "seeds": [1],
    "opened": "2026-01-01T00:00:00Z",
}
FRESH = {"plain": (12.0, 14.0), "se": (12.0, 12.0)}


def trial(arch: str, seed: int, error: float | None, **more: object) -> TrialResult:
    curve = tuple(Epoch(i, 1.0, 1.0, 50.0 / i, float(i)) for i in range(1, 5))
    given = {
        "state": "complete",
        "curve": curve,
        "costs": {"macs": float(ARCHS.get(arch, 41e6)), "params": 270_000.0},
        "seconds": 4.0,
        "device": "cpu",
    }
    return TrialResult(key=f"key-{arch}", arch=arch, seed=seed, epochs=4, error=error, **{**given, **more})  # type: ignore[arg-type]


def record(*more: TrialResult, **facts: object) -> StudyRecord:
    trials = [trial(arch, seed, e) for arch, errors in SEARCH.items() for seed, e in enumerate(errors)]
    trials += [
        trial(arch, 100 + s, e, role="confirm")
        for arch, errors in FRESH.items()
        for s, e in enumerate(errors)
    ]
    given = {
        "question": "Is SE worth it?",
        "space": "tiny",
        "size": 12,
        "over_budget": 2,
        "cost": "macs",
        "baseline": "key-plain",
        "recipe": {"epochs": 4, "train_images": 1000},
        "ended": "9 of 9 trials done",
        "data": {"name": "digits", "classes": list("0123456789"), "train": 1000, "val": 300, "test": 400},
        "command": "attnsearch run --space tiny",
    }
    numbered = [replace(t, number=n) for n, t in enumerate([*trials, *more])]
    return StudyRecord("tiny", {**given, **facts}, tuple(numbered))


def cells(report: Report, arch: str) -> dict[str, Any]:
    names, rows = report.archs.flat()
    return next(
        row for row in (dict(zip(names, r, strict=True)) for r in rows) if row["key"] == f"key-{arch}"
    )


def test_means_are_over_fresh_seeds_only():
    se = cells(reports.build(record()), "se")
    assert (se["seeds"], se["seeds_kind"], se["error_pct"]) == (2, "independent", 12.0)
    assert (se["search_error_pct"], se["optimism_points"]) == (11.0, 1.0)


def test_a_search_value_is_marked_and_confirms_nothing():
    cbam = cells(reports.build(record()), "all stages cbam")
    assert (cbam["seeds"], cbam["seeds_kind"], cbam["optimism_points"]) == (1, "selection", None)
    alone = replace(record(), trials=tuple(t for t in record().trials if t.role == "search"))
    rows = reports.build(alone).rows
    assert not [row for row in rows if row.status == "confirmed" and not row.baseline]


def test_archs_whose_seeds_are_asked_for_stand_in_the_short_table():
    """Costlier than `se` and a little worse on its one seed, `close` is off the front, and what would decide it."""
    report = reports.build(record(trial("close", 0, 12.4, costs={"macs": 60e6, "params": 1.0})))
    close = next(row for row in report.rows if row.title == "close")
    assert not close.observed
    assert close.p_front < 0.5
    asked = re.findall(r"A(\d+) \(", sentences.undecided(report))
    assert str(close.number) in asked
    listed = [str(row[0]) for row in report.front.rows]
    assert set(asked) <= set(listed)


def test_intervals_use_the_pooled_sd_and_student_t():
    # squares: plain 12 13 14 12 14 around 13, 4; se 11 12 12 around 35/3, 2/3; degrees 4 + 2
    report = reports.build(record())
    assert report.assessed.sd == pytest.approx(math.sqrt((4 + 2 / 3) / 6))
    se = cells(report, "se")
    half = 2.446912 * math.sqrt((4 + 2 / 3) / 6) / math.sqrt(2)  # t(0.975; 6), any printed table
    assert se["error_pct_low"] == pytest.approx(12 - half, abs=1e-5)
    assert se["error_pct_high"] == pytest.approx(12 + half, abs=1e-5)


def test_costs_are_told_relative_to_the_baseline():
    report = reports.build(record())
    assert cells(report, "se")["ratio"] == pytest.approx(1.1)
    assert cells(report, "all stages cbam")["ratio"] == pytest.approx(1.25)
    assert "1 multiply-add = 1" in markdown.render(report)


@pytest.mark.parametrize("role", ["audit", "confirm"])
def test_runs_of_another_length_stand_in_no_mean(role):
    long = replace(trial("se", 200, 5.0, role=role), epochs=40)
    assert cells(reports.build(record(long)), "se")["error_pct"] == 12.0


def test_a_lucky_search_value_neither_leads_nor_is_confirmed():
    report = reports.build(record(trial("lucky", 0, 2.0, costs={"macs": 60e6})))
    lucky = next(row for row in report.rows if row.label == "lucky")
    assert lucky.p_front is not None
    assert lucky.p_front > 0.9
    assert lucky.status == Status.UNDECIDED
    assert "repeated on independent seeds: A2 (se)," in sentences.best(report)


def test_counts_say_where_every_trial_went():
    more = [
        trial("a", 0, None, state="failed", reason="oom: 3 GB wanted"),
        trial("b", 0, None, state="failed", reason="oom: 2 GB wanted"),
        trial("c", 0, None, state="failed", reason="nan: loss in epoch 2"),
        trial("d", 0, None, state="stopped", reason="beaten", curve=trial("d", 0, 1.0).curve[:2]),
        trial("f", 0, None, state="running"),
        trial("g", 0, math.inf),
        trial("h", 0, None, state="failed", reason="killed by signal 9", lost=True),
        replace(trial("se", 200, 5.0, role="audit"), epochs=40),
        trial("d", 0, 9.0, role="audit"),
    ]
    counts = reports.build(record(*more)).counts
    assert (counts.archs, counts.trainings, counts.repeats, counts.audited) == (3, 9, 6, 2)
    assert counts.stopped == {2: 1}
    assert counts.failed == {"oom": 2, "nan": 1, "no reason recorded": 1}
    assert (counts.running, counts.lost) == (1, 1)


def test_a_study_without_a_finished_trial_says_why():
    reasons = ("oom: 3 GB", "oom: 2 GB", "nan: epoch 1")
    trials = tuple(trial("a", s, None, state="failed", reason=r) for s, r in enumerate(reasons))
    with pytest.raises(NoResultError, match=r"0 finished trials \(3 failed: oom×2, nan×1\)") as caught:
        reports.build(StudyRecord("s", {}, trials))
    assert caught.value.exit_code == 5
    with pytest.raises(NoResultError, match="none started"):
        reports.build(StudyRecord("s", {}, ()))


def test_a_running_study_without_facts_still_reports():
    bare = StudyRecord("s", {}, (trial("se", 0, 12.0), trial("plain", 0, None, state="running")))
    out = io.StringIO()
    reports.show(reports.build(bare), out)
    assert "1 running" in out.getvalue()
    assert "baseline has no finished trial" in out.getvalue()


def test_every_format_has_the_same_numbers(tmp_path):
    reports.write(reports.build(record()), tmp_path)
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == reports.as_json(reports.build(record()))
    for name in ("front", "archs", "trials"):
        rows = list(csv.DictReader((tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()))
        expected = told["tables"][name]["rows"]
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected] == rows
    report = reports.build(record())
    wanted = [cell for i in range(len(report.front.rows)) for cell in report.front.narrow().texts(i)]
    out = io.StringIO()
    reports.show(reports.build(record()), out, width=200)
    paper = ("number", "error_pct", "over_baseline_points", "macs")
    columns = [report.front.columns.index(c) for c in report.front.columns if c.name in paper]
    numbers = [report.front.texts(i)[at] for i in range(len(report.front.rows)) for at in columns]
    written = {
        "front.md": [markdown.escape(cell) for cell in wanted],
        "front.tex": [latex.escape(cell) for cell in numbers],
    }
    for name, texts in written.items():
        page = (tmp_path / name).read_text()
        assert all(text in page for text in texts), name


def test_the_json_is_the_values_with_a_line_for_each_row():
    evil = record(question='"rows": []\n      "rows": []', space_text="a: 1")
    plain = reports.as_json(reports.build(evil))
    text = report_json.dump(plain)
    assert json.loads(text) == plain
    assert sum(line.startswith("        {") for line in text.splitlines()) == sum(
        len(table["rows"]) for table in plain["tables"].values()
    )


def test_the_difference_is_paired_over_the_seeds_that_both_had():
    # se on seeds 100, 101: 12, 12; plain: 12, 14. Gaps 0, 2: one degree of freedom, so no interval
    se = cells(reports.build(record()), "se")
    assert (se["over_baseline_points"], se["over_baseline_points_low"]) == (pytest.approx(1.0), None)
    # with gaps of 1 and 1 on two more seeds: mean 1, sd sqrt(2 / 3), standard error .40825, t(.975; 3) 3.1824
    pairs = [trial(a, s, e, role="confirm") for s in (102, 103) for a, e in (("plain", 13.0), ("se", 12.0))]
    more = cells(reports.build(record(*pairs)), "se")
    assert more["over_baseline_points_low"] == pytest.approx(1 - 3.182446 * 0.408248, abs=1e-4)
    cbam = cells(reports.build(record()), "all stages cbam")  # seed 0 only: 13 against 12
    assert (cbam["over_baseline_points"], cbam["over_baseline_points_low"]) == (pytest.approx(-1.0), None)


def test_a_search_without_a_last_block_claims_no_gain_however_large():
    fresh = [trial("good", 100 + s, 2.0 + 0.1 * s, role="confirm", costs={"macs": 45e6}) for s in (0, 1)]
    more = [trial("se", 102, 12.0, role="confirm"), trial("plain", 102, 13.0, role="confirm")]
    said = " ".join(
        sentences.answer(reports.build(record(*fresh, trial("good", 102, 3.0, role="confirm"), *more)))
    )
    assert "The CI excludes zero" in said
    assert "selected out of many" in said
    assert "No verdict: the study has no last block" in said


def test_the_last_block_of_a_search_gives_a_verdict_of_its_own():
    # the gaps of `DESIGN` in four new seeds: 1, 1.5, .8, 1.1, mean 1.1, standard error .1472, t(.975; 3) 3.1824: +-.468
    last = [
        trial(arch, 900 + s, e, role="report")
        for arch, errors in DESIGN.items()
        for s, e in enumerate(errors)
    ]
    facts = {"report_blocks": [900, 901, 902, 903], "confirmed_on": "new splits"}
    said = " ".join(sentences.answer(reports.build(record(*last, **facts))))
    assert (
        "Verdict: gain. A2 (se), at 1.100 x the baseline's MACs, is 1.10 percentage points better than the "
        "baseline (simultaneous 95 % CI +0.63" in said
    )
    assert "to +1.57, 4 seeds)" in said
    assert "the last 4 seeds alone, run after the finalist had been chosen, each seed with a training" in said
    assert "No verdict" not in said
    # seeds of an earlier block chose these finalists and do not count
    early = sentences.answer(reports.build(record(*last, report_blocks=[904, 905, 906, 907])))
    assert "No verdict" in " ".join(early)


def test_bold_are_the_archs_that_cannot_be_told_from_the_best():
    # told runs: plain 12 14, se 12 12: sd 1 with 2 degrees of freedom, t 4.30; only bad is further off
    table = reports.build(record(trial("bad", 0, 30.0))).archs
    bold = {str(table.rows[i][1]) for i in table.strong}
    assert bold == {"plain (baseline)", "se", "all stages cbam"}


DESIGN = {"plain": (13.0, 14.0, 12.0, 13.5), "se": (12.0, 12.5, 11.2, 12.4)}


def design(**facts: object) -> StudyRecord:
    cells = [(arch, seed, error) for arch, errors in DESIGN.items() for seed, error in enumerate(errors)]
    trials = tuple(trial(arch, seed, error, role="design") for arch, seed, error in cells)
    return replace(record(design={"kind": "add"}, **facts), trials=trials)


def test_a_design_gives_verdicts_with_their_price():
    # differences 1.0 1.5 0.8 1.1: mean 1.1, sd sqrt(0.26 / 3), t(0.975; 3) = 3.182446: half 0.468445
    report = reports.build(design())
    assert report.verdicts is not None
    names, rows = report.verdicts.flat()
    row = dict(zip(names, rows[0], strict=True))
    assert (row["variant"], row["verdict"], row["seeds"]) == ("se", "gain", 4)
    assert row["over_baseline_points"] == pytest.approx(1.1)
    assert row["over_baseline_points_low"] == pytest.approx(1.1 - 0.468445, abs=1e-5)
    assert row["macs_ratio"] == pytest.approx(1.1)
    assert cells(report, "se")["over_baseline_points_low"] == row["over_baseline_points_low"]
    assert "A2 (se): gain; +1.10 pp (+0.63 to +1.57) on 4 seeds; 1.100 x the MACs." in sentences.answer(
        report
    )


def test_a_gain_that_a_wider_host_gains_as_well_is_capacity():
    errors = {"plain": (13.0, 14.1, 12.0), "se": (12.0, 13.0, 11.0), "wide": (11.9, 13.0, 11.1)}
    costs = {"plain": 40e6, "se": 44e6, "wide": 45e6}
    trials = tuple(
        trial(arch, seed, e, role="design", costs={"macs": costs[arch]})
        for arch, row in errors.items()
        for seed, e in enumerate(row)
    )
    study = replace(
        design(controls={"key-wide": "width-matched"}, variants={"key-se": "first stage"}), trials=trials
    )
    table = reports.build(study).verdicts
    assert table is not None
    verdicts = dict(zip(map(str, table.column("variant")), table.column("verdict"), strict=True))
    assert verdicts["first stage"] == "gain; not shown against the wider baseline: capacity"
    # 11.9 13.0 11.1 against 12 13 11: 0.0 on average
    assert "vs the wider baseline of equal MACs 0.00 (" in " ".join(sentences.answer(reports.build(study)))
    assert table.column("arch") == ["se", "wide"] or table.column("arch") == ["wide", "se"]


def test_no_evidence_says_what_could_have_been_seen_and_what_it_would_take():
    weak = {"plain": (13.0, 14.0, 12.0, 13.0), "se": (13.5, 12.5, 11.8, 12.6)}
    trials = tuple(trial(a, s, e, role="design") for a, errors in weak.items() for s, e in enumerate(errors))
    report = reports.build(replace(design(), trials=trials))
    assert report.verdicts is not None
    row = dict(zip([c.name for c in report.verdicts.columns], report.verdicts.texts(0), strict=True))
    assert row["verdict"] == "no evidence"
    assert row["next"].endswith("seeds, to detect 0.40 pp")
    assert "minimum detectable effect" in sentences.answer(report)[2]


def test_a_factorial_tells_main_effects():
    # accuracy rises by 1 with a, by 0 with b, the same in both blocks but for a block shift: by hand
    errors = {"nn": 14.0, "yn": 13.0, "ny": 14.0, "yy": 13.0}
    wobble = {0: 0.1, 1: -0.1}
    trials = tuple(
        trial(name, seed, error + seed + (wobble[seed] if name in ("nn", "yy") else 0), role="design",
              sites={"a": name[0], "b": name[1]}, costs={"macs": 1e6})
        for seed in (0, 1) for name, error in errors.items()
    )  # fmt: skip
    report = reports.build(StudyRecord("f", {"baseline": "key-nn", "design": {"kind": "factorial"}}, trials))
    assert report.effects is not None
    points = {row[0]: row[1] for row in report.effects.rows}
    assert points["a"].mean == pytest.approx(1.0)  # type: ignore[union-attr]
    assert points["b"].mean == pytest.approx(0.0)  # type: ignore[union-attr]
    # and leads with them, the clear one first
    assert sentences.answer(report)[0].startswith(
        "Main effects, each over all settings of the other sites, in points"
    )
    assert ": a +1.00 (" in sentences.answer(report)[0]


def test_a_printed_row_that_another_betters_says_so():
    # `odd` costs more than `se` and errs more on its fresh seeds, but its search values were so good that it stays
    more = [
        *(trial("odd", s, 9.0 + 0.1 * s, costs={"macs": 46e6}) for s in range(3)),
        trial("odd", 100, 12.5, role="confirm", costs={"macs": 46e6}),
    ]
    table = reports.build(record(*more)).front
    names, rows = table.flat()
    shown = [dict(zip(names, row, strict=True)) for row in rows]
    bettered = [
        row["number"]
        for row in shown
        if row["status"] not in ("dominated", "not confirmed")
        and any(o["macs"] <= row["macs"] and o["error_pct"] < row["error_pct"] for o in shown)
    ]
    assert bettered
    [said] = [remark for remark in table.remarks if remark.startswith("higher mean here than a row")]
    assert all(re.search(rf"\bA{number}\b[A\d, ]*\(than A", said) for number in bettered)


def test_a_cost_that_hardly_differs_is_pointed_out_with_one_that_does():
    """MACs 0.1 % apart, bytes moved 60 %: the front of error against MACs ranks by error alone."""
    costs = {"plain": (40e6, 1e6), "se": (40.04e6, 1.6e6)}
    trials = tuple(
        trial(arch, seed, 12.0 + seed, costs={"macs": macs, "bytes_moved": moved})
        for arch, (macs, moved) in costs.items()
        for seed in (0, 1)
    )
    said = " ".join(sentences.answer(reports.build(replace(record(), trials=trials))))
    assert "MACs differ by 0.1 % at most, so error alone ranks here; bytes moved differ by 60 %" in said
    assert "error alone ranks" not in " ".join(sentences.answer(reports.build(record())))


def test_the_facts_say_how_long_the_trainings_took():
    facts = dict(provenance.facts(reports.build(record())))  # nine trainings of 4 seconds
    assert facts["training time"] == "0.6 minutes in 9 runs, each counted; 4.0 seconds a run (median)"


def test_a_high_probability_that_is_not_confirmed_says_what_confirms_it():
    report = reports.build(record(trial("lucky", 0, 2.0, costs={"macs": 60e6})))
    [lucky] = [row for row in report.rows if row.label == "lucky"]
    [said] = [remark for remark in report.front.remarks if "independent seeds to confirm" in remark]
    assert f"A{lucky.number}" in said


def test_a_design_without_its_baseline_says_so():
    alone = replace(design(), trials=tuple(t for t in design().trials if t.arch == "se"))
    assert "no verdict yet" in " ".join(sentences.answer(reports.build(alone)))


def test_pictures_are_drawn_where_there_are_numbers_for_them():
    assert [p.name for p in plots.draw(reports.build(record()))] == ["pareto", "curves", "optimism"]
    drawn = plots.draw(reports.build(design(margin=0.5)))
    assert [p.name for p in drawn] == ["pareto", "forest", "curves"]
    for picture in drawn:
        assert picture.png.startswith(b"\x89PNG")
        assert ElementTree.fromstring(picture.svg).tag.endswith("svg")
        assert picture.alt


def test_every_table_says_whether_the_proxy_was_audited(tmp_path):
    for facts, label in (
        ({}, "ranking not validated"),
        ({"audit": {"verdict": "do not trust"}}, "do not trust"),
    ):
        report = reports.build(design(**facts))
        pages = [markdown.render(report), latex.render(report), html.render(report, [])]
        assert [page.count(label) >= len(report.main()) for page in pages] == [True] * 3


def test_an_audit_that_does_not_beat_cost_says_so():
    audit = {
        "verdict": "do not trust",
        "archs": 30,
        "partial_tau": 0.1,
        "partial_interval": [-0.1, 0.3],
        "regret_3": 0.4,
    }
    said = sentences.answer(reports.build(record(audit=audit)))[-1]
    assert (
        "30 architectures trained in full: rank correlation given cost 0.10 (95 % interval -0.10 to 0.30)"
        in said
    )
    assert said.endswith("It does not beat ranking by cost alone.")


def test_the_share_of_false_stops_has_an_exact_interval():
    told = {
        "all": {"trials": 40, "stopped": 20, "audited": 10, "false": 1},
        "se": {"trials": 9, "stopped": 2},
    }
    stops = reports.build(record(false_stops=told)).stops
    assert stops is not None
    assert len(stops.rows) == 1
    # Clopper-Pearson for 1 of 10, as printed in tables: 0.25 % to 44.50 %
    assert stops.rows[0][-3:] == (0.1, pytest.approx(0.0025, abs=5e-5), pytest.approx(0.4450, abs=5e-5))


def test_facts_of_the_study_are_told():
    facts = dict(provenance.facts(reports.build(record(test=[OPENING]))))
    assert facts["architectures and runs"].startswith(
        "12 architectures in the space; 2 over budget and never trained; 3 architectures"
    )
    assert facts["test split"] == "opened once: 2026-01-01T00:00:00Z, 1 arch frozen as f00"
    assert facts["stopped because"] == "9 of 9 trials done"
    assert "1,000 train, 300 val, 400 test" in facts["data"]


def test_a_proxy_that_has_taught_nothing_is_pointed_out():
    lost = tuple(trial("plain", seed, 89.0) for seed in (0, 1))
    report = reports.build(replace(record(), trials=lost))
    wanted = "Baseline near chance level: error 89.0 %, guessing among 10 classes 90.0 %"
    assert sentences.answer(report)[0].startswith(wanted)
    assert wanted in html.render(report, [])
    assert "guessing" not in " ".join(sentences.answer(reports.build(record())))


def controlled(**facts: object) -> StudyRecord:
    """A design of one variant that does nothing much, beside a null gate and a wider host that is by far the best."""
    errors = {
        "plain": (13.0, 14.1, 12.0, 13.4),
        "se": (13.2, 13.9, 12.3, 13.4),
        "null": (13.0, 14.1, 12.0, 13.4),
        "wide": (9.0, 10.2, 8.1, 9.4),
    }
    costs = {"plain": 40e6, "se": 44e6, "null": 40e6, "wide": 44e6}
    trials = tuple(
        trial(a, s, e, role="design", costs={"macs": costs[a], "bytes_moved": 2 * costs[a], "params": 1e5},
              sites={"stage1": "none" if a == "plain" else a} if a in ("plain", "se") else {})
        for a, row in errors.items() for s, e in enumerate(row)
    )  # fmt: skip
    roles = {"key-null": "null gate", "key-wide": "width-matched"}
    sites = {"stage1": ["none", "se", "eca"]}
    return replace(design(controls=roles, sites=sites, host="resnet8", **facts), trials=trials)


def test_a_control_neither_leads_nor_competes():
    report = reports.build(controlled())
    assert {row.key for row in report.assessed} == {"key-plain", "key-se"}
    tile = next(t for t in cards.cards(report) if t.name.startswith("largest estimated gain"))
    assert tile.detail.startswith("A3 (se): no evidence")
    assert "no evidence 1" in sentences.answer(report)[1]
    assert "equivalent 0" in sentences.answer(report)[1]
    assert report.verdicts is not None
    assert list(map(str, report.verdicts.column("variant"))) == [
        "se",
        "wide (width-matched)",
        "null (null gate)",
    ]
    assert [row.outcome for row in report.rows if row.control] == ["control", "control"]


def test_a_variant_stands_beside_its_own_controls_in_every_table():
    errors = {
        "plain": (13.0, 14.1, 12.0),
        "se": (13.2, 13.9, 12.3),
        "se@frozen": (14.2, 15.0, 13.2),
        "wide": (9.0, 10.2, 8.1),
        "null": (13.0, 14.1, 12.0),
    }
    trials = tuple(
        trial(a, s, e, role="design", costs={"macs": 44e6, "bytes_moved": 8e6 if a == "se" else 5e6})
        for a, row in errors.items()
        for s, e in enumerate(row)
    )
    roles = {"key-se@frozen": "frozen gate", "key-wide": "width-matched", "key-null": "null gate"}
    names = {"key-plain": "plain", "key-se": "stage1=se", "key-se@frozen": "frozen stage1=se"}
    report = reports.build(replace(design(controls=roles, variants=names), trials=trials))
    assert report.verdicts is not None
    flat, rows = report.verdicts.flat()
    row = next(
        row for row in (dict(zip(flat, r, strict=True)) for r in rows) if row["variant"] == "stage1=se"
    )
    # 14.2 - 13.2, 15.0 - 13.9, 13.2 - 12.3: 1.0 on average; 9.0 - 13.2, 10.2 - 13.9, 8.1 - 12.3: -12.1 / 3
    assert row["over_frozen_points"] == pytest.approx(1.0)
    assert row["over_matched_points"] == pytest.approx(-12.1 / 3)
    # the plain row's copy is out of the noise: residual squares of the other four rows by hand, 6 degrees
    table = [errors[name] for name in ("plain", "se", "se@frozen", "wide")]
    columns = [sum(column) / 4 for column in zip(*table, strict=True)]
    rest = sum(
        (e - sum(r) / 3 - c + sum(columns) / 3) ** 2 for r in table for e, c in zip(r, columns, strict=True)
    )
    half = 2.446912 * math.sqrt(rest / 6 * 2 / 3)  # t(0.975; 6)
    assert row["over_frozen_points_low"] == pytest.approx(1 - half, abs=1e-5)
    said = " ".join(sentences.answer(report))
    assert "unadjusted 95 % CI" in said
    assert "at most 1.600 x, in bytes moved" in said
    shown = dict(zip(report.front.column("number"), report.front.column("variant"), strict=True))
    judged = zip(report.verdicts.column("number"), report.verdicts.column("variant"), strict=True)
    assert all(shown[number] == variant for number, variant in judged)
    assert not report.front.strong
    assert all(is_listed(r) for r in report.rows)


def test_a_null_gate_is_identical_and_not_equivalent():
    report = reports.build(controlled())
    assert report.verdicts is not None
    said = dict(
        zip(map(str, report.verdicts.column("variant")), report.verdicts.column("verdict"), strict=True)
    )
    assert said["null (null gate)"] == "identical to plain"


def test_the_table_and_the_sentence_name_one_number_of_seed_blocks():
    report = reports.build(controlled())
    assert report.verdicts is not None
    needed, *others = report.verdicts.column("next")
    assert others == [None, None]  # nothing is to be decided of controls
    count = str(needed).split()[0].replace(",", "")
    assert f"`--seeds {count} --resume`" in " ".join(sentences.answer(report))


def test_an_effect_found_at_low_power_is_said_to_be_inflated():
    # differences 1.1, 1.9, .9, .5: found, where 80 % power takes more
    errors = {"plain": (13.0, 14.0, 12.0, 13.5), "se": (11.9, 12.1, 11.1, 13.0)}
    trials = tuple(trial(a, s, e, role="design") for a, row in errors.items() for s, e in enumerate(row))
    report = reports.build(replace(design(), trials=trials))
    assert isinstance(report.judged, Judged)
    found = report.judged.variants[0]
    assert found.outcome == "gain"
    assert found.mde > found.estimate
    assert "se (+1.10 points)" in next(
        line for line in sentences.answer(report) if "likely overestimated" in line
    )


def test_a_design_has_one_word_for_one_arch_and_explains_its_own():
    report = reports.build(controlled())
    page = html.render(report, [])
    assert not {"dominated", "undecided", "P(front)"} & set(page.replace("<", " ").replace(">", " ").split())
    explained = {word for word, _ in glossary.words(report)}
    assert {
        "backbone",
        "stage",
        "seed",
        "null gate",
        "width-matched",
        "minimum detectable effect",
    } <= explained
    assert "frozen gate" not in explained


def test_a_design_says_what_it_leaves_open_and_what_more_would_take():
    report = reports.build(controlled())
    said = " ".join(sentences.answer(report))
    assert "Not asked by this design: several sites changed at once" in said
    assert "1 of the 3 options of each site" in said
    assert "more runs" in said
    assert "--resume" in said
    assert report.verdicts is not None
    assert report.verdicts.column("bytes_moved_ratio")[0] == pytest.approx(1.1)


def test_few_validation_images_limit_the_claim_by_so_much():
    # 13 % of 300 images: 1.96 sqrt(.13 * .87 / 300) = 3.81 points; times sqrt 2 for a difference: 5.38
    report = reports.build(design())
    said = next(line for line in warnings.warnings(report) if "Validation set" in line)
    assert said not in sentences.caveats(report)  # ±0.9 points by the seeds: it stands before the answer
    assert "Validation set of 300 images" in said
    assert "±3.8 percentage points" in said
    assert "±5.4" in said


def curved(study: StudyRecord, *errors: float) -> StudyRecord:
    """The study with one learning curve for all its trials."""
    curve = tuple(Epoch(i, 1.0, 1.0, error, float(i)) for i, error in enumerate(errors, start=1))
    return replace(study, trials=tuple(replace(t, curve=curve) for t in study.trials))


@pytest.mark.parametrize(("study", "lead"), [(design, 1.1), (record, 1.0)])
def test_a_baseline_that_still_learns_is_a_warning_before_all_gains(study, lead):
    steep = reports.build(curved(study(), 90.0, 80.0, 22.0))
    said = warnings.warnings(steep)[0]
    assert "fell by 58.0 percentage points in the last epoch (from 80.0 to 22.0 %" in said
    assert f"more than any lead over it here ({lead:.2f} at most)" in said
    assert "`attnsearch validate`" in said
    flat = reports.build(curved(study(), 90.0, 22.5, 22.0))
    assert "last epoch" not in " ".join(warnings.warnings(flat))


def test_unequal_noise_is_a_warning():
    steady = {a: tuple(20 + 0.01 * s * (-1) ** s + 0.02 * i for s in range(8)) for i, a in enumerate("abcd")}
    wild = tuple(20 + 3 * (-1) ** (s // 2) for s in range(8))
    trials = tuple(
        trial(a, s, e, role="design")
        for a, row in {**steady, "wild": wild}.items()
        for s, e in enumerate(row)
    )
    report = reports.build(replace(design(baseline="key-a"), trials=trials))
    assert any("wild is over 1.5 times as noisy" in line for line in warnings.warnings(report))


def test_trials_of_different_machines_are_pointed_out():
    other = trial("se", 103, 12.0, role="confirm", device="cuda: NVIDIA H200")
    assert any("more than one device" in line for line in sentences.caveats(reports.build(record(other))))


def test_frames_for_notebooks_hold_the_same_rows():
    assert list(tables.trials_frame(record())["error_pct"]) == [t.error for t in record().trials]
    assert list(tables.front_frame(record())["key"]) == [
        row[-1] for row in reports.build(record()).front.rows
    ]
    assert tables.verdicts_frame(record()).empty
    assert list(tables.verdicts_frame(design())["verdict"]) == ["gain"]


EVIL = (
    "<script>window.__xss=1</script>\" onload='x' =cmd()|A1 "
    "\\input{/etc/passwd} $x_1$ & # % ~ ^ {} [a](javascript:1)"
)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evil")
    command = "attnsearch run --storage postgresql://u:SECRET@h/db"
    study = record(
        trial(EVIL, 0, 9.0, costs={"macs": 1e6}), question=EVIL, command=command, space_text="a: 1\n"
    )
    reports.write(reports.build(study), folder)
    return folder


def test_names_cannot_break_out_of_a_format(evil):
    page = (evil / "front.md").read_text()
    assert "<script" not in page
    assert r"\[a\](javascript" in page
    tex = (evil / "front.tex").read_text()
    assert r"\input{" not in tex
    assert r"\textbackslash{}input\{/etc/passwd\}" in tex
    page = (evil / "report.html").read_text()
    assert page.count("<script") == 2  # ours, and the data that it reads
    data = page[page.index('<script type="application/json"') : page.rindex("<script>")]
    assert data.count("<") == 2  # its own tags
    page = page.replace(data, "")
    assert "onload='x'" not in page
    page = page.replace(html.scripts(), "").replace("https://d3js.org", "").replace("http-equiv", "")
    assert "http" not in page


def test_no_password_of_a_storage_is_written(evil):
    assert [path.name for path in evil.rglob("*.*") if b"SECRET" in path.read_bytes()] == []
    assert "postgresql://u:***@h/db" in (evil / "report.html").read_text()


def test_the_folder_holds_what_the_readme_names(evil):
    names = {str(path.relative_to(evil)) for path in evil.rglob("*.*")}
    assert names >= {"trials.csv", "front.csv", "front.md", "front.tex", "report.html", "plots/pareto.png",
                     "plots/pareto.svg", "space.yaml", "provenance.json"}  # fmt: skip
    assert (evil / "space.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", " ="])
def test_a_spreadsheet_runs_no_cell(begin):
    assert str(safe(f"{begin}cmd()")).startswith("'")
    assert safe(-1.5) == -1.5


def test_cells_read_as_people_write():
    points = Column("d", "d", "estimate", signed=True)
    assert text(Estimate(-0.8, -1.0, -0.6), points) == "-0.80 ± 0.20"
    assert text(Estimate(0.001, None, None), points) == "0.00"
    assert text(None, points) == "–"
    assert [quantity(v) for v in (999, 272_474, 40_813_184, 1.5e9, 3.25)] == [
        "999",
        "272.5k",
        "40.81M",
        "1.500G",
        "3.25",
    ]
    assert [probability(v) for v in (0.0, 0.5, 1.0)] == ["< 0.01", "0.50", "> 0.99"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_terminal_fits_its_width_in_ascii_without_colour(width, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    reports.show(reports.build(record(trial("née\x1b[31m", 0, 9.0, costs={"macs": 60e6}))), out, width=width)
    out.flush()
    lines = raw.getvalue().decode("ascii").splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    assert "12.00 +/- 1.53" in " ".join(lines)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = atomic.write(tmp_path / "a.txt", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        atomic.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_report_needs_no_torch(tmp_path):
    code = (
        "import sys, attnsearch.report.terminal, attnsearch.report.plots as _;"
        "print(sorted({'torch', 'pandas', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_ascii_keeps_what_can_be_kept():
    assert console.ascii_of("1 ± 2 × é – 字") == "1 +/- 2 x e - ?"
