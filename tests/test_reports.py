"""Reports: one set of numbers in every format, and no word more than they say.

The study of `record()` is small enough for pencil and paper: proxy of 4 epochs, three archs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attnsearch import reports
from attnsearch.errors import EnvironmentFault, NoResultError
from attnsearch.reports import atomic, latex, markdown, terminal
from attnsearch.reports.csv import safe
from attnsearch.reports.table import Column, Estimate, probability, quantity, text
from attnsearch.trial import Epoch, StudyRecord, TrialResult

ARCHS = {"plain": 40_000_000, "se": 44_000_000, "all stages cbam": 50_000_000}
# errors in percent by role and seed
SEARCH = {"plain": (12.0, 13.0, 14.0), "se": (11.0,), "all stages cbam": (13.0,)}
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
        "data": {"name": "digits", "classes": 10, "train": 1000, "val": 300, "test": 400},
        "command": "attnsearch run --space tiny",
    }
    numbered = [replace(t, number=n) for n, t in enumerate([*trials, *more])]
    return StudyRecord("tiny", {**given, **facts}, tuple(numbered))


def cells(report: reports.Report, arch: str) -> dict[str, object]:
    names, rows = report.archs.flat()
    return next(
        row for row in (dict(zip(names, r, strict=True)) for r in rows) if row["key"] == f"key-{arch}"
    )


def test_means_are_over_fresh_seeds_only():
    se = cells(reports.build(record()), "se")
    assert (se["seeds"], se["seeds_kind"], se["error_pct"]) == (2, "fresh", 12.0)
    assert (se["search_error_pct"], se["optimism_points"]) == (11.0, 1.0)


def test_a_search_value_is_marked_and_confirms_nothing():
    cbam = cells(reports.build(record()), "all stages cbam")
    assert (cbam["seeds"], cbam["seeds_kind"], cbam["optimism_points"]) == (1, "search", None)
    alone = replace(record(), trials=tuple(t for t in record().trials if t.role == "search"))
    rows = reports.build(alone).rows
    assert not [row for row in rows if row.status == "confirmed" and not row.baseline]


def test_intervals_use_the_pooled_sd_and_student_t():
    # squares: plain 12 13 14 12 14 around 13, 4; se 11 12 12 around 35/3, 2/3; degrees 4 + 2
    report = reports.build(record())
    assert report.standing.sd == pytest.approx(math.sqrt((4 + 2 / 3) / 6))
    se = cells(report, "se")
    half = 2.446912 * math.sqrt((4 + 2 / 3) / 6) / math.sqrt(2)  # t(0.975; 6), any printed table
    assert se["error_pct_low"] == pytest.approx(12 - half, abs=1e-5)
    assert se["error_pct_high"] == pytest.approx(12 + half, abs=1e-5)


def test_costs_are_told_relative_to_the_baseline():
    report = reports.build(record())
    assert cells(report, "se")["ratio"] == pytest.approx(1.1)
    assert cells(report, "all stages cbam")["ratio"] == pytest.approx(1.25)
    assert "1 multiply-add = 1" in markdown.render(report)


def test_longer_runs_of_the_audit_stand_in_no_mean():
    long = replace(trial("se", 200, 5.0, role="audit"), epochs=40)
    assert cells(reports.build(record(long)), "se")["error_pct"] == 12.0


def test_counts_say_where_every_trial_went():
    more = [
        trial("a", 0, None, state="failed", reason="oom: 3 GB wanted"),
        trial("b", 0, None, state="failed", reason="oom: 2 GB wanted"),
        trial("c", 0, None, state="failed", reason="nan: loss in epoch 2"),
        trial("d", 0, None, state="stopped", reason="beaten", curve=trial("d", 0, 1.0).curve[:2]),
        trial("e", 0, None, state="over_limit", reason="macs over 60M"),
        trial("f", 0, None, state="running"),
        trial("g", 0, math.inf),
    ]
    counts = reports.build(record(*more)).counts
    assert (counts.archs, counts.trainings, counts.repeats) == (3, 9, 6)
    assert counts.stopped == {2: 1}
    assert counts.failed == {"oom": 2, "nan": 1, "no reason recorded": 1}
    assert (counts.over_limit, counts.running) == (1, 1)


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
    reports.show(bare, out)
    assert "1 running" in out.getvalue()
    assert "baseline has no finished trial" in out.getvalue()


def test_every_format_has_the_same_numbers(tmp_path):
    reports.write(record(), tmp_path)
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == reports.as_json(record())
    for name in ("front", "archs", "trials"):
        rows = list(csv.DictReader((tmp_path / f"{name}.csv").open(encoding="utf-8")))
        expected = told["tables"][name]["rows"]
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected] == rows
    report = reports.build(record())
    wanted = [cell for i in range(len(report.front.rows)) for cell in report.front.narrow().texts(i)]
    out = io.StringIO()
    reports.show(record(), out, width=200)
    written = {
        "front.md": [markdown.escape(cell) for cell in wanted],
        "front.tex": [latex.escape(cell) for cell in wanted],
    }
    for name, texts in written.items():
        page = (tmp_path / name).read_text()
        assert all(text in page for text in texts), name


EVIL = (
    "<script>window.__xss=1</script>\" onload='x' =cmd()|A1 "
    "\\input{/etc/passwd} $x_1$ & # % ~ ^ {} [a](javascript:1)"
)


def test_names_cannot_break_out_of_a_format(tmp_path):
    reports.write(record(trial(EVIL, 0, 9.0, costs={"macs": 1e6}), question=EVIL), tmp_path)
    page = (tmp_path / "front.md").read_text()
    assert "<script" not in page
    assert r"\[a\](javascript" in page
    tex = (tmp_path / "front.tex").read_text()
    assert r"\input{" not in tex
    assert r"\textbackslash{}input\{/etc/passwd\}" in tex


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
    reports.show(record(trial("née\x1b[31m", 0, 9.0, costs={"macs": 60e6})), out, width=width)
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
        "import sys, attnsearch.reports.terminal, attnsearch.reports.plots as _;"
        "print(sorted({'torch', 'pandas', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_no_password_of_a_storage_is_written(tmp_path):
    reports.write(record(command="attnsearch run --storage postgresql://u:SECRET@h/db"), tmp_path)
    assert not [path for path in tmp_path.rglob("*.*") if b"SECRET" in path.read_bytes()]


def test_ascii_keeps_what_can_be_kept():
    assert terminal.ascii_of("1 ± 2 × é – 字") == "1 +/- 2 x e - ?"
