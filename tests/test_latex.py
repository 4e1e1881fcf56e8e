"""The tables for a paper fit a column of 3.5 inches: compiled where there is a TeX, else by its letters' widths."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib
import pytest
from matplotlib.font_manager import get_font

from attnsearch import report as reports
from attnsearch.report import latex
from attnsearch.report.tables import Report
from attnsearch.space.space import shipped_spaces
from tests.test_figures import committed
from tests.test_notation import MIXED, PLAIN, SAME, longest, study
from tests.test_reports import controlled, record, trial

COLUMNS = {"a column": 3.5, "a page": 5.5}  # inches
LONG = "my_package.blocks.attention.SqueezeAndExcitationWithEverything(ratio=8,kernel=3,fusion=parallel)"


def made(name: str) -> Report:
    if name in shipped_spaces():
        return reports.build(study(longest(name)))
    if name == "long names":
        return reports.build(record(trial(LONG, 0, 9.0)))
    return reports.build(controlled()) if name == "controls" else committed(name)


STUDIES = ["first_run", "pretrained", "controls", "long names", "cbam_variants", "placement"]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {name: latex.render(made(name)) for name in STUDIES}


def test_no_table_is_wider_than_a_column_by_the_letters_of_computer_modern(sources):
    font = get_font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf")
    font.set_size(8, 72)  # \footnotesize, in points

    def width(cell: str) -> float:
        shown = re.sub(r"\\(?:textbf|textsuperscript|shortstack\[r\]|raggedright)|[{}$]", "", cell)
        shown = re.sub(r"\\(pm|textgreater|Delta)\b", "+", shown).replace(r"\%", "%")
        lines = []
        for line in shown.split(r"\\"):
            font.set_text(line.strip(), 0.0)
            lines.append(font.get_width_height()[0] / 64)
        return max(lines)

    for name, source in sources.items():
        for spec, body in re.findall(r"\\begin{tabular}{@{}(.*?)@{}}(.*?)\\end{tabular}", source, re.S):
            kinds = re.findall(r"p{[\d.]+pt}|[lr]", spec)
            rows = [line.split(" & ") for line in re.findall(r"^  (.*) \\tabularnewline", body, re.M)]
            assert rows
            assert {len(row) for row in rows} == {len(kinds)}
            widths = [
                float(kind[2:-3]) if kind.startswith("p") else max(width(row[i]) for row in rows)
                for i, kind in enumerate(kinds)
            ]
            assert sum(widths) + 6 * (len(kinds) - 1) <= 72.27 * 3.5, name


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="texlive-latex-recommended is not installed")
@pytest.mark.parametrize("inches", COLUMNS.values(), ids=list(COLUMNS))
def test_latex_finds_no_overfull_box(sources, tmp_path, inches):
    lines = [
        r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}",
        rf"\setlength{{\textwidth}}{{{inches}in}}\begin{{document}}",
        *(rf"\input{{{name.replace(' ', '-')}}}\clearpage" for name in sources),
        r"\end{document}",
    ]
    for name, source in sources.items():
        (tmp_path / f"{name.replace(' ', '-')}.tex").write_text(source, encoding="utf-8")
    (tmp_path / "all.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-draftmode", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "all.log").read_text(encoding="latin-1")


def test_an_architecture_is_spelled_in_macros_that_a_paper_may_redefine():
    source = latex.render(reports.build(study([PLAIN, MIXED, SAME])))
    wanted = r"\attncell{cbam}{cbam r4 parallel}\attnbar{}\attnnone{}\attnbar{}\attncell{cbam}{cbam k3 r8}"
    assert wanted in source
    assert all(rf"\providecommand{{\{name}}}" in source for name in ("attncell", "attnnone", "attnbar"))
    assert "resizebox" not in source


def test_what_rests_on_the_selecting_seed_is_marked():
    source = latex.render(reports.build(record()))
    assert re.search(r" 1\\textsuperscript{s} & \S*13.00", source)  # cbam, one seed, the one that selected it
    assert r"\textsuperscript{s} on the seed that selected the architecture" in source
    assert re.search(r" 2 & \S*12.00", source)  # se, on two independent seeds
