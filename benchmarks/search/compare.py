"""Our sampler beside the field's, at equal trainings: mean and bad days of the hypervolume, processor time of an ask.

    python -m benchmarks.search.compare [--nas-bench-macro nas_bench_macro.json] [--table TABLE ...] [--runs FILE]
        [--methods NAME ...] [--problems NAME ...] [--repetitions 30] [--out DIR]

Problems: Attn6 and Keyed (synthetic, two seeds each), and those whose path is given. Hypervolume as in
`benchmarks.search.hypervolume`, after 50 and 100 trainings (all archs where there are fewer). Our own also with 32
workers: each proposal knows nothing of 31 trainings. A run that stands in --runs is not done again: begun again, the
command goes on where it stood; `--methods` and `--problems` do a part.
Peers are no dependencies: `pip install botorch smac HEBO syne-tune`; what is missing is left out, and named.

Writes search.md and search.json: mean and 10th percentile over runs, the difference of our own with its 95 % bootstrap
interval over runs, and the median of the processor time that an ask takes at 50 to 100 trainings.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
import torch

from attnsearch.core.machine import device_name, versions
from benchmarks.search.keyed import keyed
from benchmarks.search.peers import PEERS, Sampler, installed
from benchmarks.search.replay import SAMPLERS, Problem, Search, dedup
from benchmarks.search.tables import Attn6, Floats, Table, nas_bench_macro

OURS = "PoolEHVI"
MANY = f"{OURS}, 32 workers"
LENGTHS = (50, 100)
DRAWS = 10_000  # of the bootstrap
METHODS: dict[str, Sampler] = {
    OURS: SAMPLERS[OURS],
    MANY: SAMPLERS[OURS],
    "random": SAMPLERS["random"],
    "NSGA-II + dedup": lambda problem, seed: dedup(
        problem, seed, lambda s: optuna.samplers.NSGAIISampler(population_size=16, seed=s)
    ),
    "TPE, multivariate + dedup": SAMPLERS["TPE, multivariate + dedup"],
    "GPSampler + dedup": SAMPLERS["GPSampler + dedup"],
    **{name: sampler for name, (_, sampler) in PEERS.items()},
}


@dataclass(frozen=True)
class Run:
    """One search: hypervolume share after each of LENGTHS, and processor time of an ask (median of the second half)."""

    problem: str
    method: str
    seed: int
    shares: list[float]
    ask_ms: float

    def at(self, trainings: int) -> float:
        return self.shares[LENGTHS.index(trainings)]


def search(problem: Problem, method: str, seed: int) -> Run:
    replay = Search(problem, METHODS[method](problem, seed), seed, workers=32 if method == MANY else 1)
    trace = replay.run(min(LENGTHS[-1], problem.archs))
    shares = [round(trace.at(trainings), 4) for trainings in LENGTHS]
    ask_ms = 1e3 * float(np.median(trace.asked[len(trace.asked) // 2 :]))
    return Run(problem.name, method, seed, shares, round(ask_ms, 2))


def read(path: Path) -> list[Run]:
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def summary(runs: Sequence[Run]) -> Iterator[dict[str, object]]:
    """One row per problem and method, in the order of METHODS."""
    for problem in dict.fromkeys(run.problem for run in runs):
        by_method = {m: [run for run in runs if (run.problem, run.method) == (problem, m)] for m in METHODS}
        for method, ran in by_method.items():
            if not ran:
                continue
            row: dict[str, object] = {"problem": problem, "method": method, "runs": len(ran)}
            for trainings in LENGTHS:
                own, other = (np.array([run.at(trainings) for run in r]) for r in (by_method[OURS], ran))
                row[f"mean@{trainings}"], row[f"p10@{trainings}"] = other.mean(), np.quantile(other, 0.1)
                if method != OURS and min(len(own), len(ran)) > 1:
                    row[f"ahead@{trainings}"], row[f"p10 ahead@{trainings}"] = ahead(own, other)
            yield row | {"ask_ms": float(np.median([run.ask_ms for run in ran]))}


def ahead(own: Floats, other: Floats) -> tuple[list[float], list[float]]:
    """Difference of the means and of the 10th percentiles: [estimate, lower, upper] of the 95 % bootstrap."""
    random = np.random.default_rng(0)
    a, b = (runs[random.integers(0, len(runs), (DRAWS, len(runs)))] for runs in (own, other))

    def interval(of: float, draws: Floats) -> list[float]:
        return [float(of), *map(float, np.quantile(draws, [0.025, 0.975]))]

    tenth = np.quantile(own, 0.1) - np.quantile(other, 0.1)
    return (
        interval(own.mean() - other.mean(), a.mean(1) - b.mean(1)),
        interval(tenth, np.quantile(a, 0.1, axis=1) - np.quantile(b, 0.1, axis=1)),
    )


def page(rows: Sequence[dict[str, object]], about: dict[str, str]) -> str:
    """The table with what it was measured on, what was not, and where our own is behind."""
    missing = [method for method in METHODS if method not in {row["method"] for row in rows}]
    lines = [
        "# Our sampler beside the field's",
        "",
        f"`python -m benchmarks.search.compare`, {', '.join(f'{k} {v}' for k, v in about.items())}.",
        "Attn6 and Keyed are synthetic; differences with 95 % bootstrap intervals over runs.",
        "",
        markdown(rows),
        "",
        f"Without a run: {', '.join(missing) or 'none'}.",
        "",
        f"Our mean is lower, or our 10th percentile significantly so: {'; '.join(behind(rows)) or 'nowhere'}.",
    ]
    return "\n".join(lines) + "\n"


def behind(rows: Sequence[dict[str, object]]) -> list[str]:
    out = []
    for row in rows:
        for n in LENGTHS if row["method"] != MANY else ():
            mean, tenth = row.get(f"ahead@{n}", [0.0]), row.get(f"p10 ahead@{n}", [0.0, 0.0, 0.0])
            if mean[0] < 0 or tenth[2] < 0:  # type: ignore[index]
                out.append(f"{row['problem']}, {row['method']}, {n} trainings")
    return out


def markdown(rows: Sequence[dict[str, object]]) -> str:
    heads = ["problem", "method", "runs"]
    for trainings in LENGTHS:
        heads += [f"mean@{trainings}", f"10 %@{trainings}", "mean, ours ahead", "10 %, ours ahead"]
    heads.append("ask, ms")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [str(row["problem"]), str(row["method"]), str(row["runs"])]
        for trainings in LENGTHS:
            cells += [f"{row[f'mean@{trainings}']:.3f}", f"{row[f'p10@{trainings}']:.3f}"]
            for kind in ("ahead", "p10 ahead"):
                difference = row.get(f"{kind}@{trainings}")
                cells.append("{:+.3f} ({:+.3f} to {:+.3f})".format(*difference) if difference else "")  # type: ignore[misc]
        lines.append("| " + " | ".join([*cells, f"{row['ask_ms']:.0f}"]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    problems: list[Problem] = [Attn6(0), Attn6(1), keyed(0), keyed(1)]
    if options.nas_bench_macro:
        problems.append(nas_bench_macro(options.nas_bench_macro))
    problems += [Table.read(path, options.cost) for path in options.table]
    runs = read(options.runs)
    known = {(run.problem, run.method, run.seed) for run in runs}
    options.runs.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.repetitions):
        for problem in problems:
            for method in options.methods:
                new = (problem.name, method, seed) not in known and problem.name in (
                    options.problems or [problem.name]
                )
                if new and (method not in PEERS or installed(method)):
                    runs.append(search(problem, method, seed))
                    with options.runs.open("a") as file:
                        file.write(json.dumps(asdict(runs[-1])) + "\n")
    for method in PEERS:
        if not installed(method):
            print(f"{method} is not installed here")
    rows = list(summary(runs))
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"on": f"{datetime.date.today()}", "processor": device_name(torch.device("cpu")), **versions()}
    (options.out / "search.md").write_text(page(rows, about))
    (options.out / "search.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    print(page(rows, about))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nas-bench-macro", type=Path, help="nas_bench_macro.json")
    parser.add_argument("--table", type=Path, nargs="*", default=[], help="tables (CSV or parquet)")
    parser.add_argument("--cost", default="macs", help="axis of tables that `attnsearch bench pack` wrote")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument(
        "--problems", nargs="+", metavar="NAME", help="names as in the table; all when left out"
    )
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--runs", type=Path, default=Path("results/search/runs.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
