"""Search benchmark: hypervolume against trainings, without training anything. Minutes on one core.

    python -m benchmarks.search.hypervolume [--nas-bench-macro nas_bench_macro.json] [--table TABLE ...] [--out DIR]

Problems: Attn6 (synthetic, seeds 0 and 1), NAS-Bench-Macro and packed tables where their path is given
(format: `benchmarks/search/tables.py`). Hypervolume is that of the true values (mean over seeds) of what was
trained to the end, in (error, log10 cost), up to (median error, highest cost), as a share of the whole
space's. Intervals are 95 % t intervals over repetitions. Tables without learning curves get synthetic ones
of Kendall's tau 0.6 (`--tau`). A table of whole curves of several seeds is also searched on one seed and
judged on the others (`benchmarks/search/held_out_seeds.py`).

Writes search.json, search.md, search.png and pruning.png, and prints a line for each claim: bound, measured, kept or
missed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from attnsearch.sample.mo_asha import MoAsha
from attnsearch.sample.pareto_at_rung import ParetoAtRung
from attnsearch.sample.pruner_base import NeverStop, Pruner
from attnsearch.statistics.false_stops import audit
from benchmarks.search import held_out_seeds
from benchmarks.search.replay import SAMPLERS, Curve, Problem, Search, Trace
from benchmarks.search.tables import Attn6, Floats, Table, nas_bench_macro
from benchmarks.speed import proposals

SHARES = (0.06, 0.25)  # of a training, spent when a trial is stopped at the rung
UNITS = 40
Results = dict[str, dict[str, list[Trace]]]  # problem -> method -> repetitions
PRUNERS: dict[str, Callable[[int], Pruner]] = {
    "none": lambda seed: NeverStop(),
    "PAR": lambda seed: ParetoAtRung(seed),
    "MO-ASHA eta 3": lambda seed: MoAsha(3.0),
    "MO-ASHA eta 9": lambda seed: MoAsha(9.0),
}


@dataclass(frozen=True)
class Claim:
    """One acceptance line: what was asked for, what was measured."""

    name: str
    problem: str
    measured: float
    bound: float
    at_least: bool = True
    note: str = ""

    @property
    def kept(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "kept" if self.kept else "MISSED"
        measured = f"{self.measured:10.4g} {sign} {self.bound:<8.4g}"
        return f"{self.name:3} {self.problem:22} {measured} {verdict:7} {self.note}"


def sampling(problem: Problem, seeds: range, gp: int, trainings: int) -> dict[str, list[Trace]]:
    """Each sampler's searches; random goes on to 200 for S2, PoolEHVI also with 8 workers."""
    found = {}
    for name, make in SAMPLERS.items():
        chosen = seeds[:gp] if name.startswith("GP") else seeds
        if not chosen:
            continue
        length = 2 * trainings if name == "random" else trainings
        length = int(min(length, problem.archs))
        found[name] = [Search(problem, make(problem, s), s).run(length) for s in chosen]
        _say(f"{problem.name}: {name} {_interval([trace.at(trainings) for trace in found[name]])}")
    make = SAMPLERS["PoolEHVI"]
    found["PoolEHVI, 8 workers"] = [
        Search(problem, make(problem, s), s, workers=8).run(trainings) for s in seeds
    ]
    return found


def sampling_claims(problem: Problem, found: dict[str, list[Trace]], trainings: int) -> list[Claim]:
    def mean(name: str, units: int = trainings) -> float:
        return float(np.mean([trace.at(units) for trace in found[name]]))

    pool = [trace.at(trainings) for trace in found["PoolEHVI"]]
    target = mean("random", 2 * trainings)
    reached = float(np.median([trace.reaches(target) for trace in found["PoolEHVI"]]))
    rival = mean("TPE, multivariate + dedup")
    gain, at = float(np.mean(pool)) / mean("random"), f"HV@{trainings}"
    parallel = mean("PoolEHVI, 8 workers") / float(np.mean(pool))
    name = problem.name
    return [
        Claim("S1", name, gain, 1.15, note=f"{at} over random's mean"),
        Claim("S1", name, min(pool) / mean("random"), 1.0, note=f"worst of {len(pool)} over random's mean"),
        Claim("S2", name, reached, 60, False, f"median trainings to random's HV@{2 * trainings}"),
        Claim("S3", name, float(np.mean(pool)) / rival, 1.0, note=f"{at} over TPE multivariate + dedup"),
        Claim("S5", name, parallel, 0.9, note=f"{at}, 8 workers over 1"),
    ]


def stopping(problem: Problem, share: float, seeds: range, tau: float) -> dict[str, list[Trace]]:
    """Each pruner under random search, PAR under PoolEHVI, PAR on a permuted rung; `UNITS` trainings each."""
    curve, found = Curve(problem, share, tau=tau), {}
    for name, make in PRUNERS.items():
        found[f"random, {name}"] = _searches(problem, "random", make, curve, seeds)
    found["PoolEHVI, PAR"] = _searches(problem, "PoolEHVI", PRUNERS["PAR"], curve, seeds)
    mixed = Curve(problem, share, tau=tau, permuted=True)
    found["random, PAR, permuted"] = _searches(problem, "random", PRUNERS["PAR"], mixed, seeds)
    for name, traces in found.items():
        reached = _interval([trace.at(UNITS) for trace in traces])
        _say(f"{problem.name}, rung at {share:.0%}: {name} {reached}")
    return found


def stopping_claims(problem: Problem, share: float, found: dict[str, list[Trace]]) -> list[Claim]:
    mean = {name: float(np.mean([trace.at(UNITS) for trace in traces])) for name, traces in found.items()}
    none, par = mean["random, none"], mean["random, PAR"]
    asha = max(mean["random, MO-ASHA eta 3"], mean["random, MO-ASHA eta 9"])
    where = f"{problem.name} {share:.0%}"
    permuted = mean["random, PAR, permuted"] / none
    return [
        Claim("P1", where, par / asha, 0.97, note="PAR over the better MO-ASHA"),
        Claim("P2", where, mean["PoolEHVI, PAR"] / none, 1.20, note="PAR + PoolEHVI over random"),
        Claim("P3", where, permuted, 0.95, note="HV with a permuted rung over no pruning"),
    ]


def gain_claim(stopped: Results) -> Claim:
    """P1's gain is gated in the mean over all problems and rungs."""
    gains = [
        np.mean([trace.at(UNITS) for trace in found["random, PAR"]])
        / np.mean([trace.at(UNITS) for trace in found["random, none"]])
        for found in stopped.values()
    ]
    note = f"PAR over no pruning at {UNITS} units: " + " ".join(f"{gain:.2f}" for gain in gains)
    return Claim("P1", f"mean of {len(gains)}", float(np.mean(gains)), 1.10, note=note)


def on_fresh_seeds(table: Table, repetitions: int) -> tuple[dict[str, list[Trace]], list[Claim]]:
    """Fronts found on one seed of a real table, measured on the others; `UNITS` trainings each."""
    _say(
        f"{table.name}: tau of each epoch with the last "
        + " ".join(f"{t:.2f}" for t in held_out_seeds.ranking(table))
    )
    found = {}
    for name, traces in held_out_seeds.searches(table, repetitions, UNITS):
        found[name] = traces
        stopped = np.mean([np.mean([run.stopped for run in trace.runs]) for trace in traces])
        false = np.mean([_false_rate(trace, table.noise) for trace in traces])
        reached = _interval([trace.at(UNITS) for trace in traces])
        _say(
            f"{table.name}, fresh seeds: {name} {reached}, stopped {stopped:.0%}, falsely {false:.0%} of these"
        )
    random = float(np.mean([trace.at(UNITS) for trace in found["random"]]))
    both = found["PoolEHVI, PAR"]
    early, late = (float(np.mean([trace.at(units) for trace in both])) for units in (UNITS / 2, UNITS))
    half = f"PoolEHVI + PAR at {UNITS // 2} units over random at {UNITS}, fresh seeds"
    return found, [
        Claim("real", table.name, early / random, 1.0, note=half),
        Claim("real", table.name, late / random, 1.0, note=f"the same at {UNITS} units each"),
    ]


def auditing(problem: Problem, seeds: range, tau: float) -> list[Claim]:
    """P3: does the audit's interval hold the true rate of false stops; does the gate know a useless rung?"""
    covered: list[bool] = []
    closed: dict[bool, list[bool]] = {True: [], False: []}
    for permuted in (False, True):
        curve = Curve(problem, SHARES[0], tau=tau, permuted=permuted)
        for trace in _searches(problem, "random", PRUNERS["PAR"], curve, seeds):
            closed[permuted] += _gate_closed(trace)
            if not permuted:
                low, high = audit(trace.runs, problem.noise)[0].interval
                covered.append(low <= _false_rate(trace, problem.noise) <= high)
    counts = {which: f"20-30 complete trials, {len(flags)} runs" for which, flags in closed.items()}
    held, on, off = (float(np.mean(flags)) for flags in (covered, closed[False], closed[True]))
    return [
        Claim("P3", problem.name, held, 0.90, note=f"audit interval holds the true rate, {len(seeds)} runs"),
        Claim("P3", problem.name, off, 0.90, note=f"gate closed at {counts[True]}, permuted rung"),
        Claim("P3", problem.name, on, 0.05, False, f"gate closed at {counts[False]}, real rung"),
    ]


def _gate_closed(trace: Trace) -> list[bool]:
    """Whether the rung is distrusted on most counts of 20 to 30 complete trials; empty where there are fewer."""
    done = np.array([(run.rungs[0], run.error, run.costs[0]) for run in trace.runs if run.error is not None])
    distrusted = [ParetoAtRung().trust(done[:n]) <= 0 for n in range(20, min(31, len(done) + 1), 2)]
    return [float(np.mean(distrusted)) > 0.5] if distrusted else []


def _false_rate(trace: Trace, sd: float) -> float:
    """Share of all would-be stops whose final error, known here alone, is within sd of the final front."""
    done = [(run.costs[0], run.error) for run in trace.runs if run.error is not None]
    would = [(r, f) for r, f in zip(trace.runs, trace.finals, strict=True) if r.stopped or r.audited]
    false = [f <= min([e for c, e in done if c <= r.costs[0]], default=np.inf) + sd for r, f in would]
    return float(np.mean(false)) if false else 0.0


def overhead_claims() -> list[Claim]:
    repeats, taken = proposals.proposals()
    ask, loaded = proposals.large_study()
    drawn, scored = zip(*(proposals.asking_while_running(n, 100) for n in (100, 300, 1000)), strict=True)
    storm = proposals.concurrent_repeats(Attn6(0))
    attn, sqlite = "Attn6-s0", "SQLite WAL"
    return [
        Claim("S4", attn, repeats, 0, False, "repeats in 500 trials, one process"),
        Claim("S4", attn, storm, 0.01, False, "share of repeats, 8 askers without a coordinator"),
        Claim("C1", attn, proposals.costing(), 1e5, note="archs costed per second"),
        Claim("O1", attn, 1e3 * taken[200], 150, False, "ms, ask + tell, 200 finished, pool of 5,000"),
        Claim("O1", attn, 1e3 * taken[500], 150, False, "ms, ask + tell, 500 finished"),
        Claim(
            "O1", attn, max(scored), 150, False, "ms of processor, ask, 100 running, 100 to 1,000 finished"
        ),
        Claim("O1", attn, max(drawn), 15, False, "the same, random"),
        Claim("O2", sqlite, 1e3 * proposals.bookkeeping(), 25, False, "ms per rung report, 1,000 trials"),
        Claim("O2", sqlite, 1e3 * ask, 150, False, "ms, random ask + tell, 10,000 trials"),
        Claim("O2", sqlite, loaded, 6, False, "s to load 10,000 trials cold"),
        Claim("O3", attn, taken[200] / 60, 0.02, False, "share of a 60 s trial, 200 finished"),
    ]


def _searches(
    problem: Problem, sampler: str, pruner: Callable[[int], Pruner], curve: Curve, seeds: range
) -> list[Trace]:
    make = SAMPLERS[sampler]
    return [
        Search(problem, make(problem, seed), seed, pruner=pruner(seed), curves=[curve]).run(UNITS)
        for seed in seeds
    ]


def _interval(values: Sequence[float]) -> str:
    """`0.853 ± 0.012 (10)`: mean, half width of the 95 % t interval, repetitions."""
    return f"{np.mean(values):.3f} ± {_half(np.array(values)[:, None])[0]:.3f} ({len(values)})"


def _half(values: Floats) -> Floats:
    """Half width of the 95 % t interval of the mean over rows; nan for one row."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1], np.nan)
    half: Floats = student.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return half


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def markdown(results: Results, columns: Sequence[int]) -> str:
    """Markdown: one row per problem and method, hypervolume share after so many units."""
    heads = ["problem", "method", *(f"HV@{n}" for n in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for problem, found in results.items():
        for name, traces in found.items():
            cells = [_interval([trace.at(n) for trace in traces]) for n in columns]
            lines.append("| " + " | ".join([problem, name, *cells]) + " |")
    return "\n".join(lines)


def figure(results: Results, path: Path, units: int) -> None:
    """One panel per problem: mean share with its 95 % band against units spent."""
    from matplotlib.figure import Figure

    columns = min(3, len(results))
    rows = -(-len(results) // columns)
    drawing = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for axis, (problem, found) in zip(axes, results.items(), strict=False):
        for name, traces in found.items():
            at = np.arange(5, units + 1)
            values = np.array([[trace.at(float(n)) for n in at] for trace in traces])
            middle = values.mean(0)
            axis.plot(at, middle, label=name)
            if len(values) > 1:
                half = _half(values)
                axis.fill_between(at, middle - half, middle + half, alpha=0.15)
        axis.set(title=problem, xlabel="whole trainings spent", ylabel="hypervolume / whole space's")
        axis.legend(fontsize="x-small")
    for axis in axes[len(results) :]:
        axis.remove()
    drawing.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    tables = [Table.read(path, options.cost) for path in options.table]
    problems: list[Problem] = [Attn6(0), Attn6(1)] if options.synthetic else []
    if options.nas_bench_macro:
        problems.append(nas_bench_macro(options.nas_bench_macro))
    problems += tables
    claims: list[Claim] = []

    def seeds(count: int) -> range:
        return range(options.first_seed, options.first_seed + count)

    searched: Results = {}
    stopped: Results = {}
    judged: Results = {}
    for problem in problems:
        if "search" in options.parts:
            ran = sampling(problem, seeds(options.repetitions), options.gp_repetitions, options.trainings)
            searched[problem.name] = ran
            claims += sampling_claims(problem, ran, options.trainings)
        if "pruning" in options.parts and len(problem.rungs) < 2:
            for share in SHARES:
                found = stopping(problem, share, seeds(options.repetitions), options.tau)
                stopped[f"{problem.name}, rung at {share:.0%}"] = found
                claims += stopping_claims(problem, share, found)
            claims += auditing(problem, seeds(options.audits), options.tau)
    if stopped:
        claims.append(gain_claim(stopped))
    for table in tables:
        if "fresh" in options.parts and held_out_seeds.usable(table):
            judged[f"{table.name}, fresh seeds"], more = on_fresh_seeds(table, options.repetitions)
            claims += more
    if "overhead" in options.parts:
        claims += overhead_claims()
    _write(options.out, searched, {**stopped, **judged}, claims, options.trainings)


def _write(out: Path, searched: Results, stopped: Results, claims: list[Claim], trainings: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    if searched:
        parts.append(markdown(searched, (trainings // 2, trainings)))
        figure(searched, out / "search.png", trainings)
    if stopped:
        parts.append(markdown(stopped, (UNITS // 4, UNITS // 2, UNITS)))
        figure(stopped, out / "pruning.png", UNITS)
    lines = "\n".join(map(str, claims))
    (out / "search.md").write_text("\n\n".join([*parts, f"```\n{lines}\n```"]) + "\n")
    curves = {
        problem: {
            name: [{"spent": trace.spent, "volume": trace.volume} for trace in traces]
            for name, traces in found.items()
        }
        for problem, found in {**searched, **stopped}.items()
    }
    facts = {"claims": [asdict(claim) | {"kept": claim.kept} for claim in claims], "curves": curves}
    (out / "search.json").write_text(json.dumps(facts))
    print("\n\n".join([*parts, lines]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nas-bench-macro", type=Path, help="nas_bench_macro.json")
    parser.add_argument("--table", type=Path, nargs="*", default=[], help="packed tables (CSV or parquet)")
    parser.add_argument("--cost", default="macs", help="axis of tables that `attnsearch bench pack` wrote")
    parser.add_argument(
        "--synthetic", action=argparse.BooleanOptionalAction, default=True, help="Attn6 as well"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    parser.add_argument("--parts", nargs="+", default=["search", "pruning", "fresh", "overhead"])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument(
        "--first-seed", type=int, default=0, help="of the repetitions; held_out_seeds.py has its own"
    )
    parser.add_argument(
        "--gp-repetitions", type=int, default=2, help="of Optuna's GPSampler (slow); 0 leaves it out"
    )
    parser.add_argument("--trainings", type=int, default=100)
    parser.add_argument("--audits", type=int, default=100, help="runs for the audit's coverage")
    parser.add_argument("--tau", type=float, default=0.6, help="of synthetic rungs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
