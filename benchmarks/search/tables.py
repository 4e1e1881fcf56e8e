"""Tables of trained architectures: look up what a training would have given.

`Table.read` takes the parquet files of `attnsearch bench pack STUDY...` (complete trainings; each epoch but the last is
a rung), and CSV files with one row per (architecture, seed):

    site:NAME   one column per site: the option that stands there (text)
    key         optional: equal for spellings of one network; the first spelling listed is the canonical one
    cost        exact cost, positive, the same in every row of an arch
    seed        optional, any text; what ran with one seed shares a column of `Table.errors`
    error       final error in percent
    rung:SHARE  optional, any number of them: error after that share of the epochs, as in rung:0.06

Combinations that are not listed do not exist (over budget, say).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnsearch.statistics.pareto import hypervolume

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Sites = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Table:
    """Every architecture of a space with its cost and its errors.

    Args:
        sites: options of each site.
        codes: (encodings, sites); `arch` says which arch (row of the rest) each encoding is.
        cost: (archs,). errors: (archs, seeds). rungs: share of the epochs -> (archs, seeds).
    """

    name: str
    sites: Sites
    codes: Codes
    arch: NDArray[np.int64]
    cost: Floats
    errors: Floats
    rungs: dict[float, Floats]

    @classmethod
    def read(cls, path: Path, cost: str = "macs") -> Table:
        """The table in a file; `cost` is the axis that is taken of a packed study."""
        packed = path.suffix == ".parquet"
        frame = _of_study(path, cost) if packed else pd.read_csv(path, dtype=str, keep_default_na=False)
        names = [str(name) for name in frame]
        columns = [name for name in names if name.startswith("site:")]
        if not columns or not {"cost", "error"} <= set(frame):
            raise SystemExit(f"{path}: a packed table needs columns site:..., cost and error")
        sites = {name.removeprefix("site:"): tuple(sorted(set(frame[name]))) for name in columns}
        encoding = np.stack(
            [
                frame[c].map({o: i for i, o in enumerate(options)})
                for c, options in zip(columns, sites.values(), strict=True)
            ],
            axis=1,
        )
        labels = frame["key"] if "key" in frame else frame[columns].agg("\n".join, axis=1)
        key = pd.factorize(labels)[0]
        codes, first = np.unique(encoding, axis=0, return_index=True)
        order = np.argsort(first)
        codes, arch = codes[order], key[first[order]]
        spelled = pd.factorize(frame[columns].agg("\n".join, axis=1))[0]
        canonical = spelled == pd.Series(spelled).groupby(key).transform("first").to_numpy()
        if "seed" in frame:
            seed = pd.factorize(frame["seed"][canonical])[0]
        else:
            seed = pd.Series(key[canonical]).groupby(key[canonical]).cumcount().to_numpy()

        def pack(name: str) -> Floats:
            packed = np.full((key.max() + 1, seed.max() + 1), np.nan)
            packed[key[canonical], seed] = frame[name][canonical].astype(float)
            return packed

        rungs = {float(c.removeprefix("rung:")): pack(c) for c in names if c.startswith("rung:")}
        cost = pack("cost")[:, 0]
        return cls(path.stem, sites, codes, arch, cost, pack("error"), rungs)

    def of_seeds(self, columns: Sequence[int]) -> Table:
        """The same archs with some of their runs only."""
        picked = list(columns)
        rungs = {share: errors[:, picked] for share, errors in self.rungs.items()}
        return replace(self, errors=self.errors[:, picked], rungs=rungs)

    def rows(self, codes: Codes) -> NDArray[np.int64]:
        """Arch of each encoding, -1 where the table has none."""
        listed = self._listed(codes)
        return np.where(listed >= 0, self.arch[listed], -1)

    def allowed(self, codes: Codes) -> NDArray[np.bool_]:
        """Canonical spellings of what the table holds."""
        listed = self._listed(codes)
        canonical = np.zeros(len(self.codes), dtype=bool)
        canonical[np.unique(self.arch, return_index=True)[1]] = True
        return (listed >= 0) & canonical[listed]

    def _listed(self, codes: Codes) -> NDArray[np.int64]:
        """Row of `self.codes` that holds each encoding, or -1."""
        numbers, order = self._numbers
        wanted = self._number(codes)
        at = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
        return np.where(numbers[at] == wanted, order[at], -1)

    @cached_property
    def _numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        numbers = self._number(self.codes)
        order = np.argsort(numbers)
        return numbers[order], order

    def _number(self, codes: Codes) -> NDArray[np.int64]:
        """One whole number for each encoding: 15,625 of them are looked up in a millisecond."""
        sizes = tuple(map(len, self.sites.values()))
        numbers: NDArray[np.int64] = np.ravel_multi_index(tuple(codes.T), sizes)
        return numbers

    def costs(self, codes: Codes) -> Floats:
        return self.cost[self.rows(codes)]

    def cost_of(self, rows: list[int]) -> Floats:
        return self.cost[rows]

    def sample(self, count: int, random: np.random.Generator) -> list[int]:
        """Distinct random archs, at most `count`."""
        return [int(row) for row in random.permutation(self.archs)[:count]]

    def true_error(self, rows: list[int]) -> Floats:
        """Mean over all seeds; what hypervolumes are made of."""
        return np.nanmean(self.errors[rows], axis=1)  # type: ignore[no-any-return]

    def train(self, row: int, random: np.random.Generator) -> tuple[float, int]:
        """One training: final error, and the seed it ran with."""
        seed = int(random.choice(np.flatnonzero(np.isfinite(self.errors[row]))))
        return float(self.errors[row, seed]), seed

    def rung(self, row: int, seed: int, share: float) -> float:
        """Error of that training after about `share` of the epochs (the nearest rung of the table)."""
        near = min(self.rungs, key=lambda known: abs(known - share))
        return float(self.rungs[near][row, seed])

    @cached_property
    def reference(self) -> tuple[float, float]:
        """(median error, highest cost in log10): where hypervolumes end."""
        return float(np.median(np.nanmean(self.errors, axis=1))), float(np.log10(self.cost.max()))

    @cached_property
    def whole(self) -> float:
        """Hypervolume of everything."""
        return hypervolume(
            np.column_stack([np.nanmean(self.errors, axis=1), np.log10(self.cost)]), self.reference
        )

    @property
    def archs(self) -> int:
        return len(self.cost)

    @cached_property
    def noise(self) -> float:
        """Sd of a run, pooled over archs; 0 with one seed each."""
        seeds = np.isfinite(self.errors).sum(1)
        spread = np.nansum((self.errors - np.nanmean(self.errors, axis=1, keepdims=True)) ** 2)
        return float(np.sqrt(spread / max((seeds - 1).sum(), 1)))


def _of_study(path: Path, cost: str) -> pd.DataFrame:
    """One row per complete training of a packed study, in the columns of the CSV form.

    Of several training lengths the most frequent counts. A study without sites has one, its archs.
    """
    frame = pd.read_parquet(path)
    if cost not in frame:
        raise SystemExit(f"{path}: no cost '{cost}'; see the columns of the table")
    sites = [name for name in map(str, frame) if name.startswith("site:")]
    if not sites:
        frame["site:arch"] = frame["arch"]
        sites = ["site:arch"]
    frame = frame[(frame["state"] == "complete") & frame[sites].notna().any(axis=1)]
    epochs = int(frame["epochs"].mode()[0])
    frame = frame[frame["epochs"] == epochs].fillna(dict.fromkeys(sites, ""))
    curves = frame.pivot_table("val_error_pct", ["key", "seed"], "epoch", aggfunc="last")
    curves.columns = [*(f"rung:{epoch / epochs:.4g}" for epoch in list(curves)[:-1]), "error"]
    last = frame[frame["epoch"] == epochs].drop_duplicates(["key", "seed"], keep="last")
    rows = last[[*sites, "key", "seed", cost]].rename(columns={cost: "cost"})
    return rows.merge(curves.reset_index(), on=["key", "seed"]).astype(str)


def nas_bench_macro(path: Path) -> Table:
    """NAS-Bench-Macro (Su et al. 2021): which of 3 blocks stands at which of 8 positions, 3 seeds each."""
    found = json.loads(path.read_text())
    names = sorted(found)
    codes = np.array([[int(letter) for letter in name] for name in names])
    errors = 100 - np.array([found[name]["test_acc"] for name in names])
    cost = np.array([float(found[name]["flops"]) for name in names])
    sites: Sites = {f"layer{i}": ("identity", "mb3_k3", "mb6_k5") for i in range(1, codes.shape[1] + 1)}
    return Table("NB-Macro", sites, codes, np.arange(len(names)), cost, errors, {})


ATTENTION = {  # option of a site: (block, what it costs, what more of it adds)
    "none": ("none", 0.0, 0.0),
    "simam": ("simam", 0.2, 0.0),
    **{f"eca(kernel={k})": ("eca", 0.3 + 0.1 * i, 0.05 * i) for i, k in enumerate((3, 5))},
    **{f"se(ratio={r})": ("se", 0.5 * 2**i, 0.12 * i) for i, r in enumerate((16, 8, 4))},
    **{f"coord(ratio={r})": ("coord", 0.8 * 2**i, 0.1 * i) for i, r in enumerate((32, 16))},
    **{
        f"cbam(ratio={r},kernel={k})": ("cbam", 0.8 * 2**i + 0.5 * j, 0.1 * i + 0.15 * j)
        for i, r in enumerate((16, 8))
        for j, k in enumerate((3, 7))
    },
    **{f"mhsa(heads={h})": ("mhsa", 5.0, 0.2 * i) for i, h in enumerate((1, 2, 4))},
}
SATURATION = 10.0  # points of gain that cannot be exceeded
BLOCKS = tuple(dict.fromkeys(block for block, _, _ in ATTENTION.values()))


class Attn6:
    """Synthetic placement problem: 6 sites x 16 options of 7 blocks, 16,777,216 archs, run sd 0.4 points.

    Error = 24 - gain, where each site adds quality(block, site) x (1 + option's step); equal blocks at
    neighbouring sites lose a third of the weaker gain, the whole saturates, and each pair of (block, block)
    at sites two apart has a small interaction. Cost = 40 + sum over sites of the option's price x the site's
    size. All numbers are drawn from the seed, so the front is known by enumeration.
    """

    noise = 0.4
    rungs: dict[float, Floats] = {}  # noqa: RUF012 - the same empty mapping for all

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng([6, seed])
        self.name = f"Attn6-s{seed}"
        self.sites = {f"site{i}": tuple(ATTENTION) for i in range(1, 7)}
        block = np.array([BLOCKS.index(name) for name, _, _ in ATTENTION.values()])
        price, step = (np.array([option[i] for option in ATTENTION.values()]) for i in (1, 2))
        general = np.r_[0.0, random.uniform(0.0, 1.2, len(BLOCKS) - 1)]
        special = random.normal(0, 0.5, (6, len(BLOCKS))) * (np.arange(len(BLOCKS)) > 0)
        sensitivity = random.normal(1.0, 1.0, (6, 1))
        self._gain = (general + special)[:, block] * (1 + sensitivity * step)  # (site, option)
        self._same = block[:, None] == block[None, :]
        table = random.normal(0, 0.25, (4, len(BLOCKS), len(BLOCKS)))
        self._pair = table[:, block][:, :, block]  # (first site, option, option two sites on)
        self._price = price * np.array([4.0, 3.0, 2.0, 1.5, 1.0, 1.0])[:, None]

    def true_errors(self, codes: Codes) -> Floats:
        total = np.zeros(len(codes))
        for sites, table in self._terms():
            total += table[tuple(codes[:, site] for site in sites)]
        error: Floats = 24.0 - SATURATION * np.tanh(total / SATURATION)
        return error

    def costs(self, codes: Codes) -> Floats:
        return 40.0 + self._price[np.arange(6), codes].sum(1)  # type: ignore[no-any-return]

    def allowed(self, codes: Codes) -> NDArray[np.bool_]:
        return np.ones(len(codes), dtype=bool)

    def rows(self, codes: Codes) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.ravel_multi_index(tuple(codes.T), (16,) * 6)
        return rows

    def rung(self, row: int, seed: int, share: float) -> float:
        raise NotImplementedError("Attn6 has no learning curves; see replay.Curve")

    def sample(self, count: int, random: np.random.Generator) -> list[int]:
        return [int(row) for row in random.integers(0, self.archs, count)]

    def true_error(self, rows: list[int]) -> Floats:
        return self.true_errors(self._codes(rows))

    def cost_of(self, rows: list[int]) -> Floats:
        return self.costs(self._codes(rows))

    def train(self, row: int, random: np.random.Generator) -> tuple[float, int]:
        return float(self.true_error([row])[0] + random.normal(0, self.noise)), 0

    @property
    def archs(self) -> int:
        return 16**6

    @cached_property
    def reference(self) -> tuple[float, float]:
        """(median error of 200,000 random archs, highest cost in log10)."""
        codes = np.random.default_rng(0).integers(0, 16, (200_000, 6))
        return float(np.median(self.true_errors(codes))), float(np.log10(40 + self._price.max(axis=1).sum()))

    @cached_property
    def whole(self) -> float:
        """Hypervolume of all archs, enumerated."""
        total, price = np.zeros((16,) * 6, np.float32), np.zeros((16,) * 6, np.float32)
        for sites, table in self._terms():
            total += _spread(table, sites)
        for site in range(6):
            price += _spread(self._price[site], (site,))
        error = (24.0 - SATURATION * np.tanh(total / SATURATION)).ravel()
        cost = np.log10(40.0 + price).ravel()
        # A point behind the best of all cheaper bins cannot be on the front; few are left to sort.
        bins = np.digitize(cost, np.linspace(cost.min(), cost.max(), 4096))
        lowest = np.full(4098, np.inf, np.float32)
        np.minimum.at(lowest, bins, error)
        left = error < np.r_[np.inf, np.minimum.accumulate(lowest)][bins]
        return hypervolume(
            np.column_stack([error[left].astype(float), cost[left].astype(float)]), self.reference
        )

    def _terms(self) -> Iterator[tuple[tuple[int, ...], Floats]]:
        """What gains add up from: (sites, table over their options)."""
        for site in range(6):
            yield (site,), self._gain[site]
        for site in range(5):
            lesser = np.minimum(self._gain[site][:, None], self._gain[site + 1][None, :])
            yield (site, site + 1), self._same * np.minimum(-lesser, 0) / 3
        for site in range(4):
            yield (site, site + 2), self._pair[site]

    @staticmethod
    def _codes(rows: list[int]) -> Codes:
        return np.stack(np.unravel_index(np.asarray(rows), (16,) * 6), axis=1)


def _spread(table: Floats, sites: tuple[int, ...]) -> NDArray[np.float32]:
    """A table over the options of some sites, shaped to broadcast over all six."""
    shape = [16 if site in sites else 1 for site in range(6)]
    return table.reshape(shape).astype(np.float32)
