"""Do verdicts hold on real trainings? Nothing against nothing, and an effect that was put there.

    python -m benchmarks.statistics.verdicts                   analyse the packed runs
    python -m benchmarks.statistics.verdicts save              its false verdicts, to results/statistics/aa.md
    python -m benchmarks.statistics.verdicts runs aa           train the runs of the first study again, to a CSV file
    python -m benchmarks.statistics.verdicts runs planted      those of the second

aa         the plain host under ten names. Within a seed block all ten share the order of the images and their
           augmentation, and each draws its own first weights: by the seed alone they would be one run, ten times. No
           difference is real, so gains and harms must be as rare as stated: 5 in 100 tables have one or more. The
           judge itself gives 5.8 where the noise is normal and equal (`attnsearch.statistics.noise.pooled_variance`).
planted    handwritten digits under a noise that dims with the image: each image's exposure is divided by 1 to 32,
           signal and noise alike, so that it tells nothing of the class. `exposure_norm.py` divides it out
           again. ECA stands beside it. Studies of few blocks drawn from the many runs must find the gain
           as often as `power.power_of` says.

The packed runs are tests/fixtures/verdicts_*.csv; their first lines say where they come from.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from attnsearch.statistics import Table, compare
from attnsearch.statistics.noise import seed_correlation
from attnsearch.statistics.power import power_of

PACKED = Path(__file__).parents[2] / "tests" / "fixtures"
RESULTS = Path(__file__).parents[2] / "results" / "statistics"
NAMES = tuple(f"plain {i}" for i in range(10))
AA_BLOCKS = 6
PLANTED_BLOCKS = 20
DIM = 5  # log2 of the strongest dimming

SPACE = """\
question: Is a block that undoes a nuisance found, beside one that does not?
host: {name: resnet8, width: 8}
stages:
  - {attention: [none, exposure_norm, eca]}
  - {}
  - {}
recipe: {epochs: 8, lr: 0.1, batch_size: 64}
"""


@dataclass(frozen=True)
class Rate:
    """How often something was found in so many studies, with its expected share."""

    found: int
    studies: int
    expected: float

    @property
    def share(self) -> float:
        return self.found / self.studies

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Wilson's, of the share over all drawings of these packed runs."""
        from scipy.stats import binomtest

        low, high = binomtest(self.found, self.studies).proportion_ci(method="wilson")
        return float(low), float(high)


def read(name: str, folder: Path = PACKED) -> Table:
    """The packed runs of a study."""
    return Table.of(pd.read_csv(folder / f"verdicts_{name}.csv", comment="#"))


def decided(table: Table, baseline: str) -> list[str]:
    """`gain` and `harm` verdicts of a table, by variant."""
    found = compare(table, baseline).verdicts
    return [f"{v.variant}: {v.outcome}" for v in found if v.outcome in ("gain", "harm")]


def false_verdicts(
    table: Table, draws: int, seed: int = 0, outcomes: tuple[str, ...] = ("gain", "harm")
) -> Rate:
    """Share of tables with one of these verdicts when names are re-assigned within each block.

    Names that mean nothing may be exchanged within a block, so each dealing is another study of nothing against
    nothing with the noise of real trainings.
    """
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(draws):
        dealt = np.column_stack([rng.permutation(column) for column in table.errors.T])
        verdicts = decided(Table(table.variants, table.blocks, dealt), table.variants[0])
        found += any(verdict.endswith(outcomes) for verdict in verdicts)
    return Rate(found, draws, 0.05 * len(outcomes) / 2)  # a two-sided error, half of it on either side


def power_kept(table: Table, variant: str, blocks: int, draws: int, seed: int = 0) -> Rate:
    """Share of studies of so many blocks that find the variant's gain; expected: the planned power.

    The plan takes effect, sd and correlation from all runs, as a pilot study of that size would have given them. Blocks
    are drawn without replacement: studies of more than a third of them are too much alike to tell a rate.
    """
    whole = compare(table, "plain")
    effect = next(v.estimate for v in whole.verdicts if v.variant == variant)
    rho, _ = seed_correlation(table.whole)
    k = len(table.variants)
    planned = power_of(effect, blocks, k, sd=whole.sd / np.sqrt(1 - rho), rho=rho)
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(draws):
        chosen = np.sort(rng.choice(len(table.blocks), blocks, replace=False))
        part = Table(table.variants, tuple(int(i) for i in chosen), table.errors[:, chosen])
        found += f"{variant}: gain" in decided(part, "plain")
    return Rate(found, draws, planned)


def nothing_against_nothing(studies: int) -> list[dict[str, float | int | str]]:
    """Rows of `results/statistics/aa`: false gains and harms among so many studies, with 95 % intervals."""
    table = read("aa")
    rates = {
        word: false_verdicts(table, studies, outcomes=outcomes)
        for word, outcomes in (("a gain", ("gain",)), ("a harm", ("harm",)), ("either", ("gain", "harm")))
    }
    return [
        {
            "studies": studies,
            "with": word,
            "found": rate.found,
            "share": rate.share,
            "low": rate.interval[0],
            "high": rate.interval[1],
            "stated": rate.expected,
        }
        for word, rate in rates.items()
    ]


def aa_markdown(rows: list[dict[str, float | int | str]]) -> str:
    """The rows as a table, and what they rest on."""
    table = read("aa")
    sd = compare(table, NAMES[0]).sd
    lines = [
        "# Nothing against nothing",
        "",
        f"`python -m benchmarks.statistics.verdicts save`: {table.errors.size} trainings of one network, the "
        f"plain host under {len(table.variants)} names in {len(table.blocks)} seeds (ResNet-8, 1,500 cluttered digits, "
        f"3 epochs; error {table.errors.mean():.1f} %, sd {sd:.2f} points between trainings). Names are exchanged at "
        "random within each seed: every exchange is a study of nine variants that do not differ from the baseline. How "
        "many studies claim a gain, or a harm?",
        "",
        "| studies | with | found | share (95 % interval) | stated |",
        "|---|---|---|---|---|",
        *(
            f"| {row['studies']:,} | {row['with']} | {row['found']} | "
            f"{100 * float(row['share']):.1f} % ({100 * float(row['low']):.1f} to {100 * float(row['high']):.1f}) | "
            f"{100 * float(row['stated']):.1f} % |"
            for row in rows
        ),
        "",
        "The interval (Wilson's) is that of the exchanges of these trainings, not of other trainings.",
    ]
    return "\n".join(lines) + "\n"


def aa_runs() -> Iterator[tuple[str, int, float]]:
    """Train the plain ResNet-8 on 1,500 cluttered digits for 3 epochs, ten times in each of six blocks."""
    import torch

    from attnsearch.build.resnet import build
    from attnsearch.core.trial import Recipe
    from attnsearch.data import open_data
    from attnsearch.space.space import load_space
    from attnsearch.train.fit import fit
    from attnsearch.train.images import device_data

    torch.set_num_threads(1)
    data = open_data("cluttered-digits")
    recipe = Recipe(epochs=3, lr=0.3, batch_size=64, train_images=1500)
    images = device_data(data, recipe, "cpu")
    plain = load_space("cbam_variants").on("cluttered-digits").baseline()
    for block in range(AA_BLOCKS):
        for i, name in enumerate(NAMES):
            model = build(plain, classes=10, in_channels=3, seed=1000 * (i + 1) + block)
            yield name, block, fit(model, images, recipe, seed=block)[-1].val_error


def planted_runs() -> Iterator[tuple[str, int, float]]:
    """Work off the design `add` over `SPACE` on dimmed digits, by the program's own run."""
    import attnsearch
    from attnsearch.blocks import registry

    registry.add_plugin(Path(__file__).with_name("exposure_norm.py"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        np.savez(out / "dimmed.npz", **dimmed_digits())
        (out / "planted.yaml").write_text(SPACE, encoding="utf-8")
        study = attnsearch.run(
            str(out / "planted.yaml"), data=str(out / "dimmed.npz"), out=out, design="add", controls="none",
            seeds=PLANTED_BLOCKS, workers=2, device="cpu",
        )  # fmt: skip
        for trial in sorted(study.record.trials, key=lambda trial: (trial.seed, trial.arch)):
            if trial.error is not None:
                yield trial.arch.split(" ")[0].split("(")[0], trial.seed, trial.error


def dimmed_digits(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of an `.npz`: 2,400 training and 1,194 validation images of 16 x 16; no digit is in both."""
    from sklearn.datasets import load_digits

    digits, rng = load_digits(), np.random.default_rng(seed)
    order = rng.permutation(len(digits.images))

    def made(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.repeat(rows, 2)
        ink = np.kron(digits.images[rows] / 16 - 0.3, np.ones((1, 2, 2)))
        ink += rng.normal(0, 0.5, ink.shape)
        exposure = 2.0 ** -rng.uniform(0, DIM, (len(rows), 1, 1))
        return (128 + 90 * exposure * ink).round().clip(0, 255).astype(np.uint8), digits.target[rows]

    (x_train, y_train), (x_val, y_val) = made(order[:1200]), made(order[1200:])
    return {"x_train": x_train, "y_train": y_train, "x_val": x_val, "y_val": y_val}


def pack(name: str, folder: Path) -> None:
    """Train and write a study's runs, each as it ends."""
    import torch

    runs = {"aa": aa_runs, "planted": planted_runs}[name]
    with open(folder / f"verdicts_{name}.csv", "w", newline="", encoding="utf-8") as file:
        file.write(
            f"# python -m benchmarks.statistics.verdicts runs {name}: error in percent of the validation images\n"
        )
        day = time.strftime("%Y-%m-%d")
        file.write(f"# {day}, torch {torch.__version__}, {platform.machine()}, CPU, 1 thread\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "block", "error"])
        for variant, block, error in runs():
            writer.writerow([variant, block, f"{error:.4f}"])
            file.flush()


def show(draws: int = 1000) -> None:
    """Print both analyses."""
    aa, planted = read("aa"), read("planted")
    rate, rho = false_verdicts(aa, draws), seed_correlation(aa.whole)
    print(
        f"aa: {aa.errors.shape[0]} names x {aa.errors.shape[1]} blocks, sd {compare(aa, NAMES[0]).sd:.2f} points"
    )
    print(f"  verdicts of gain or harm as run: {decided(aa, NAMES[0]) or 'none'}")
    print(
        f"  names drawn {draws} times: {rate.share:.3f} of studies have one (95 % interval {rate.interval[0]:.3f} "
        f"to {rate.interval[1]:.3f}); stated {rate.expected}"
    )
    print(f"  seed correlation {rho[0]:.2f} (95 % interval {rho[1][0]:.2f} to {rho[1][1]:.2f})")
    print(f"planted: {planted.errors.shape[1]} blocks")
    for v in compare(planted, "plain").verdicts:
        low, high = v.simultaneous
        print(f"  {v.variant}: {v.outcome}, {v.estimate:+.2f} points ({low:+.2f} to {high:+.2f}), n = {v.n}")
    for blocks in (3, 4, 5, 6):
        kept = power_kept(planted, "exposure_norm", blocks, draws)
        print(
            f"  {blocks} blocks: gain found in {kept.share:.2f} of {draws} studies; planned {kept.expected:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["show", "runs", "save"], default="show")
    parser.add_argument("study", nargs="?", choices=["aa", "planted"])
    parser.add_argument("--out", type=Path, default=PACKED, help="folder of the CSV file")
    given = parser.parse_args()
    if given.what == "runs":
        pack(given.study or "aa", given.out)
    elif given.what == "save":
        rows = [row for studies in (200, 2000) for row in nothing_against_nothing(studies)]
        (RESULTS / "aa.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "aa.md").write_text(aa_markdown(rows), encoding="utf-8")
        print(aa_markdown(rows))
    else:
        show()


if __name__ == "__main__":
    main()
