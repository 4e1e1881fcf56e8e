"""The rooms of the package stand on floors, and imports point down: what the README draws."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "attnsearch"
FLOORS = (
    ("core",),
    ("blocks", "data", "statistics", "store"),
    ("space", "sample", "report"),
    ("build",),
    ("train", "cost"),
    ("study",),
    ("export",),
    ("tools",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """The modules of attnsearch that a file imports, anywhere in it but for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("attnsearch"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("attnsearch.")}
    return found


def arrows() -> dict[tuple[str, str], str]:
    """Pairs of rooms of which one imports the other, each with a file that does."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0]
        if room not in FLOOR:
            continue  # the package's own doors: __init__, __main__, registry
        for name in imports(path):
            other = name.split(".")[1]
            if other in FLOOR and other != room:
                found[room, other] = str(path.relative_to(PACKAGE))
    return found


def test_every_folder_is_a_room_with_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert folders == set(FLOOR)


@pytest.mark.parametrize(("room", "other"), sorted(arrows()))
def test_imports_point_down(room, other):
    assert FLOOR[other] < FLOOR[room], (
        f"{arrows()[room, other]} imports {other}, which stands no lower than {room}"
    )


def test_files_stay_short():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py"))
    assert lengths[-1] <= 500
    assert lengths[len(lengths) * 9 // 10] <= 350
    assert lengths[len(lengths) // 2] <= 150


def test_functions_stay_short():
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[-1] <= 60
    assert lengths[len(lengths) * 9 // 10] <= 21


def test_fused_kernels_stay_within_900_lines():
    """They may not grow cleverer than they pay: the table of gains stands in their docstring."""
    folder = PACKAGE / "train" / "fused"
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py")) <= 900


def test_contributing_names_files_that_there_are():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| .* \| (.*) \|$", text, re.M)
    named = [file for row in table for file in re.findall(r"`([a-z_/]+\.py)`", row)]
    assert len(named) > 15
    assert [file for file in named if not (PACKAGE / file).is_file()] == []


def test_private_names_of_optuna_stand_in_two_files():
    """Where a sampler claims an arch, and where trials are written in one transaction."""
    private = re.compile(r"\b(study|trial)\._(storage|trial_id|study_id)\b")
    used = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert used == {"sample/base.py", "store/study_store.py"}
