"""Keyed: a synthetic space where sites act together, and the way to the best archs is uphill at first.

4 sites x 9 options, 6,561 archs, run sd 0.4 points, all drawn from the seed:

    error = 24 - sum_s main[s, x_s] - sum_{s<t} pair[s, t, x_s, x_t] - lock(x)

with main and pair normal, of sd 0.8 and 0.4 points. Two sites, and two options at each, are keys: lock is +6 points
where both sites hold a key (5 % of the archs), and -1.5 where one of them does (35 %). A sum of effects of sites,
fitted to archs of which few have both, says that keys do harm. Cost = 40 + price of each option x size of its site.
"""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.search.tables import Codes, Floats, Sites, Table

SITES, OPTIONS, SEEDS = 4, 9, 3
MAIN, PAIR, NOISE = 0.8, 0.4, 0.4
OPENS, HARMS = 6.0, 1.5
PRICE = np.array([0.0, 0.2, 0.3, 0.5, 0.8, 1.0, 1.6, 2.0, 5.0])
SIZE = np.array([4.0, 2.0, 1.0, 1.0])


def keyed(seed: int) -> Table:
    random = np.random.default_rng([11, seed])
    codes: Codes = np.stack(np.unravel_index(np.arange(OPTIONS**SITES), (OPTIONS,) * SITES), axis=1)
    gain = random.normal(0, MAIN, (SITES, OPTIONS))[np.arange(SITES), codes].sum(1)
    for first, second in itertools.combinations(range(SITES), 2):
        gain += random.normal(0, PAIR, (OPTIONS, OPTIONS))[codes[:, first], codes[:, second]]
    holds = [
        np.isin(codes[:, site], random.choice(np.arange(1, OPTIONS), 2, replace=False))
        for site in random.choice(SITES, 2, replace=False)
    ]
    gain += np.array([0.0, -HARMS, OPENS])[np.sum(holds, axis=0)]
    errors: Floats = (24.0 - gain)[:, None] + random.normal(0, NOISE, (len(codes), SEEDS))
    sites: Sites = {f"site{i}": tuple(f"option{j}" for j in range(OPTIONS)) for i in range(1, SITES + 1)}
    cost = 40 + (PRICE[codes] * SIZE).sum(1)
    return Table(f"Keyed-s{seed}", sites, codes, np.arange(len(codes)), cost, errors, {})
