"""Do the statistics hold what they promise? Simulation of T1 to T7 against their bounds.

    python -m benchmarks.statistics.simulate                      2,000 repetitions, minutes
    python -m benchmarks.statistics.simulate --repetitions 200    a look
    python -m benchmarks.statistics.simulate --table PATH         T5 and T6 on NAS-Bench-Macro (its JSON file) as well
    python -m benchmarks.statistics.simulate --seed 7             other tables, studies and draws of archs

Every figure comes from the public functions that judge real runs. A share of T1 to T4 that is out of bounds by less
than three standard errors is measured again, on ten times as many tables, and that counts. The exit code is 1 where a
figure is out of bounds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.trial import Role, TrialResult
from attnsearch.statistics import Table, compare
from attnsearch.statistics.arch_runs import gather
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.front import CONFIRMED, Status, assess
from attnsearch.statistics.next_runs import next_runs
from attnsearch.statistics.pareto import pareto
from attnsearch.statistics.power import mde
from attnsearch.statistics.proxy import audit, kendall
from attnsearch.statistics.proxy_pairs import Pair, choose

Floats = NDArray[np.float64]
SEEDS, VARIANTS, RHOS, NOISES = (3, 5, 10), (2, 6, 11), (0.0, 0.5), ("normal", "t3")
PARTS = ("T1", "T3", "T4", "T5", "T7")
SEED = 2026  # not one of those that the rules' constants were chosen on


@dataclass(frozen=True)
class Row:
    """One measured figure, the bounds it must keep, and the repetitions behind it."""

    test: str
    setting: str
    figure: str
    measured: float
    low: float
    high: float
    repetitions: int

    @property
    def ok(self) -> bool:
        return self.low <= self.measured <= self.high

    @property
    def by_chance(self) -> bool:
        """Whether it is a share out of bounds by less than three standard errors."""
        edge = self.low if self.measured < self.low else self.high
        near = abs(self.measured - edge) < 3 * math.sqrt(max(0.0, edge * (1 - edge)) / self.repetitions)
        return not self.ok and near and self.test in ("T1", "T2", "T3", "T4")

    def __str__(self) -> str:
        bounds = f"{self.low:.3f} to {self.high:.3f}" if self.low > -math.inf else f"at most {self.high:.3f}"
        line = f"{self.test:4}{self.setting:34}{self.figure:38}{self.measured:8.3f}  {bounds:16}"
        return f"{line}{self.repetitions:6}  {'ok' if self.ok else 'OUT'}"


def tables(
    n: int,
    k: int,
    rho: float,
    noise: str,
    repetitions: int,
    *,
    gain: float = 0.0,
    noisy: float = 1.0,
    seed: int = SEED,
) -> Iterator[Table]:
    """Tables of run sd 1 whose variants are `gain` points better; the first one has `noisy` times that sd."""
    rng = np.random.default_rng([seed, n, k, int(10 * rho), NOISES.index(noise)])
    names = tuple(str(i) for i in range(k))

    def draw(*shape: int) -> Floats:
        return rng.standard_normal(shape) if noise == "normal" else rng.standard_t(3, shape) / math.sqrt(3)

    for _ in range(repetitions):
        errors = math.sqrt(rho) * draw(1, n) + math.sqrt(1 - rho) * draw(k, n)
        errors[1] *= noisy
        errors[1:] -= gain
        yield Table(names, tuple(range(n)), errors)


def coverage(
    repetitions: int,
    *,
    seeds: tuple[int, ...] = SEEDS,
    variants: tuple[int, ...] = VARIANTS,
    seed: int = SEED,
) -> Iterator[Row]:
    """T1 per comparison, T2 family-wise and false verdicts, from the same tables without effects.

    A comparison without an interval (below three degrees of freedom) counts neither for nor against.
    """
    for n, k, rho, noise in product(seeds, variants, RHOS, NOISES):
        if (n - 1) * (k - 1) < LEAST_DEGREES:
            continue
        setting = f"n={n} k={k} rho={rho:g} {noise}"
        inside, whole, silent = [], [], []
        for table in tables(n, k, rho, noise, repetitions, seed=seed):
            verdicts = compare(table, "0").verdicts
            inside += [v.interval[0] <= 0 <= v.interval[1] for v in verdicts if v.reason == ""]
            whole.append(all(v.simultaneous[0] <= 0 <= v.simultaneous[1] for v in verdicts))
            silent.append(all(v.outcome not in ("gain", "harm") for v in verdicts))
        yield Row("T1", setting, "coverage per comparison", float(np.mean(inside)), 0.935, 0.965, repetitions)
        yield Row("T2", setting, "coverage of the family", float(np.mean(whole)), 0.93, 0.97, repetitions)
        if noise == "normal":
            false = 1 - float(np.mean(silent))
            most = 0.05 + 2 * math.sqrt(0.05 * 0.95 / repetitions)
            yield Row("T2", setting, "tables with a false verdict", false, -math.inf, most, repetitions)


def one_noisy_variant(repetitions: int, *, seeds: tuple[int, ...] = SEEDS, seed: int = SEED) -> Iterator[Row]:
    """T3: one variant with three times the sd of the others; coverage of the worst comparison."""
    for n, k in product(seeds, (6, 11)):
        inside = [
            [v.interval[0] <= 0 <= v.interval[1] for v in compare(table, "0").verdicts]
            for table in tables(n, k, 0.0, "normal", repetitions, noisy=3.0, seed=seed)
        ]
        worst = float(np.mean(inside, axis=0).min())
        setting = f"n={n} k={k} one variant 3x"
        yield Row(
            "T3", setting, "coverage, worst comparison", worst, 0.90 if n < 5 else 0.92, 1.0, repetitions
        )


def power(
    repetitions: int,
    *,
    seeds: tuple[int, ...] = SEEDS,
    variants: tuple[int, ...] = VARIANTS,
    seed: int = SEED,
) -> Iterator[Row]:
    """T4: variants that are better by the printed minimum detectable effect; share of gains found."""
    for n, k, rho in product(seeds, variants, RHOS):
        effect = mde(n, k, sd=1.0, rho=rho)
        if not math.isfinite(effect):
            continue
        found = [
            np.mean([v.outcome == "gain" for v in compare(table, "0").verdicts])
            for table in tables(n, k, rho, "normal", repetitions, gain=effect, seed=seed)
        ]
        setting = f"n={n} k={k} rho={rho:g} effect {effect:.2f} sd"
        yield Row("T4", setting, "power at the printed MDE", float(np.mean(found)), 0.77, 0.83, repetitions)


def made_space(count: int = 3_000) -> tuple[Floats, Floats]:
    """Error in percent and cost of archs with 6 sites of 5 options: additive effects, pairs, a heavy tail."""
    rng = np.random.default_rng(20)
    option_cost = np.array([0.0, 1.0, 2.0, 4.0, 8.0]) * rng.uniform(0.5, 2.0, (6, 1))
    option_gain = np.sqrt(option_cost) * rng.normal(0.5, 0.4, (6, 5))
    pair_gain = rng.normal(0, 0.15, (6, 6, 5, 5))
    picks = rng.integers(0, 5, (count, 6))
    sites = np.arange(6)
    cost = 20 + option_cost[sites, picks].sum(axis=1)
    gain = option_gain[sites, picks].sum(axis=1)
    for a, b in product(sites, sites):
        gain += pair_gain[a, b, picks[:, a], picks[:, b]]
    return 12 - gain + rng.exponential(0.5, count), cost


def read_table(path: Path) -> tuple[Floats, Floats]:
    """Mean test error in percent and FLOPs of every arch of NAS-Bench-Macro."""
    archs = json.loads(path.read_text()).values()
    return np.array([100 - a["mean_acc"] for a in archs]), np.array([float(a["flops"]) for a in archs])


def front(space: str, errors: Floats, costs: Floats, repetitions: int, *, seed: int = SEED) -> Iterator[Row]:
    """T5 and T6: 100 archs searched on one seed, 40 runs to decide, a last block of 3 seeds."""
    for sd in (0.2, 0.6):
        studies = [_study(errors, costs, sd, [seed, int(10 * sd), i]) for i in range(repetitions)]
        stated, true = (np.concatenate([study[i] for study in studies]) for i in (0, 1))
        setting = f"{space}, run sd {sd:g}"
        yield Row(
            "T5", setting, "calibration error of P(front)", _ece(stated, true), -math.inf, 0.05, repetitions
        )
        sure = stated >= 0.8
        gap = float(stated[sure].mean() - true[sure].mean())
        yield Row("T5", setting, "stated - true where P >= 0.8", gap, -0.05, 0.05, repetitions)
        bias = float(np.concatenate([study[2] for study in studies]).mean()) / sd
        yield Row("T6", setting, "bias of the reported front, run sds", bias, -0.15, 0.15, repetitions)


def _study(errors: Floats, costs: Floats, sd: float, seed: list[int]) -> tuple[Floats, Floats, Floats]:
    """Stated P(front) and truth of all archs after the confirm runs; errors of the final means."""
    rng = np.random.default_rng(seed)
    picked = rng.choice(len(errors), 100, replace=False)
    true, cost = errors[picked], costs[picked]
    trials: list[TrialResult] = []

    def run(cells: list[tuple[str, int]], role: Role) -> None:
        for key, block in cells:
            error = true[int(key)] + rng.normal(0, sd)
            costs = {"macs": cost[int(key)]}
            trials.append(TrialResult(key, key, block, 8, "complete", error=error, costs=costs, role=role))

    run([(str(i), 0) for i in range(100)], "search")
    run([("0", 1), ("0", 2)], "confirm")  # the baseline has three seeds from the start
    for _ in range(8):
        run(next_runs(assess(gather(trials, ["macs"]), draws=1_000), 5), "confirm")
    decided = assess(gather(trials, ["macs"]), draws=4_000)
    stated = np.array([row.p_front for row in decided])
    on_front = pareto(np.column_stack([cost, true]))
    truth = np.array([float(on_front[int(row.key)]) for row in decided])
    confirmed = [row.key for row in decided if (row.p_front or 0) >= CONFIRMED]
    run([(key, seed) for seed in (1_000, 1_001, 1_002) for key in confirmed], "report")
    final = assess(gather(trials, ["macs"]), draws=1_000)
    reported = {trial.key for trial in trials if trial.role == "report"}
    told = [row for row in final if row.key in reported and row.status == Status.CONFIRMED]
    return stated, truth, np.array([row.mean - true[int(row.key)] for row in told])


def _ece(stated: Floats, true: Floats) -> float:
    """Expected calibration error over ten equal bins of the stated probability."""
    bins = np.minimum((stated * 10).astype(int), 9)
    return float(
        sum(abs(stated[bins == b].mean() - true[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    )


# Kendall taus of NAS-Bench-201, 12 against 200 epochs: short and long, cost and long; cost and short set so
# that the partial tau given cost is .56, as measured there.
TAUS = {"short long": 0.63, "cost long": 0.55, "cost short": 0.35}


def made_pairs(count: int = 4_000) -> tuple[Floats, Floats, Floats]:
    """Short error, long error (sd 1 point) and log cost of archs whose rank correlations are `TAUS`."""
    r = {name: math.sin(math.pi * tau / 2) for name, tau in TAUS.items()}
    matrix = np.array(
        [
            [1, r["short long"], -r["cost short"]],
            [r["short long"], 1, -r["cost long"]],
            [-r["cost short"], -r["cost long"], 1],
        ]
    )
    short, long, cost = np.random.default_rng(21).multivariate_normal([40, 20, 0], matrix, count).T
    return short, long, cost


def proxy(repetitions: int, *, sizes: tuple[int, ...] = (24, 30), seed: int = SEED) -> Iterator[Row]:
    """T7: coverage of the audit's interval for tau, and how often a good and a permuted proxy are trusted."""
    short, long, cost = made_pairs()
    true = kendall(short, long)
    for size in sizes:
        inside, good, blind = [], [], []
        for i in range(seed * repetitions, (seed + 1) * repetitions):
            chosen = choose(cost, short, size, seed=i)
            mixed = np.random.default_rng(i).permutation(chosen)
            judged = audit(
                [Pair(str(j), cost[j], (short[j],), (long[j],)) for j in chosen], draws=1_000, seed=i
            )
            permuted = [
                Pair(str(j), cost[j], (short[m],), (long[j],)) for j, m in zip(chosen, mixed, strict=True)
            ]
            inside.append(judged.tau_interval[0] <= true <= judged.tau_interval[1])
            good.append(judged.verdict == "trust")
            blind.append(audit(permuted, draws=1_000, seed=i).verdict == "trust")
        setting = f"{size} archs, made pairs"
        yield Row("T7", setting, "coverage of tau", float(np.mean(inside)), 0.92, 0.98, repetitions)
        if size >= 30:
            yield Row("T7", setting, "a good proxy is trusted", float(np.mean(good)), 0.90, 1.0, repetitions)
        yield Row(
            "T7", setting, "a permuted proxy is trusted", float(np.mean(blind)), -math.inf, 0.01, repetitions
        )


def settled(make: Callable[[int], Iterator[Row]], repetitions: int) -> Iterator[Row]:
    """The rows; one that may be out of bounds by chance is followed by its like on ten times as many tables."""
    rows = list(make(repetitions))
    doubtful = {(row.test, row.setting, row.figure) for row in rows if row.by_chance}
    yield from rows
    if doubtful:
        yield from (row for row in make(10 * repetitions) if (row.test, row.setting, row.figure) in doubtful)


def main() -> int:
    """Print a line per figure; 1 where one is out of bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=2_000, help="tables, or audits, per setting")
    parser.add_argument("--studies", type=int, default=120, help="simulated studies per setting of T5 and T6")
    parser.add_argument("--table", type=Path, help="NAS-Bench-Macro's JSON file")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="T1 with T2, T5 with T6")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all tables and studies (default {SEED})")
    options = parser.parse_args()
    start, out = time.monotonic(), 0
    for part in options.only:
        last: dict[tuple[str, str, str], Row] = {}
        for row in _part(part, options):
            print(row, flush=True)
            last[row.test, row.setting, row.figure] = row
        out += sum(not row.ok for row in last.values())
    print(f"{out} out of bounds; {time.monotonic() - start:.0f} s")
    return int(out > 0)


def _part(name: str, options: argparse.Namespace) -> Iterator[Row]:
    seed, repetitions, studies = options.seed, options.repetitions, options.studies
    each = [{"seeds": (n,), "variants": (k,), "seed": seed} for n in SEEDS for k in VARIANTS]
    if name == "T1":
        for setting in each:
            yield from settled(partial(coverage, **setting), repetitions)
    elif name == "T3":
        for n in SEEDS:
            yield from settled(partial(one_noisy_variant, seeds=(n,), seed=seed), repetitions)
    elif name == "T4":
        for setting in each:
            yield from settled(partial(power, **setting), repetitions)
    elif name == "T5":
        yield from front("made space", *made_space(), studies, seed=seed)
        if options.table:
            yield from front("NAS-Bench-Macro", *read_table(options.table), studies, seed=seed)
    else:
        yield from proxy(repetitions, seed=seed)


if __name__ == "__main__":
    raise SystemExit(main())
