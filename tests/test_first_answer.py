"""The benchmark of the default command: which runs count as contradicted, on rows made by hand."""

from __future__ import annotations

import pytest

from benchmarks.first_answer.runs import command, contradicted, contradictions, seen, table

LONG = {"970": 20.0, "971": 22.0}


def row(verdict, arch="a", long=None, high=-1.0):
    control = {"difference": -3.0, "low": -5.0, "high": high, "n": 8}
    finding = {
        **{"verdict": verdict, "arch": arch, "difference": 5.0, "low": 3.0, "high": 7.0, "n": 4},
        **{"cost_ratio": 1.01, "positive_control": control},
    }
    return {"seed": 0, "seconds": 100.0, "spec": {}, "finding": finding, **({"long": long} if long else {})}


@pytest.mark.parametrize(
    ("verdict", "errors", "told"),
    [
        ("gain", (5.0, 30.0), False),  # 20 - 5 and 22 - 30: better by 3.5 in the mean
        ("gain", (21.0, 23.0), True),
        ("harm", (21.0, 23.0), False),
        ("harm", (5.0, 30.0), True),
        ("equivalent", (20.5, 22.5), False),
        ("equivalent", (23.0, 25.0), True),
        ("no evidence", (23.0, 25.0), None),
    ],
)
def test_a_verdict_is_contradicted_by_the_mean_after_longer_training(verdict, errors, told):
    long = dict(zip(LONG, errors, strict=True))
    assert contradicted(row(verdict, long=long), LONG) is told
    assert contradicted(row(verdict), LONG) is None


def test_two_runs_contradict_each_other_over_one_arch_alone():
    assert contradictions([row("gain"), row("harm"), row("gain"), row("no evidence")]) == 2
    assert contradictions([row("gain", "a"), row("harm", "b")]) == 0


def test_the_table_counts_what_it_shows():
    rows = [row("gain", long={"970": 5.0, "971": 6.0}), row("no evidence", high=0.5), row("harm", "b")]
    text = table({"runs": rows, "baseline_long": LONG})
    assert [seen(each) for each in rows] == [True, False, True]
    assert "Control seen in 2 of 3 runs; 2 end in gain, harm or equivalent; 0 pairs contradict" in text
    assert "contradicts 0 of 1 winners" in text
    assert command()[:3] == ["run", "--space", "cbam_variants"]
