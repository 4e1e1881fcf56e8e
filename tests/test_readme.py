"""The README says what is so: its commands parse, its Python runs, its space file is a question."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attnsearch.cli import app
from tests.test_layout import FLOORS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
COMMANDS = [
    line.removeprefix("$ ").split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("$ attnsearch")
]


def test_the_readme_begins_with_one_command_and_what_it_prints():
    kind, text = BLOCKS[0]
    assert (kind, text.splitlines()[0]) == ("console", "$ make run")
    assert "seed" in BLOCKS[1][1]
    assert "baseline" in BLOCKS[1][1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command):
    words = shlex.split(command)[1:]
    help_text = CliRunner().invoke(app, [words[0], "--help"]).output
    for option in re.findall(r"--[a-z-]+", command):
        assert option in help_text, f"{option} is no option of {words[0]}"


def test_the_space_file_is_a_question(tmp_path):
    from attnsearch.space.space import load_space

    path = tmp_path / "readme.yaml"
    path.write_text(next(text for kind, text in BLOCKS if kind == "yaml"))
    assert load_space(path).question


def test_the_block_of_ten_lines_is_found_and_works(tmp_path):
    import torch

    from attnsearch.blocks import registry
    from attnsearch.build.create import create_block

    text = next(text for kind, text in BLOCKS if kind == "python" and "@block" in text)
    path = tmp_path / "readme_block.py"
    path.write_text(text)
    (facts,) = registry.add_plugin(path)
    try:
        x = torch.randn(2, 32, 7, 5)
        assert create_block(facts.name, 32)(x).shape == x.shape
        row = re.search(rf'"{facts.name}": \(([\d_]+), ([\d_]+)\)', README)
        assert row is not None
        counts = [sum(p.numel() for p in create_block(facts.name, c).parameters()) for c in (64, 512)]
        assert counts == [int(row[1]), int(row[2])]
    finally:
        registry._PLUGINS.clear()


def test_the_pictures_are_there():
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parent.parent / picture).is_file(), picture


def test_the_drawing_of_the_package_is_the_order_of_imports_and_names_files_that_exist():
    package = Path(__file__).parent.parent / "attnsearch"
    lines = [line for line in README.splitlines() if re.match("    [0-9]  [a-z]", line)]
    drawn: dict[int, set[str]] = {}
    for line in lines:
        rooms = line[7:28].split()
        drawn.setdefault(int(line[4]), set()).update(rooms)
        for name in re.findall(r"[a-z]+(?:_[a-z]+)+|(?<=\()[a-z]+(?=\))", line[28:]):
            assert any((package / room / f"{name}.py").exists() for room in rooms), name
    assert [drawn[floor] for floor in sorted(drawn)] == [set(rooms) for rooms in FLOORS]


def test_the_table_of_blocks_names_every_block_with_the_source_that_its_file_names():
    from attnsearch.blocks import registry

    table = README[README.index("## Blocks") :].split("\n## ")[0]
    listed = dict(re.findall(r"`(\w+)` \(([^)]+)\)", table))
    shipped = registry.blocks()
    assert set(listed) == set(shipped)
    for name, source in listed.items():
        first = re.search(r"arXiv:(\d+\.\d+)", shipped[name].doc)
        assert source == first.group(1) if first else source in shipped[name].doc or source == "EAAI 2023", (
            name
        )
