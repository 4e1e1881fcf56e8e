from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from attnsearch.core.trial import Epoch, TrialResult
from attnsearch.tools.packing import packed, write_parquet
from benchmarks.search import compare, held_out_seeds, peers
from benchmarks.search.hypervolume import Claim
from benchmarks.search.keyed import NOISE, keyed
from benchmarks.search.replay import SAMPLERS, Curve, Search
from benchmarks.search.tables import Attn6, Table, nas_bench_macro

PACKED = """site:a,site:b,key,cost,seed,rung:0.1,error
x,p,k1,10,0,50,30
x,p,k1,10,1,52,32
x,q,k2,20,0,40,20
y,p,k2,20,0,40,20
y,q,k3,30,0,45,25
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "packed.csv"
    path.write_text(PACKED)
    return Table.read(path)


def test_a_packed_table_knows_spellings_of_one_network(table):
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    rows = table.rows(codes)
    assert rows[1] == rows[2]  # k2 is spelled twice
    assert table.allowed(codes).tolist() == [True, True, False, True]
    assert table.archs == 3
    assert table.costs(codes).tolist() == [10, 20, 20, 30]
    assert table.true_error(rows[:1].tolist())[0] == 31  # mean over two seeds
    assert table.noise == pytest.approx(np.sqrt(2))  # one arch with seeds 30 and 32
    assert table.rung(int(rows[1]), 0, 0.06) == 40


def test_hypervolume_of_a_packed_table_by_pencil(table):
    # errors 31, 20, 25 at cost 10, 20, 30; reference (25, log10 30): only k2 counts
    assert table.whole == pytest.approx(5 * np.log10(30 / 20))


def packed_study(path, sites):
    """A study of one site, two seeds and two epochs, and one training of four epochs, as `bench pack` writes it."""

    def trial(option, seed, epochs=2):
        errors = [60.0 - e for e in range(1, epochs)] + [58.0 + seed]
        curve = tuple(Epoch(e, 1.0, 1.0, error, 1.0) for e, error in enumerate(errors, 1))
        return TrialResult(f"k {option}", option, seed, epochs, "complete", error=58.0 + seed, curve=curve,
                           costs={"macs": 5.0 + len(option)}, sites={"stage1": option} if sites else {})  # fmt: skip

    trials = [trial(option, seed) for option in ("none", "se, ratio=4") for seed in (0, 1)]
    outside = TrialResult("b", "plain", 0, 2, "failed")
    record = SimpleNamespace(name="s", trials=[*trials, trial("none", 7, 4), outside])
    record.info = SimpleNamespace(metric=SimpleNamespace(name="error"))
    write_parquet(packed([record]), path)


@pytest.mark.parametrize("site", ["stage1", "arch"])
def test_a_packed_study_is_a_table(tmp_path, site):
    packed_study(tmp_path / "t.parquet", sites=site == "stage1")
    table = Table.read(tmp_path / "t.parquet")
    assert table.sites == {site: ("none", "se, ratio=4")}
    assert table.errors.tolist() == [[58.0, 59.0], [58.0, 59.0]]
    assert {share: errors.tolist() for share, errors in table.rungs.items()} == {0.5: [[59.0] * 2] * 2}
    assert table.cost.tolist() == [9.0, 16.0]


def test_a_cost_that_a_packed_study_lacks_is_named(tmp_path):
    packed_study(tmp_path / "t.parquet", sites=True)
    with pytest.raises(SystemExit, match="no cost 'joules'"):
        Table.read(tmp_path / "t.parquet", "joules")


def test_nas_bench_macro_is_read(tmp_path):
    path = tmp_path / "macro.json"
    rows = {"01": {"test_acc": [90.0, 92.0], "flops": 7}, "21": {"test_acc": [95.0, 95.0], "flops": 9}}
    path.write_text(json.dumps(rows))
    table = nas_bench_macro(path)
    assert table.errors.tolist() == [[10.0, 8.0], [5.0, 5.0]]
    assert table.rows(np.array([[2, 1]]))[0] == 1


def test_attn6_front_agrees_with_plain_formulas():
    """Enumeration by broadcasting against arch by arch."""
    problem = Attn6(0)
    codes = np.random.default_rng(0).integers(0, 16, (5, 6))
    for row, expected in zip(problem.rows(codes), problem.true_errors(codes), strict=True):
        assert problem.true_error([int(row)])[0] == expected
    assert (problem.archs, problem.noise) == (16_777_216, 0.4)


def test_a_replayed_search_spends_what_it_says(table):
    trace = Search(table, SAMPLERS["random"](table, 0), 0).run(3)
    assert (trace.spent, len(set(trace.rows))) == ([1.0, 2.0, 3.0], 3)
    assert trace.volume[-1] == pytest.approx(1.0)
    assert trace.reaches(2.0) == np.inf


def test_synthetic_curves_have_the_stated_rank_correlation():
    from scipy.stats import kendalltau

    problem, random = Attn6(1), np.random.default_rng(1)
    curve = Curve(problem, 0.06, tau=0.6)
    errors = [problem.train(row, random)[0] for row in problem.sample(600, random)]
    rungs = [curve(0, 0, error, random) for error in errors]
    assert kendalltau(rungs, errors)[0] == pytest.approx(0.6, abs=0.06)


def test_claims_say_kept_or_missed():
    assert "kept" in str(Claim("S1", "x", 1.2, 1.15))
    assert "MISSED" in str(Claim("O1", "x", 400, 300, at_least=False))


CURVES = """site:a,cost,seed,rung:0.3333,rung:0.6667,error
p,10,0,80,50,27
q,20,0,82,55,28
r,30,0,81,52,25
s,40,0,79,51,24
p,10,1,80,50,26
q,20,1,82,55,22
r,30,1,81,52,20
s,40,1,79,51,30
"""


def test_a_front_is_judged_on_seeds_that_it_was_not_found_on(tmp_path):
    """Reference: 25.75, the median of mean errors, at cost 40. Seed 0 sees p, r, s; seed 1 sees p, q, r."""
    path = tmp_path / "curves.csv"
    path.write_text(CURVES)
    table = Table.read(path)
    assert held_out_seeds.usable(table)
    assert (held_out_seeds.epochs(table), table.rungs[0.3333].shape) == (3, (4, 2))
    found = dict(held_out_seeds.searches(table, 2, units=4))
    q, r = 3.75 * np.log10(30 / 20), 5.75 * np.log10(40 / 30)
    assert [trace.volume[-1] for trace in found["random"]] == pytest.approx([r / (q + r), 1.0])
    # of 6 pairs 5 and 4 agree with the end
    assert held_out_seeds.ranking(table.of_seeds([0])).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_a_seed_that_not_all_archs_had_judges_but_is_not_searched_on(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(CURVES.splitlines()[:-1]) + "\n")  # s was not trained with seed 1
    found = dict(held_out_seeds.searches(Table.read(path), 2, units=4))
    assert len({trace.volume[-1] for trace in found["random"]}) == 1


def test_a_comparison_goes_on_where_it_stood(tmp_path, capsys):
    (tmp_path / "packed.csv").write_text(PACKED)
    words = f"--table {tmp_path}/packed.csv --problems packed --methods PoolEHVI random --runs {tmp_path}/runs.jsonl"
    for repetitions in (1, 3):
        compare.main([*words.split(), "--repetitions", str(repetitions), "--out", str(tmp_path)])
        runs = compare.read(tmp_path / "runs.jsonl")
        assert {run.seed for run in runs} == set(range(repetitions))
        assert len(runs) == 2 * repetitions  # none again
    assert {(run.at(50), run.at(100)) for run in runs} == {(1.0, 1.0)}  # three archs are all of the table
    shown = capsys.readouterr().out
    assert ("SMAC3 ParEGO is not installed here" in shown) == (not peers.installed("SMAC3 ParEGO"))
    row = json.loads((tmp_path / "search.json").read_text())["rows"][1]
    assert (row["method"], row["runs"], row["ahead@50"]) == ("random", 3, [0.0, 0.0, 0.0])


def test_differences_of_means_and_of_tenth_percentiles_by_pencil():
    own, other = np.array([0.5, 0.9, 1.0]), np.array([0.3, 0.3, 0.3])
    mean, tenth = compare.ahead(own, other)
    assert mean[0] == pytest.approx(0.5)
    assert tenth[0] == pytest.approx(0.58 - 0.3)  # a fifth of the way from 0.5 to 0.9
    assert mean[1] == pytest.approx(0.2, abs=0.1)  # the lowest draw of three: three times 0.5
    assert mean[2] <= 0.7


def test_a_comparison_says_where_our_own_is_behind():
    def runs(method, *shares):
        return [compare.Run("p", method, i, [share, 0.9], 1.0) for i, share in enumerate(shares)]

    rows = list(
        compare.summary([*runs("PoolEHVI", 0.5, 0.5), *runs("random", 0.6, 0.6), *runs("HEBO", 0.5, 0.4)])
    )
    assert compare.behind(rows) == ["p, random, 50 trainings"]
    assert "Without a run: PoolEHVI, 32 workers, NSGA-II" in compare.page(rows, {"on": "a day"})


def test_the_best_twentieth_of_the_keyed_space_stands_apart():
    table = keyed(0)
    assert (table.archs, table.errors.shape) == (6561, (6561, 3))
    assert table.noise == pytest.approx(NOISE, abs=0.01)
    errors = np.sort(table.true_error(list(range(table.archs))))
    opened = 4 * 81  # two keys at each of two sites, any option at the two others
    assert errors[opened] - errors[opened // 2] > 2
