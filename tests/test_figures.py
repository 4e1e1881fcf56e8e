"""Figures at the width of a column and of a page: letters that can be read, none on another one, fonts in the file."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from attnsearch import report as reports
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.report import plots
from attnsearch.report.picture import PAPER, PHONE
from attnsearch.report.tables import Report
from attnsearch.space.arch import Arch
from attnsearch.study.study import space_of
from benchmarks.verify import archs
from tests.test_notation import crowd
from tests.test_reports import design, record

RESULTS = Path(__file__).parent.parent / "results"
MEDIA = {**PAPER, "phone": PHONE}
LEAST = 6.5  # points


@cache
def committed(name: str) -> Report:
    """The report of a committed study from its provenance and its trials, with curves that are made up."""
    facts = json.loads((RESULTS / name / "provenance.json").read_text(encoding="utf-8"))["facts"]
    empty = StudyRecord(name, facts, ())
    space = space_of(empty)
    table = pd.read_csv(RESULTS / name / "trials.csv", keep_default_na=False)
    rows = table.to_dict("records")
    known: dict[str, Arch] = {}
    for row in rows:
        for arch in archs(space, empty, str(row["arch"])) if row["key"] not in known else ():
            known[arch.key] = arch
            if arch.key == row["key"] and empty.info.design is None:
                break
    by_text = {str(arch): arch for arch in known.values()}  # where a block has got an option since
    trials = tuple(_trial(row, known.get(row["key"]) or by_text[row["arch"]]) for row in rows)
    return reports.build(replace(empty, trials=trials))


def _trial(row: Mapping[Any, Any], arch: Arch) -> TrialResult:
    error, epochs = float(row["error_pct"]), int(row["epochs"])
    curve = tuple(Epoch(i, 1.0, 1.0, error + 12.0 * (epochs - i), 1.0) for i in range(1, epochs + 1))
    costs = {name: float(row[name]) for name in ("macs", "params", "bytes_moved", "flops", "activations")}
    return TrialResult(
        **{name: row[name] for name in ("key", "arch", "seed", "role", "state", "device", "seconds")},
        **{"epochs": epochs, "error": error, "number": row["trial"], "costs": costs, "curve": curve},
        spec=arch.to_dict(),
    )


@cache
def made(name: str) -> Report:
    """The default study, an ablation, costs from once to ten times the baseline's, and small ones by hand."""
    if name == "ten times":
        return crowd([40e6 * factor for factor in (1, 1.004, 1.01, 1.02, 1.05, 1.2, 1.6, 2, 3, 6, 10)])
    if name == "crowded":
        return crowd([40e6 + 1e3 * i + 2e6 * (i // 5) for i in range(14)])
    if name in ("by hand", "margin"):
        return reports.build(record() if name == "by hand" else design(margin=0.5))
    return committed(name)


CASES = [
    *((name, width) for name in ("first_run", "pretrained", "ten times") for width in PAPER),
    ("crowded", "single"),
    ("by hand", "phone"),
    ("margin", "phone"),
]


def texts(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text that is seen, with its box in pixels and its size in points."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [*axes.texts, *(axes.legend_.get_texts() if axes.legend_ else [])]
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label, *_labels(axes.xaxis, 0), *_labels(axes.yaxis, 1)]
    # of an annotation the box of its words alone, without the line to its point
    return [(t.get_text(), Text.get_window_extent(t), float(t.get_fontsize())) for t in found if t.get_text()]


def _labels(axis: Axis, way: int) -> list[Text]:
    """Labels of ticks within the axis' ends; others exist, but are not drawn."""
    ends = axis.axes.transData.inverted().transform(axis.axes.get_window_extent().padded(1).get_points())
    low, high = sorted(ends[:, way])
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [text for at, text in ticks if low <= at <= high]


@dataclass(frozen=True)
class Painted:
    texts: list[tuple[str, Bbox, float]]
    box: Bbox


def painted(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], object]) -> list[Painted]:
    """The figures that `draw` makes, as they stand when they are written."""
    figures: dict[int, Painted] = {}

    def note(figure: Figure, *args: object, **options: object) -> None:
        figures[id(figure)] = Painted(texts(figure), figure.bbox.padded(1))

    monkeypatch.setattr(Figure, "savefig", note)
    draw()
    return list(figures.values())


@pytest.mark.parametrize(("name", "medium"), CASES)
def test_no_letter_lies_on_another_or_outside_and_all_can_be_read(monkeypatch, name, medium):
    figures = painted(monkeypatch, lambda: plots.draw(made(name), MEDIA[medium]))
    assert figures
    for figure in figures:
        found, whole = figure.texts, figure.box
        assert len(found) > 5
        for (one, box, _), (other, beside, _) in combinations(found, 2):
            apart = box.padded(-0.5)
            assert not apart.overlaps(beside.padded(-0.5)), f"{one!r} lies on {other!r}"
        for text, box, size in found:
            assert whole.containsx(box.x0), f"{text!r} is cut off"
            assert whole.containsx(box.x1), f"{text!r} is cut off"
            assert whole.containsy(box.y0), f"{text!r} is cut off"
            assert whole.containsy(box.y1), f"{text!r} is cut off"
            assert size >= LEAST


@pytest.mark.parametrize(("name", "width"), [("first_run", "single"), ("pretrained", "double")])
def test_a_figure_for_a_paper_has_its_width_and_its_fonts(name, width):
    for drawn in plots.draw(made(name), PAPER[width]):
        inches = {"single": 3.5, "double": 7.0}[width]
        assert Image.open(io.BytesIO(drawn.png)).width == pytest.approx(300 * inches, abs=1)
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", drawn.pdf)
        assert box is not None
        assert float(box[1]) == pytest.approx(72 * inches, abs=0.1)
        assert b"/FontFile2" in drawn.pdf  # TrueType, in the file
        assert b"/Type3" not in drawn.pdf
        assert b"/Type1" not in drawn.pdf
        assert "<text" not in drawn.svg  # outlines


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="poppler-utils is not installed")
def test_poppler_finds_every_font_embedded(tmp_path):
    (tmp_path / "front.pdf").write_bytes(plots.pareto(made("first_run"), PAPER["single"]).pdf)
    lines = subprocess.run(
        ["pdffonts", tmp_path / "front.pdf"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert lines
    assert all(re.search(r"TrueType.* yes +(yes|no) +(yes|no) ", line) for line in lines)


def test_every_named_architecture_of_the_default_front_is_named_in_a_column(monkeypatch):
    """The front's own: a reader of the paper must find each in the table."""
    report = made("ten times")
    [figure] = painted(monkeypatch, lambda: plots.pareto(report, PAPER["single"]))
    shown = {text for text, _, _ in figure.texts}
    assert {f"A{row.number}" for row in report.rows if row.observed} <= shown
