"""The documentation says what is so: its commands parse, its Python runs, its links lead somewhere; examples run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnsearch.core.choices import DESIGNS

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").rglob("*.md")}
BLOCKS = [
    (page, kind, text)
    for page, path in PAGES.items()
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
]
COMMANDS = [
    (page, line.removeprefix("$ "))
    for page, kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("$ attnsearch")
]
PYTHON = [
    (page, text) for page, kind, text in BLOCKS if kind == "python" and "import torchvision" not in text
]


def run_python(code: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ATTNSEARCH_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_and_option_exists(page, command):
    from typer.testing import CliRunner

    from attnsearch.cli import app

    words = shlex.split(command, comments=True)[1:]
    help_text = CliRunner().invoke(app, [words[0], "--help"]).output
    for option in re.findall(r"--[a-z-]+", command):
        assert option in help_text, f"{page}: {option} is no option of {words[0]}"


@pytest.mark.parametrize(("page", "text"), PYTHON)
def test_the_python_of_a_page_runs(tmp_path, page, text):
    run_python(["-c", text], tmp_path)


OWN_MODEL = "guides/own_model.md"


def test_a_model_of_ones_own_is_a_host_as_written(tmp_path, monkeypatch):
    """Its three pieces, with a small network of torchvision's layout in torchvision's place."""
    from attnsearch.build import module_host
    from attnsearch.space import module_file
    from attnsearch.space.space import load_space
    from tests.foreign_resnets import ForeignResNet, TorchvisionUnit

    resnet18 = partial(ForeignResNet, TorchvisionUnit, classes=1000)
    stand_in = SimpleNamespace(models=SimpleNamespace(resnet18=resnet18))
    monkeypatch.setitem(sys.modules, "torchvision", stand_in)
    monkeypatch.setattr(module_file, "_ALLOWED", {})
    code = next(text for page, kind, text in BLOCKS if page == OWN_MODEL and "def build" in text)
    (tmp_path / "my_model.py").write_text(code)
    (tmp_path / "mine.yaml").write_text(
        next(text for page, kind, text in BLOCKS if page == OWN_MODEL and kind == "yaml")
    )
    module_host.allow(tmp_path / "my_model.py")
    space = load_space(tmp_path / "mine.yaml")
    assert (space.host.units, space.size()) == ((2, 2, 2, 2), 3)
    assert module_host.notes(space.host, 10) == [
        "the head of my_model.build (fc) is for 1,000 classes; a new one for 10 is in its place"
    ]


def test_the_designs_are_those_that_there_are():
    page = PAGES["guides/ablation.md"].read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert set(named) == set(DESIGNS) - {"search"}


def test_the_site_is_built_without_a_dead_link(tmp_path):
    """Strict: a page, anchor or docstring that does not exist ends in an error."""
    pytest.importorskip("mkdocs")
    run_python(
        ["-m", "mkdocs", "build", "-q", "-f", str(ROOT / "mkdocs.yml"), "-d", str(tmp_path / "site")],
        tmp_path,
    )
    site = tmp_path / "site"
    assert "y = x * Mc(x), z = y * Ms(y)" in (site / "reference/blocks/cbam.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(
            r'(?:<script[^>]* src|<link[^>]* rel="stylesheet"[^>]* href)="(https?:[^"]+)"', text
        )


def test_a_gate_of_the_first_example_changes_nothing(tmp_path):
    shown = run_python([str(ROOT / "examples/insert_and_measure.py")], tmp_path).stdout
    assert float(re.findall(r"largest change of an output: (\S+)", shown)[0]) < 1e-5


@pytest.mark.slow
def test_the_ablation_of_the_examples_ends_in_verdicts(tmp_path):
    shown = run_python([str(ROOT / "examples/ablation.py")], tmp_path).stdout
    rows = [line.split() for line in shown.splitlines()[-3:]]
    assert sorted(row[2].partition("(")[0] for row in rows) == ["eca", "se", "simam"]
    assert all(re.search(r" (gain|harm|equivalent|no evidence) ", line) for line in shown.splitlines()[-3:])
    assert (tmp_path / "results/digits/verdicts.csv").is_file()


def test_photos_become_a_network(tmp_path):
    run_python([str(ROOT / "examples/own_photos.py")], tmp_path)
    assert list((tmp_path / "results/photos").rglob("*.py"))


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ATTNSEARCH_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(ROOT / "examples/first_look.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, picture = (
        next(out.data for out in cell.outputs if "data" in out and kind in out.data)
        for cell, kind in ((notebook.cells[1], "text/html"), (notebook.cells[3], "image/svg+xml"))
    )
    assert "trials" in first["text/html"]  # the bar of the run
    assert "<svg" in picture["image/svg+xml"]
    study = notebook.cells[1].outputs[-1].data["text/html"]
    assert "Study first_look" in study
    assert "baseline" in study
