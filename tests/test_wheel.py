"""What a user installs: the wheel carries the spaces, finds them from anywhere, and runs every example.

The slow tests install it in an environment of their own, from the package registry that pip knows (`make wheel`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.test_docs import PYTHON

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", folder], cwd=ROOT, check=True)
    return next(folder.glob("attnsearch-*.whl"))


def test_a_wheel_installed_elsewhere_finds_its_spaces(wheel, tmp_path):
    installed = tmp_path / "elsewhere"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", installed, wheel],
        check=True,
    )
    code = (
        "import attnsearch, attnsearch.space.space as s;"
        "print(attnsearch.__file__); print(*s.shipped_spaces()); print(s.load_space('cbam_variants').question)"
    )
    # -I: neither the working folder nor an editable install may answer for the wheel
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, spaces, question = done.stdout.splitlines()
    assert where.startswith(str(installed))
    assert spaces.split() == sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))
    assert question.endswith("?")


def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "attnsearch/py.typed" in names  # a caller's type checker reads our annotations
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"attnsearch"}


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory):
    """The Python of an environment that holds the wheel, what it asks for and what runs a notebook; nothing of ours."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    torch = f"torch=={version('torch').partition('+')[0]}"  # first and alone: else pip may take a CUDA build
    for wanted in ([torch], [wheel, "nbclient", "ipykernel"]):
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True
        )
    return python


def run_in(folder: Path, python: Path, *words: str | Path) -> str:
    """What a command prints, started in `folder`, with none of our folders on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["ATTNSEARCH_CACHE"] = str(folder / "cache")
    command = [python, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_runs_from_the_wheel(empty, tmp_path, example):
    here = tmp_path / "here"
    here.mkdir()
    assert run_in(here, empty, shutil.copy(example, tmp_path))
    assert str(ROOT) not in run_in(here, empty, "-c", "import attnsearch; print(attnsearch.__file__)")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "text"), PYTHON, ids=[page for page, _ in PYTHON])
def test_the_python_of_a_page_runs_from_the_wheel(empty, tmp_path, page, text):
    run_in(tmp_path, empty, "-c", text)


@pytest.mark.slow
def test_the_notebook_runs_from_the_wheel(empty, tmp_path):
    shutil.copy(ROOT / "examples" / "first_look.ipynb", tmp_path)
    code = (
        "import nbclient, nbformat; notebook = nbformat.read('first_look.ipynb', as_version=4);"
        "nbclient.NotebookClient(notebook, timeout=1800).execute(); nbformat.write(notebook, 'done.ipynb')"
    )
    run_in(tmp_path, empty, "-c", code)
    assert "<svg" in (tmp_path / "done.ipynb").read_text(encoding="utf-8")
    assert (tmp_path / "results" / "first_look" / "report.html").is_file()
