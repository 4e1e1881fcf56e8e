"""A user's block that fails is the user's mistake: exit code 2, its own words, its own line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from attnsearch.__main__ import main
from attnsearch.blocks import registry

GATE = '''"""A gate."""
{top}
from torch import nn
from attnsearch.registry import block


@block("{name}")
class Gate(nn.Module):
    def __init__(self, channels: int, *, ratio: int = 2) -> None:
        super().__init__()
        {init}

    def forward(self, x):
        {forward}
'''


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_PLUGINS", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("attnsearch_plugin_") or name == "helper":
            del sys.modules[name]


def write(
    folder: Path, name: str = "mine", top: str = "", init: str = "pass", forward: str = "return x"
) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(GATE.format(name=name, top=top, init=init, forward=forward))
    return file


FAULTS = {
    "a missing package": ({"top": "import no_such_package"}, 2, "No module named 'no_such_package'"),
    "a name": ({"top": "x = undefined"}, 2, "NameError: name 'undefined' is not defined"),
    "leaving": ({"top": "import sys; sys.exit(3)"}, 2, "SystemExit: 3"),
    "an error in __init__": ({"init": "1 / 0"}, 11, "ZeroDivisionError"),
    "no such layer": ({"init": "self.conv = nn.Convolution(channels)"}, 11, "has no attribute 'Convolution'"),
    "an error in forward": ({"forward": "return x @ x.new_zeros(3, 3, 3)"}, 14, "RuntimeError"),
    "a missing sibling": ({"top": "import helper"}, 2, "No module named 'helper'"),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("command", ["run", "spaces"])
def test_a_faulty_plugin_is_its_authors_mistake(tmp_path, capsys, case, command):
    parts, line, words = FAULTS[case]
    file = write(tmp_path, **parts)
    space = tmp_path / "s.yaml"
    space.write_text(
        "host: {name: resnet8, width: 8}\nstages: {attention: [none, mine]}\nrecipe: {epochs: 1}\n"
    )
    asked = ["run", "--space", str(space), "--trials", "2"] if command == "run" else ["spaces", str(space)]
    code = main([*asked, "--data", "digits", "--plugin", str(file)])
    shown = capsys.readouterr().err
    assert code == 2, shown
    assert f"mine.py:{line}: " in shown
    assert words in shown
    assert "bug in attnsearch" not in shown


def test_only_a_budget_on_what_cannot_be_counted_refuses(tmp_path, capsys):
    """An operation without a rule is missing from every count but that of parameters."""
    file = write(tmp_path, forward="return x + 0 * (0.1 * x.tanh()).erfinv()")
    space = tmp_path / "s.yaml"
    space.write_text("host: {name: resnet8, width: 8}\nstages: {attention: [none, mine]}\n")
    for budget, code in (("params<=2x", 0), ("macs<=2x", 2), ("flops<=2x", 2)):
        asked = ["spaces", str(space), "--plugin", str(file), "--budget", budget]
        assert main(asked) == code, budget
        refused = f"The budget {budget} cannot be held: No rule says what this work costs: aten::erfinv"
        assert (refused in capsys.readouterr().err) == (code == 2)


def test_a_plugin_imports_the_files_beside_it(tmp_path):
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"VALUE = {value}\n")
        registry.add_plugin(
            write(tmp_path / name, name, top="import helper", init="self.value = helper.VALUE")
        )
    assert registry.load("one")(8).value == 1
    assert registry.load("two")(8).value == 2
    assert not list(tmp_path.rglob("__pycache__"))


def test_an_error_in_a_file_beside_the_plugin_is_named_there(tmp_path, capsys):
    (tmp_path / "helper.py").write_text("\n\nVALUE = 1 / 0\n")
    file = write(tmp_path, top="import helper")
    assert main(["blocks", "mine", "--plugin", str(file)]) == 2
    assert "helper.py:3: ZeroDivisionError: division by zero" in capsys.readouterr().err


PRESETS = ("3", "{'a': 3}", "{[]: {}}")


@pytest.mark.parametrize("presets", PRESETS)
def test_presets_that_are_none(tmp_path, capsys, presets):
    file = write(tmp_path, top=f"PRESETS = {presets}")
    assert main(["blocks", "--plugin", str(file)]) == 2
    assert "mine.py:2: PRESETS" in capsys.readouterr().err
