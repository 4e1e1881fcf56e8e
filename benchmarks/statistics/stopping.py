"""What does stopping save? Trainings per design of `--seeds auto` against a fixed number of seeds.

    python -m benchmarks.statistics.stopping             20,000 designs a setting, to results/statistics
    python -m benchmarks.statistics.stopping --repetitions 1000 --out /tmp/x     a look

The planned effect and the margin are 1 point, the sd of a run is 0.7 points. The fixed design has the seeds that find
that effect with 80 % power; the sequential one stops each variant when it is decided. The rules are those of
`statistics.alpha_spending`, written for many tables at once; `tests/test_sequential_design.py` holds the two against
each other.

The noise is normal, or drawn from that of real trainings, whose shape and unequal sizes are real ones, scaled to the
same sd, with the effect put on top.

    one network      60 trainings under ten names in six seeds, `verdicts.py`; names exchanged at random in each block
    planted effect   60 trainings of three networks in twenty seeds, `verdicts.py`
    fine-tuned       60 trainings of a public ResNet-20 with and without gates in six seeds,
                     `results/pretrained/one_epoch.parquet`; CBAM's noise is several times that of the rest
    four epochs      the same trained four times as long, `results/pretrained/trainings.parquet`
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnsearch.statistics.alpha_spending import levels
from attnsearch.statistics.dunnett import dunnett_critical
from attnsearch.statistics.effects import NO_NOISE
from attnsearch.statistics.noise import pooled_variance
from attnsearch.statistics.power import ALPHA, seeds_needed
from benchmarks.statistics import verdicts

Floats = NDArray[np.float64]
Noise = Callable[
    [int, int, int, np.random.Generator], Floats
]  # repetitions, rows, blocks -> (these) of run sd `SD`
GAIN, HARM, SAME = 1, -1, 2
SD, EFFECT = 0.7, 1.0
FINE_TUNED = Path(__file__).parents[2] / "results" / "pretrained"


def settings(variants: int) -> dict[str, list[float]]:
    """True effects in points, by name; `variants` beside the baseline."""
    rest = [0.0] * (variants - 1)
    return {
        "no effect": [0.0] * variants,
        "all of half the planned effect": [0.5 * EFFECT] * variants,
        "one of the planned effect": [EFFECT, *rest],
        "all of the planned effect": [EFFECT] * variants,
        "one of 1.5 times": [1.5 * EFFECT, *rest],
        "all of 1.5 times": [1.5 * EFFECT] * variants,
        "all of twice": [2 * EFFECT] * variants,
    }


@dataclass(frozen=True)
class Outcomes:
    """(repetitions,) trainings; (repetitions, variants) outcomes; whether one of them is false."""

    trainings: Floats
    found: NDArray[np.int64]
    false: NDArray[np.bool_]


def outcomes(
    effects: Sequence[float], *, noise: Noise, blocks: int, margin: float, repetitions: int, seed: int = 0
) -> Outcomes:
    """Sequential designs of at most so many blocks, a look after each from the third on."""
    y = _draw(effects, noise, blocks, repetitions, seed)
    still = np.ones((repetitions, len(effects)), dtype=bool)
    found = np.zeros(still.shape, dtype=np.int64)
    trainings = np.zeros(repetitions)
    level = levels(blocks, len(effects) + 1)
    for n in range(1, blocks + 1):
        trainings += still.any(axis=1) + still.sum(axis=1)
        if n in level:
            decided = _decide(y[..., :n], level[n], margin)
            found = np.where(still, decided, found)
            still &= found == 0
    return Outcomes(trainings, found, _false(found, effects, margin))


def fixed(
    effects: Sequence[float], *, noise: Noise, blocks: int, margin: float, repetitions: int
) -> Outcomes:
    """Designs of so many blocks, judged once."""
    found = _decide(_draw(effects, noise, blocks, repetitions, seed=1), ALPHA, margin)
    trainings = np.full(repetitions, float(blocks * (len(effects) + 1)))
    return Outcomes(trainings, found, _false(found, effects, margin))


def _draw(effects: Sequence[float], noise: Noise, blocks: int, repetitions: int, seed: int) -> Floats:
    y = noise(repetitions, len(effects) + 1, blocks, np.random.default_rng([14, seed]))
    y[:, 1:] -= np.asarray(effects)[None, :, None]
    return y


def normal(repetitions: int, rows: int, blocks: int, rng: np.random.Generator) -> Floats:
    """Independent normal errors."""
    return np.asarray(SD * rng.standard_normal((repetitions, rows, blocks)))


def one_network(errors: Floats) -> Noise:
    """The noise of one network under several names, (names, blocks): names are drawn anew in each block."""
    rest = errors - errors.mean(axis=0)
    rest = rest * (SD / math.sqrt(float((rest**2).sum()) / (rest.shape[1] * (len(rest) - 1))))

    def noise(repetitions: int, rows: int, blocks: int, rng: np.random.Generator) -> Floats:
        columns = rng.integers(0, rest.shape[1], (repetitions, 1, blocks))
        names = rng.random((repetitions, len(rest), blocks)).argsort(axis=1)[:, :rows]
        return np.asarray(rest[names, columns])

    return noise


def several_networks(errors: Floats) -> Noise:
    """The noise of several networks, (networks, blocks), each with what its mean and its block's mean leave.

    Networks are drawn once a design. Each error is a draw of its own, with either sign: whole blocks drawn again and
    again from few would say less of the noise than as many new ones.
    """
    rest = errors - errors.mean(axis=0)
    rest = rest - rest.mean(axis=1, keepdims=True)
    rest = rest * (SD / math.sqrt(float((rest**2).mean())))

    def noise(repetitions: int, rows: int, blocks: int, rng: np.random.Generator) -> Floats:
        names = rng.random((repetitions, len(rest), 1)).argsort(axis=1)[:, :rows]
        shape = repetitions, rows, blocks
        return np.asarray(rest[names, rng.integers(0, rest.shape[1], shape)] * rng.choice((-1.0, 1.0), shape))

    return noise


def noises() -> dict[str, tuple[Noise, int]]:
    """By name, with the most variants beside the baseline that a design can have of it."""
    once, four = (_packed(FINE_TUNED / f"{name}.parquet") for name in ("one_epoch", "trainings"))
    one, planted = verdicts.read("aa").errors, verdicts.read("planted").errors
    return {
        "normal": (normal, 10),
        "one network": (one_network(one), len(one) - 1),
        "planted effect": (several_networks(planted), len(planted) - 1),
        "fine-tuned": (several_networks(once), len(once) - 1),
        "four epochs": (several_networks(four), len(four) - 1),
    }


def _packed(path: Path) -> Floats:
    """(archs, seeds) errors after the last epoch."""
    runs = pd.read_parquet(path)
    last = runs[runs["epoch"] == runs["epochs"]]
    return last.pivot(index="arch", columns="seed", values="val_error_pct").to_numpy(dtype=float)


def _decide(y: Floats, level: float, margin: float) -> NDArray[np.int64]:
    """(repetitions, variants) outcome at a nominal level; 0 where there is none."""
    k, n = y.shape[-2:]
    variance, noisy = pooled_variance(y, baseline=0)
    gaps = y[:, :1] - y[:, 1:]
    estimate, own = gaps.mean(axis=2), noisy[:, 1:] | noisy[:, :1]

    def half(alpha: float) -> Floats:
        shared = _width(
            dunnett_critical(k - 1, (k - 1) * (n - 1), alpha),
            np.sqrt(2 * np.maximum(variance, 0.0) / n)[:, None],
        )
        paired = _width(dunnett_critical(k - 1, n - 1, alpha), gaps.std(axis=2, ddof=1) / math.sqrt(n))
        return np.asarray(np.where(own, paired, shared))

    inner = np.abs(estimate) + half(2 * level) < margin
    signed = np.where(estimate > half(level), GAIN, np.where(-estimate > half(level), HARM, 0))
    return np.asarray(np.where(signed != 0, signed, np.where(inner, SAME, 0)))


def _width(critical: float, error: Floats) -> Floats:
    """Half an interval; infinite where runs that do not vary say nothing of the noise."""
    return critical * np.where(error < NO_NOISE, math.inf, error)


def _false(found: NDArray[np.int64], effects: Sequence[float], margin: float) -> NDArray[np.bool_]:
    """Whether a design has a gain or harm that is none, or calls equivalent what is not."""
    true = np.asarray(effects)
    wrong = ((found == GAIN) & (true <= 0)) | ((found == HARM) & (true >= 0))
    wrong |= (found == SAME) & (np.abs(true) >= margin)
    return np.asarray(wrong.any(axis=1))


def rows(variants: int, repetitions: int, name: str, noise: Noise) -> list[dict[str, Any]]:
    """One row a setting, with Monte-Carlo standard errors."""
    planned = seeds_needed(EFFECT, variants + 1, sd=SD)
    assert planned is not None
    found = []
    for setting, effects in settings(variants).items():
        common: dict[str, Any] = {"noise": noise, "margin": EFFECT, "repetitions": repetitions}
        before = fixed(effects, blocks=planned, **common)
        after = outcomes(effects, blocks=round(1.08 * planned), **common)
        mean = float(after.trainings.mean())
        found.append(
            {
                "noise": name,
                "variants": variants,
                "setting": setting,
                "fixed": planned * (variants + 1),
                "sequential": mean,
                "sequential_error": float(after.trainings.std(ddof=1)) / math.sqrt(repetitions),
                "saved": 1 - mean / (planned * (variants + 1)),
                "decided_fixed": float((before.found != 0).mean()),
                "decided_sequential": float((after.found != 0).mean()),
                "gain_of_the_first_fixed": float((before.found[:, 0] == GAIN).mean()),
                "gain_of_the_first_sequential": float((after.found[:, 0] == GAIN).mean()),
                "false_fixed": float(before.false.mean()),
                "false_sequential": float(after.false.mean()),
                "share_error": math.sqrt(0.05 * 0.95 / repetitions),
                "repetitions": repetitions,
            }
        )
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Trainings per design: a fixed number of seeds, and `--seeds auto`",
        "",
        f"`python -m benchmarks.statistics.stopping`: run sd {SD:g} points, planned effect and margin {EFFECT:g} "
        "point; in brackets the Monte-Carlo error of mean trainings. False: a gain or harm that is none, or "
        "an effect of the margin called equivalent, anywhere in a design. Beside normal noise that of real "
        "trainings: 60 of one network under ten names, 60 of three networks of which one has a planted "
        "effect, and 60 fine-tuned for one epoch and for four (`results/pretrained`), re-sampled and scaled "
        "to the same sd. After four epochs the sds of the networks, each from six seeds, are 0.5 to 1.2 points: "
        "taken as true, such unequal noise gives more false verdicts than are stated.",
    ]
    for name in dict.fromkeys(row["noise"] for row in found):
        lines += [
            "",
            f"## Noise: {name}",
            "",
            _precision(next(row for row in found if row["noise"] == name)),
            "",
            "| variants | true effects | fixed | sequential | saved | decided | gain of the first | false |",
            "|---|---|---|---|---|---|---|---|",
            *(_line(row) for row in found if row["noise"] == name),
        ]
    return "\n".join(lines) + "\n"


def _precision(row: dict[str, Any]) -> str:
    return (
        f"{row['repetitions']:,} designs a row; the Monte-Carlo error of a share of 5 % is "
        f"{100 * row['share_error']:.2f} points."
    )


def _line(row: dict[str, Any]) -> str:
    def change(name: str, digits: int) -> str:
        before, after = 100 * row[f"{name}_fixed"], 100 * row[f"{name}_sequential"]
        return f"{before:.{digits}f} -> {after:.{digits}f} %"

    trainings = f"{row['fixed']} | {row['sequential']:.1f} ({row['sequential_error']:.1f})"
    shares = f"{change('decided', 0)} | {change('gain_of_the_first', 0)} | {change('false', 1)}"
    return f"| {row['variants']} | {row['setting']} | {trainings} | {100 * row['saved']:.1f} % | {shares} |"


def main() -> None:
    """Write `OUT/stopping.{json,md}`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=20_000)
    parser.add_argument("--variants", type=int, nargs="+", default=[2, 5, 10], help="beside the baseline")
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    options = parser.parse_args()
    found = [
        row
        for name, (noise, most) in noises().items()
        for variants in options.variants
        if variants <= most
        for row in rows(variants, options.repetitions, name, noise)
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "stopping.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "stopping.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
