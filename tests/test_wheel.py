"""What a user installs: the wheel carries the spaces, and finds them from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
