"""How well a narrower host is seen to be worse, from trainings that `record` has made.

    python -m benchmarks.first_answer.control /tmp/recorded

For each network beside `plain`, the harm in points over the seeds that both have, by several ways to judge a training:
its error on the 2,000 validation images; the same of averaged weights; on 8,000 further images as well; and the mean
cross-entropy, in nats. A control variate is none of them: it takes a quantity whose expectation is known, and the
loss's is not.
Power: the share of all sets of so many of the seeds whose 95 % paired t interval lies wholly on the side of harm.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
OWN = slice(2_000)  # the validation images of the recipe; more follow
SETS = 2_000


def read(folder: Path, epochs: int) -> dict[str, dict[int, Mapping[str, NDArray[np.float64]]]]:
    """Network -> seed -> what was recorded."""
    found: dict[str, dict[int, Mapping[str, Floats]]] = {}
    for path in sorted(folder.glob(f"*,{epochs},*.npz")):
        name, _, seed = path.stem.split(",")
        found.setdefault(name, {})[int(seed)] = np.load(path)
    return found


def gaps(narrow: Mapping[str, Floats], plain: Mapping[str, Floats]) -> dict[str, float]:
    """Harm of one pair of trainings, by each way to judge them."""

    def error(run: Mapping[str, Floats], images: slice) -> float:
        return 100 * float(run["wrong"][-1][images].mean())

    return {
        "error": error(narrow, OWN) - error(plain, OWN),
        "averaged weights": float(narrow["averaged"][0] - plain["averaged"][0]),
        "error, 10,000 images": error(narrow, slice(None)) - error(plain, slice(None)),
        "loss": float(narrow["loss"][-1][OWN].mean() - plain["loss"][-1][OWN].mean()),
    }


def power(harm: Floats, seeds: int) -> float:
    """Share of sets of so many pairs that see it."""
    if seeds > len(harm):
        return float("nan")
    t = float(stdtrit(seeds - 1, 0.975))
    sets = np.array(list(islice(combinations(range(len(harm)), seeds), SETS)))
    drawn = harm[sets]
    return float((drawn.mean(axis=1) > t * drawn.std(axis=1, ddof=1) / np.sqrt(seeds)).mean())


def lines(folder: Path, epochs: int) -> Iterator[str]:
    found = read(folder, epochs)
    plain = found.pop("plain")
    yield "| network | judged by | harm | sd of a pair | n | harm / sd | power, 4 seeds | 5 | 8 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, runs in found.items():
        shared = sorted(set(runs) & set(plain))
        judged = [gaps(runs[seed], plain[seed]) for seed in shared]
        columns = {way: np.array([each[way] for each in judged]) for way in judged[0]}
        for way, harm in columns.items():
            sd = float(harm.std(ddof=1))
            shares = " | ".join(f"{power(harm, n):.2f}" for n in (4, 5, 8))
            yield f"| {name} | {way} | {harm.mean():.2f} | {sd:.2f} | {len(harm)} | {harm.mean() / sd:.2f} | {shares} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    print("\n".join(lines(options.folder, options.epochs)))


if __name__ == "__main__":
    main()
