"""Does the first answer hold? The command of `make run` with other seeds, then its winners trained longer.

    python -m benchmarks.first_answer.runs --seeds 0 1 2          runs that are missing, one after the other
    python -m benchmarks.first_answer.runs --seeds 0 1 2 --longer winners and baseline 4 times as long, two seeds each
    python -m benchmarks.first_answer.runs                        the table of what is there

Every run and training is kept in `results/first_answer/runs.json` as soon as it ends, so that the work can be cut into
pieces. A run counts as contradicted where a gain's mean difference after the longer training is not above 0, a harm's
not below 0, an equivalent arch's outside the margin of a point; two runs contradict each other where the same
arch has two of the verdicts gain, harm and equivalent.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from attnsearch.build.resnet import build
from attnsearch.core.convergence import LONGER
from attnsearch.data import open_data
from attnsearch.space.arch import Arch
from attnsearch.space.space import Space, load_space
from attnsearch.train.fit import fit
from attnsearch.train.images import device_data

KEPT = Path("results/first_answer/runs.json")
TABLE = KEPT.with_suffix(".md")
DATA = "cued-digits"
MARGIN = 1.0
LONG_SEEDS = (970, 971)  # of those that are kept for audits
DECIDED = ("gain", "harm", "equivalent")

Row = dict[str, Any]


def command() -> list[str]:
    """What `make run` runs, without `$(ARGS)`."""
    line = re.search(r"^\t\$\(BIN\)/attnsearch (run .*) \$\(ARGS\)$", Path("Makefile").read_text(), re.M)
    assert line is not None, "the Makefile has no target that runs attnsearch"
    return line.group(1).split()


def run(seed: int) -> Row:
    """One run of the command with another seed, and what it found."""
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        _attnsearch(*command(), "--seed", str(seed), "--out", out)
        seconds = time.monotonic() - began
        told = json.loads(_attnsearch("report", "--out", out, "--json"))
        archs = {row["key"]: row["spec"] for row in _specs(Path(out))}
    finding = told["finding"]
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "spec": archs.get(finding["arch"]),
        "finding": finding,
    }


def _specs(out: Path) -> Iterable[Mapping[str, Any]]:
    from attnsearch.study.study import open_study

    space = load_space(command()[command().index("--space") + 1])
    for trial in open_study(space.name, None, out=out).record.trials:
        yield {"key": trial.key, "spec": trial.spec}


def _attnsearch(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "attnsearch", *words], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def longer(space: Space, spec: Mapping[str, Any], seed: int) -> float:
    """Validation error in percent of one training `LONGER` times as long, on a split of its own."""
    recipe = replace(space.recipe, epochs=LONGER * space.recipe.epochs, resplit=True)
    data = device_data(open_data(DATA), recipe, "cpu")
    return fit(build(Arch.from_dict(spec), seed=seed), data, recipe, seed=seed)[-1].val_error


def contradicted(row: Row, baseline: Mapping[str, float]) -> bool | None:
    """Whether the longer trainings contradict a verdict; None where there are none or nothing to contradict."""
    long, verdict = row.get("long", {}), row["finding"]["verdict"]
    if verdict not in DECIDED or not long:
        return None
    gaps = [baseline[seed] - error for seed, error in long.items()]
    if verdict == "equivalent":
        return abs(fmean(gaps)) > MARGIN
    return fmean(gaps) <= 0 if verdict == "gain" else fmean(gaps) >= 0


def contradictions(rows: Sequence[Row]) -> int:
    """Pairs of runs that give the same arch different verdicts."""
    found = [(row["finding"]["arch"], row["finding"]["verdict"]) for row in rows]
    decided = [pair for pair in found if pair[1] in DECIDED]
    return sum(a == b and x != y for (a, x), (b, y) in combinations(decided, 2))


def seen(row: Row) -> bool:
    control = row["finding"]["positive_control"]
    return bool(control) and control["high"] is not None and control["high"] < 0


def table(kept: Mapping[str, Any]) -> str:
    """Markdown: a line a run, and the figures that count."""
    rows, baseline = kept["runs"], kept["baseline_long"]
    lines = [
        "# Runs of the default command with other seeds",
        "",
        f"`attnsearch {' '.join(command())} --seed N`, by `python -m benchmarks.first_answer.runs`. Differences in "
        "points of accuracy from the baseline, positive is better; 4 x: the same after training 4 times as long.",
        "",
        "| seed | verdict | difference (95 %) | seeds | cost | positive control (95 %) | seen | 4 x | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found, control = row["finding"], row["finding"]["positive_control"] or {}
        gaps = [baseline[seed] - error for seed, error in row.get("long", {}).items()]
        long = f"{fmean(gaps):+.2f}" if gaps else "-"
        lines.append(
            f"| {row['seed']} | {found['verdict']} | {_interval(found)} | {found['n']} | "
            f"{found['cost_ratio'] or 0:.3f} | {_interval(control)} | {'yes' if seen(row) else 'no'} | {long} | "
            f"{row['seconds']:.0f} |"
        )
    judged = [contradicted(row, baseline) for row in rows]
    lines += [
        "",
        f"Control seen in {sum(map(seen, rows))} of {len(rows)} runs; "
        f"{sum(row['finding']['verdict'] in DECIDED for row in rows)} end in gain, harm or equivalent; "
        f"{contradictions(rows)} pairs contradict each other; longer training contradicts "
        f"{judged.count(True)} of {len(judged) - judged.count(None)} winners.",
    ]
    if baseline:
        errors = ", ".join(f"{error:.2f}" for error in baseline.values())
        lines.append(f"Baseline after 4 times the length, by seed: {errors} %.")
    return "\n".join(lines) + "\n"


def _interval(found: Mapping[str, Any]) -> str:
    if not found or found["difference"] is None:
        return "-"
    ends = "not known" if found["low"] is None else f"{found['low']:+.2f} to {found['high']:+.2f}"
    return f"{found['difference']:+.2f} ({ends})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument(
        "--longer", action="store_true", help="train winners and baseline longer; starts no run"
    )
    options = parser.parse_args()
    kept = (
        json.loads(KEPT.read_text())
        if KEPT.exists()
        else {"command": command(), "runs": [], "baseline_long": {}}
    )
    if kept["command"] != command():
        raise SystemExit(f"{KEPT} is of another command: {' '.join(kept['command'])}")
    for step in _lengthened(kept, options.seeds) if options.longer else _run(kept, options.seeds):
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
        print(step, flush=True)
    TABLE.write_text(table(kept))
    print(table(kept))


def _run(kept: dict[str, Any], seeds: Iterable[int]) -> Iterable[str]:
    for seed in seeds:
        if all(row["seed"] != seed for row in kept["runs"]):
            kept["runs"] = sorted([*kept["runs"], run(seed)], key=lambda row: row["seed"])
            yield f"run {seed} done"


def _lengthened(kept: dict[str, Any], seeds: Iterable[int]) -> Iterable[str]:
    name = command()[command().index("--space") + 1]
    space, baseline = load_space(name).on(DATA), kept["baseline_long"]
    for seed in LONG_SEEDS:
        if str(seed) not in baseline:
            baseline[str(seed)] = longer(space, space.baseline().to_dict(), seed)
            yield f"baseline, seed {seed}: {baseline[str(seed)]:.2f} %"
    for row in kept["runs"]:
        for seed in LONG_SEEDS if row["seed"] in seeds and row["spec"] else ():
            if str(seed) not in row.setdefault("long", {}):
                row["long"][str(seed)] = longer(space, row["spec"], seed)
                yield f"winner of run {row['seed']}, seed {seed}: {row['long'][str(seed)]:.2f} %"


if __name__ == "__main__":
    main()
