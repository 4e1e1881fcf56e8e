"""What a run says of itself while it runs."""

from __future__ import annotations

import time

from attnsearch.cli._progress import Lines
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import TrialResult

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
