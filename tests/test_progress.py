"""What a run says of itself while it runs."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from attnsearch.cli._progress import Lines, Screen
from attnsearch.core.messages import Progress
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import Epoch, Recipe, TrialResult
from attnsearch.report.text_plot import text_plot
from attnsearch.space.arch import Arch, Stage
from attnsearch.space.space import shipped_spaces
from tests.test_notation import PLAIN, cbam, longest, study, three

INFO = StudyInfo.from_attrs(
    {
        "question": "Which?",
        "size": 9,
        "recipe": {"epochs": 2},
        "data": {"name": "some", "train": 8, "val": 4},
        "device": "cpu",
    }
)


def test_a_resumed_run_counts_what_was_done_and_not_the_time_it_took(monkeypatch, capsys):
    now = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    rows = [TrialResult(f"k{i}", f"arch {i}", 0, 2, "complete", i, error=10.0, seconds=9.0) for i in range(4)]
    lines = Lines()
    lines.began(INFO, 6, 2, rows[:3])
    lines.trial_ended(rows[3])  # one of the three that were left, in 10 s
    said = capsys.readouterr().err
    assert "6 trials (3 done before) of 2 epochs" in said
    assert "[4/6] error 10.00 %  arch 3  seed 0  9 s, left 0:20" in said


@pytest.mark.parametrize(
    ("asked", "text"), [(None, "(8 train, 4 val"), (5, "(5 of 8 train, 4 val"), (9, "(8 train, 4 val")]
)
def test_a_run_says_how_many_of_the_images_it_trains_on(asked, text, capsys):
    recipe = Recipe(epochs=2, train_images=asked)
    Lines().began(replace(INFO, run=replace(INFO.run, recipe=recipe)), 6, 2)
    assert text in capsys.readouterr().err


def screen(width: int, height: int, archs: list[Arch]) -> tuple[Screen, StudyRecord]:
    """A live screen on a terminal of that size, in the middle of a study of these architectures."""
    made = study(archs)
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    shown = Screen(console)
    shown.info = made.info
    shown.clock.start(20, 0)
    shown.clock.done = len(made.trials)
    shown.finished = {row.number: row for row in made.trials}
    running = replace(made.trials[0], number=99, state="running", curve=())
    shown.running = {99: (running, Progress(99, Epoch(1, 1.0, 1.0, 45.25, 1.0))), 98: (running, None)}
    return shown, made


def drawn(shown: Screen) -> list[str]:
    with shown.live.console.capture() as captured:
        shown.live.console.print(shown.draw())
    return captured.get().splitlines()


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_the_screen_shows_its_numbers_at_80_columns_with_the_longest_architectures(name):
    shown, made = screen(80, 40, longest(name))
    lines = drawn(shown)
    assert max(map(len, lines)) <= 80
    assert f"{len(made.trials)}/20 trials" in lines[0]
    assert "ETA" in lines[0]
    assert any("epoch 1/4" in line and "error 45.2 %" in line for line in lines)
    table = lines[next(i for i, line in enumerate(lines) if "seeds  architecture" in line) :]
    runs: dict[str, list[TrialResult]] = {}
    for trial in made.trials:
        runs.setdefault(trial.key, []).append(trial)
    means = [sum(trial.error for trial in of) / len(of) for of in runs.values()]
    for i, (mean, of) in enumerate(
        zip(means, runs.values(), strict=True)
    ):  # each better and costlier: the front
        gain = f"+{means[0] - mean:.2f}" if i else "–"
        cost = f"{of[-1].costs['macs'] / 1e6:.2f}M"
        assert any(line.split()[:4] == [f"{mean:.2f}", gain, cost, str(len(of))] for line in table)


def test_no_architecture_is_cut_on_the_screen_where_every_option_varies():
    long = {"fusion": "parallel", "kernel": 3, "mlp": "independent", "ratio": 4, "spatial": "deep"}
    costly = three(*[replace(cbam(**long), units="last")] * 2, cbam(ratio=8))
    lines = drawn(screen(80, 40, [PLAIN, three(cbam(), Stage(), Stage()), costly])[0])
    table = lines[next(i for i, line in enumerate(lines) if "seeds  architecture" in line) :]
    assert "…" not in "".join(table)
    assert max(map(len, lines)) <= 80
    cell = "cbam k3 r4 parallel independent deep last unit"
    assert sum(line.count(cell) for line in table) == 2


def test_a_low_terminal_gets_no_more_lines_than_it_has():
    assert len(drawn(screen(80, 12, longest("cbam_variants"))[0])) <= 12


def test_the_plot_puts_every_point_where_it_belongs():
    lines = text_plot([(1e6, 30.0, "#"), (2e6, 20.0, "·"), (3e6, 10.0, "o")], 30, 5, "error")
    # 30 - 6 - 2 columns: the costs stand in the first, the middle (round(10.5) = 10) and the last of 22
    assert lines[0] == "  30.0│#"
    assert lines[2] == "      │" + " " * 10 + "·"
    assert lines[4] == "  10.0│" + " " * 21 + "o"
    assert lines[6].split() == ["1.000M", "error", "3.000M"]
    assert max(map(len, lines)) <= 30
