"""One notation for architectures: in terminal, tables, pictures and page, at every width that people have."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attnsearch import report as reports
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.report import csv, front_plot, html, latex, markdown, terminal
from attnsearch.report.archs import is_listed
from attnsearch.report.formatting import quantities
from attnsearch.report.tables import Report
from attnsearch.space.arch import Arch, Block, Stage
from attnsearch.space.arch import plain as plain_of
from attnsearch.space.canonical import canonical
from attnsearch.space.space import load_space, shipped_spaces
from tests.test_reports import record, trial


def run(arch: Arch, seed: int, error: float, cost: float) -> TrialResult:
    done = trial(str(arch), seed, error, costs={"macs": cost, "params": 1000.0})
    return replace(done, key=arch.key, spec=arch.to_dict())


def study(archs: Sequence[Arch], costs: Sequence[float] | None = None, **facts: object) -> StudyRecord:
    """Two search seeds of each, the first being the baseline, each better than the one before."""
    costs = costs or [40e6 + 1e5 * i for i in range(len(archs))]
    trials = [
        run(arch, seed, 30.0 - 20 * i / len(archs) + 0.2 * seed, cost)
        for i, (arch, cost) in enumerate(zip(archs, costs, strict=True))
        for seed in (0, 1)
    ]
    numbered = tuple(replace(t, number=n) for n, t in enumerate(trials))
    attrs = {**record().attrs, "baseline": archs[0].key, **facts}
    return StudyRecord("tiny", attrs, numbered)


def cbam(**options: object) -> Stage:
    return Stage(attention=Block.of("cbam", **options))  # type: ignore[arg-type]


def three(*stages: Stage) -> Arch:
    return canonical(Arch.from_dict({"host": "resnet20", "stages": list(map(_said, stages))}))


def _said(stage: Stage) -> dict[str, object]:
    return {"attention": stage.attention, "units": stage.units, "position": stage.position}


PLAIN = three(Stage(), Stage(), Stage())
MIXED = three(cbam(ratio=4, fusion="parallel"), Stage(), cbam(ratio=8, kernel=3))
SAME = three(*[cbam(ratio=4, kernel=3)] * 3)
LAST = three(Stage(), Stage(), replace(cbam(ratio=8), units="last"))


def strips(report: Report) -> list[str]:
    return [str(report.strip(row)) for row in report.rows]


def test_an_architecture_is_one_cell_a_stage_with_the_options_that_vary():
    report = reports.build(study([PLAIN, MIXED, SAME]))
    assert strips(report) == [
        "plain (baseline)",
        "cbam r4 parallel | · | cbam k3 r8",
        "all stages: cbam k3 r4",
    ]
    assert report.notation.legend == (
        "Letters: k = kernel, r = ratio",
        "Where not shown: kernel 7, ratio 16, fusion serial",
    )


def test_what_all_rows_share_is_said_once_above_the_table():
    sites = {
        "stage1": ["none", "cbam(kernel=3,ratio=4)", "cbam(ratio=8)"]
    }  # kernels were asked for, none is chosen
    report = reports.build(
        study([PLAIN, three(Stage(), Stage(), cbam(ratio=8)), three(*[cbam(ratio=4)] * 3)], sites=sites)
    )
    assert strips(report)[1:] == ["· | · | cbam r8", "all stages: cbam r4"]
    assert report.notation.legend[0] == "In every row: kernel 7"
    assert "In every row: kernel 7" in report.front.lead
    assert markdown.render(report).count("In every row: kernel 7") == 1


def test_units_and_places_are_words_and_stand_in_the_cell():
    report = reports.build(study([PLAIN, LAST, MIXED]))
    assert strips(report)[1] == "· | · | cbam r8 last unit"
    assert [cell.units for cell in report.strip(report.rows[1]).cells] == [
        (False,) * 3,
        (False,) * 3,
        (False, False, True),
    ]
    assert report.strip(report.rows[2]).cells[0].units == (True, True, True)


def test_machines_get_the_full_spelling():
    report = reports.build(study([PLAIN, MIXED]))
    assert str(MIXED) in csv.render(report.front)
    assert str(MIXED) in str(reports.as_json(report)["tables"]["front"]["rows"])
    assert "cbam(" not in terminal_text(report, 80) + markdown.render(report) + latex.render(report)


def terminal_text(report: Report, width: int) -> str:
    out = io.StringIO()
    terminal.show(report, out, width)
    return out.getvalue()


def longest(name: str) -> list[Arch]:
    """The baseline of a shipped space and the archs of the longest spelling that it has."""
    space = load_space(name)
    by_length = {site: sorted(options, key=len, reverse=True) for site, options in space.sites.items()}
    archs = [
        space.arch({site: options[i % len(options)] for site, options in by_length.items()}) for i in range(4)
    ]
    return list({arch.key: arch for arch in [canonical(plain_of(space.host)), *archs]}.values())


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_the_report_fits_80_columns_with_the_longest_architectures(name):
    report = reports.build(study(longest(name)))
    text = terminal_text(report, 80)
    assert max(map(len, text.splitlines())) <= 80
    body = text[text.index("no. ") :].splitlines()
    for row in filter(is_listed, report.rows):
        at = next(i for i, line in enumerate(body) if re.match(rf" *A{row.number}\b", line))
        for shown in (f"{row.mean:.2f}", quantities([row.costs[0]])[0]):
            assert shown in body[at]  # no column has lost its width
        cells = [cell.text for cell in report.strip(row).cells if cell.text]
        lines = body[at : at + 5]
        assert all(any(cell in line for line in lines) for cell in cells)  # broken between cells alone


def test_no_two_ticks_of_a_cost_are_alike():
    near = [26_660_000 + 1000 * i for i in range(8)]
    assert len(set(quantities(near))) == 8
    assert quantities([26_660_000, 40_000_000]) == ["26.66M", "40.00M"]


def painted(report: Report, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure of the front as it is drawn, before it becomes a file."""
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    monkeypatch.setattr(
        front_plot, "draw", lambda name, title, alt, caption, paint, medium: paint(figure, medium)
    )
    front_plot.pareto(report)
    figure.draw_without_rendering()
    return figure


def crowd(costs: Sequence[float]) -> Report:
    archs = [
        PLAIN,
        *(
            three(cbam(ratio=r, kernel=k), Stage(), cbam(ratio=r))
            for r in (2, 4, 8, 16)
            for k in (3, 5, 7, 9)
        ),
    ]
    return reports.build(study(archs[: len(costs)], costs))


def test_names_of_a_crowded_front_lie_on_nothing(monkeypatch):
    figure = painted(crowd([40e6 + 1e3 * i + 2e6 * (i // 5) for i in range(14)]), monkeypatch)
    axes = figure.axes[0]
    names = [text for text in axes.texts if re.fullmatch(r"A\d+", text.get_text())]
    assert len(names) >= 8
    boxes = [super(type(text), text).get_window_extent() for text in names]
    points = [point for marks in axes.collections for point in axes.transData.transform(marks.get_offsets())]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*point) for point in points)


def test_a_front_from_once_to_ten_times_the_cost_shows_its_cheap_half(monkeypatch):
    costs = [40e6 * factor for factor in (1, 1.004, 1.01, 1.02, 1.05, 2, 6, 10)]
    axes = painted(crowd(costs), monkeypatch).axes[0]
    places = np.array(
        [axes.transAxes.inverted().transform(axes.transData.transform((cost, 20)))[0] for cost in costs]
    )
    assert (places > 0).all()
    assert (places < 1).all()
    assert places[4] - places[0] > 0.25  # on a linear axis they would share its leftmost .6 %
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(labels)) == len(labels) > 2
    assert "baseline" in axes.get_xlabel()


def test_a_costly_architecture_off_the_front_does_not_squeeze_it(monkeypatch):
    report = crowd([40e6, 40.2e6, 40.4e6, 40.6e6])
    far = run(three(*[cbam(ratio=2)] * 3), 0, 90.0, 400e6)
    report = reports.build(replace(report.record, trials=(*report.record.trials, far)))
    axes = painted(report, monkeypatch).axes[0]
    assert axes.get_xlim()[1] < 41e6
    assert "1 to the right" in axes.get_xlabel()


def test_the_page_marks_the_blocks_and_keeps_the_full_spelling_as_a_tooltip():
    page = html.render(reports.build(study([PLAIN, MIXED])), [])
    assert f'title="{MIXED}"' in page
    assert '<span class="cell c0">cbam r4 parallel</span><span class="cell">·</span>' in page


def test_every_picture_of_a_study_has_text_that_can_be_searched(tmp_path: Path):
    reports.write(reports.build(study([PLAIN, MIXED, SAME])), tmp_path)
    assert "cbam r4 parallel" in (tmp_path / "plots" / "pareto.svg").read_text()
