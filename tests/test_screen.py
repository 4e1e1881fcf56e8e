"""A screen that shows ASCII only gets ASCII, whichever way the words reach it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[1])


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("no-such-study", 4)])
def test_the_command_line_speaks_ascii_where_nothing_else_can_be_shown(option, code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "attnsearch", "report", option],
        env={
            **os.environ,
            "LANG": "C",
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode("ascii")
    assert "bug in attnsearch" not in said
    assert done.returncode == code
