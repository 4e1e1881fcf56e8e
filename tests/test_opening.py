"""The sentence that an ablation's report opens with."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnsearch import report as reports
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.report import sentences

SEEDS = range(6)
HOST = {"name": "resnet8"}


def trials(errors: dict[str, float], starts: dict[str, str]) -> tuple[TrialResult, ...]:
    """Every variant in six seeds, its error moved by noise of its own that sums to zero."""
    rows: list[Any] = []
    moves = [-0.5, -0.3, -0.1, 0.1, 0.3, 0.5]
    for i, (name, error) in enumerate(errors.items()):
        gate = {} if name == "plain" else {"attention": {"block": name.partition("@")[0]}}
        start = {"init": starts[name]} if starts.get(name, "default") != "default" else {}
        for seed, move in zip(SEEDS, np.random.default_rng(i).permutation(moves), strict=True):
            found = error + seed + float(move)
            rows.append(
                TrialResult(
                    name, name, seed, 1, "complete", len(rows), role="design", error=found,
                    costs={"macs": 100.0 + i}, curve=(Epoch(1, 1.0, found / 10, found, 1.0),),
                    spec={"host": HOST, "stages": [gate | start]},
                )
            )  # fmt: skip
    return tuple(rows)


def opened(errors: dict[str, float], starts: dict[str, str]) -> str:
    attrs = {"baseline": "plain", "design": {"kind": "add", "variants": len(errors)}}
    return sentences.answer(reports.build(StudyRecord("s", attrs, trials(errors, starts))))[0]


def test_each_start_has_its_own_answer() -> None:
    identity = {"se@identity": "identity", "eca@identity": "identity"}
    errors = {"plain": 20.0, "se": 25.0, "eca": 30.0, "se@identity": 20.0, "eca@identity": 20.0}
    line = opened(errors, identity)
    first, second = line.split("; ")
    assert first.startswith(
        "After 1 epoch, in points of accuracy against plain on 6 seeds: of 2 gates that start as the identity, "
    )
    assert "none is shown to be better or worse (2 neither, " in first
    assert second == (
        "of 2 gates that start as their papers have them, none is shown to be better, "
        "eca (-10.00) and se (-5.00) are shown to be worse."
    )


def test_where_all_start_alike_the_start_is_not_spoken_of() -> None:
    line = opened({"plain": 20.0, "se": 15.0, "eca": 20.0}, {})
    assert "of 2 variants, se (+5.00) is shown to be better, none is shown to be worse (1 neither, " in line
    assert "start" not in line


def test_many_are_counted_after_three_names() -> None:
    errors = {"plain": 20.0} | {f"g{i}": 30.0 + i for i in range(5)}
    line = opened(errors, {})
    assert "of 5 variants, none is shown to be better, g4 (-14.00), g3 (-13.00), g2 (-12.00)" in line
    assert " and 2 more are shown to be worse." in line
