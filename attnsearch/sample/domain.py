"""Domain: what a sampler may choose from, as integer codes: one per site, one site per parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from attnsearch.core.errors import UsageError, did_you_mean

Codes = NDArray[np.int64]  # (n, sites)
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ENUMERABLE = 200_000  # feasible archs held as one array
LISTED = 8_000  # of them, so many are all scored before each proposal
WALKABLE = 4_000_000  # codes that are walked through to find the feasible ones


class Domain:
    """The sites with their options, which combinations are allowed, and what each costs.

    Args:
        sites: options of each site, as readable strings.
        cost: codes (n, S) -> the exact cost of each, positive, (n,).
        factors: per site an integer array (options, factors); equal entries mean that two options share that
            property (block, ratio, position, ...).
        allowed: codes (n, S) -> mask (n,). False for what is over budget and for every spelling of a network
            but its canonical one.
    """

    def __init__(
        self,
        sites: Mapping[str, Sequence[str]],
        cost: Callable[[Codes], Floats],
        *,
        factors: Mapping[str, NDArray[np.int64]] | None = None,
        allowed: Callable[[Codes], Bools] | None = None,
    ) -> None:
        if not sites or not all(sites.values()):
            raise UsageError("the space has no site, or a site without options: nothing to search")
        self.sites = tuple(sites)
        self.options = tuple(tuple(options) for options in sites.values())
        self.sizes = np.array([len(options) for options in self.options])
        self.factors = None if factors is None else tuple(np.asarray(factors[site]) for site in self.sites)
        self._cost, self._allowed = cost, allowed
        self._index = [{option: i for i, option in enumerate(options)} for options in self.options]
        # Any fixed words do: equal archs get equal ids on every machine.
        random = np.random.default_rng(20_110)
        self._words = [random.integers(0, 2**63, size, dtype=np.uint64) for size in self.sizes]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {
            site: CategoricalDistribution(options)
            for site, options in zip(self.sites, self.options, strict=True)
        }

    def encode(self, params: Mapping[str, str]) -> Codes | None:
        """One row (S,); None where a site is missing, as in a trial that is just being suggested."""
        if any(site not in params for site in self.sites):
            return None
        row = []
        for site, index in zip(self.sites, self._index, strict=True):
            option = params[site]
            if option not in index:
                raise UsageError(f"site '{site}' has no option '{option}'.{did_you_mean(option, index)}")
            row.append(index[option])
        return np.array(row)

    def decode(self, codes: Codes) -> dict[str, str]:
        return {site: opts[c] for site, opts, c in zip(self.sites, self.options, codes.tolist(), strict=True)}

    def log_cost(self, codes: Codes) -> Floats:
        """Logarithm to base 10 of the cost, (n,); what the front and the model see."""
        cost: Floats = np.log10(np.asarray(self._cost(codes), dtype=float))
        return cost

    def feasible(self, codes: Codes) -> Bools:
        return np.ones(len(codes), bool) if self._allowed is None else np.asarray(self._allowed(codes), bool)

    def ids(self, codes: Codes) -> NDArray[np.uint64]:
        """64-bit Zobrist hash of each row, (n,): set operations on archs without Python loops."""
        out = np.zeros(len(codes), np.uint64)
        for site, words in enumerate(self._words):
            out ^= words[codes[:, site]]
        return out

    @cached_property
    def everything(self) -> Codes | None:
        """All feasible archs, or None where they are too many to hold."""
        count = math.prod(self.sizes.tolist())
        if count > WALKABLE:
            return None
        chunks, total = [], 0
        for start in range(0, count, ENUMERABLE):
            numbers = np.arange(start, min(start + ENUMERABLE, count))
            codes = np.stack(np.unravel_index(numbers, tuple(self.sizes.tolist())), axis=1)
            chunks.append(codes[self.feasible(codes)])
            total += len(chunks[-1])
            if total > ENUMERABLE:
                return None
        return np.concatenate(chunks)

    @property
    def listed(self) -> Codes | None:
        """All feasible archs where they are few enough to go through at each proposal."""
        few = self.everything is not None and len(self.everything) <= LISTED
        return self.everything if few else None

    @cached_property
    def highest_cost(self) -> float:
        """Logarithm of the highest cost: of all feasible archs, or of the random ones that stand for them."""
        some = self.sample(2000, np.random.default_rng(0)) if self.everything is None else self.everything
        return float(self.log_cost(some).max(initial=-np.inf))

    def sample(self, count: int, random: np.random.Generator) -> Codes:
        """Uniform feasible archs, at most `count` (fewer where hardly any arch is feasible)."""
        if self.everything is not None:
            picks = random.choice(len(self.everything), min(count, len(self.everything)), replace=False)
            return self.everything[picks]
        chunks: list[Codes] = []
        for _ in range(100):
            codes = random.integers(0, self.sizes, size=(max(count, 500), len(self.sites)))
            chunks.append(codes[self.feasible(codes)])
            if sum(map(len, chunks)) >= count:
                break
        return np.concatenate(chunks)[:count]

    def mutations(self, parents: Codes, count: int, random: np.random.Generator) -> Codes:
        """About `count` feasible neighbours of `parents`, with one or two sites changed."""
        rows = parents[random.integers(0, len(parents), count)].copy()
        each = np.arange(count)
        for changed in (np.ones(count, bool), random.random(count) < 0.5):
            site = random.integers(0, len(self.sites), count)
            shift = random.integers(1, np.maximum(self.sizes[site], 2))
            rows[each, site] = np.where(
                changed, (rows[each, site] + shift) % self.sizes[site], rows[each, site]
            )
        return rows[self.feasible(rows)]
