"""Designs of an ablation: which variants, in which seed blocks, in which order.

A variant says an option for every site; what a site and an option mean is the caller's. All designs are
randomised complete blocks: every variant runs once per seed, in random order within the seed, seed after
seed, so that a run that is killed leaves whole blocks.

    loo        the reference, and the reference without one site
    add        the baseline, and the baseline with one site
    swap       the options of one site
    factorial  every combination of two options per site, or a fraction of them that keeps main effects clear
    named      the baseline, and variants that somebody chose
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from attnsearch.core.errors import UsageError, did_you_mean, unknown
from attnsearch.statistics import aliases

Kind = Literal["loo", "add", "swap", "factorial", "named"]
Settings = Mapping[str, str]
Sites = Mapping[str, Sequence[str]]
VariantSeed = tuple[str, int]

FULL = 5  # two-level sites up to which a factorial is full: 32 variants
MOST = 15  # sites that 32 runs of resolution IV hold


@dataclass(frozen=True)
class Design:
    """Variants by name, each an option per site, and the seeds that are its blocks.

    Args:
        baseline: the variant that all others are compared with.
        variants: name -> site -> option, the baseline first; controls have none.
        aliases: groups of main effects and two-way interactions that this design cannot tell apart.
    """

    kind: Kind
    baseline: str
    variants: Mapping[str, Settings]
    blocks: tuple[int, ...]
    aliases: tuple[tuple[str, ...], ...] = ()

    @property
    def factors(self) -> dict[str, Settings]:
        """The variants without the controls: what main effects are estimated from."""
        return {name: settings for name, settings in self.variants.items() if settings}

    def with_controls(self, *names: str) -> Design:
        """The design with more variants by name, which run in every block like all others."""
        taken = [name for name in names if name in self.variants]
        if taken:
            raise UsageError(f"The design already has a variant '{taken[0]}'")
        return replace(self, variants={**self.variants, **{name: {} for name in names}})

    def order(self, done: Collection[VariantSeed] = (), *, seed: int = 0) -> list[VariantSeed]:
        """(variant, block) runs still to run: block after block, in an order random within each.

        A block's order depends on `seed` and on the block alone, so that more blocks change no earlier one.
        """
        runs: list[VariantSeed] = []
        for block in self.blocks:
            names = np.random.default_rng([seed, block]).permutation(list(self.variants))
            runs += [(str(name), block) for name in names]
        return [run for run in runs if run not in done]


def loo(sites: Sites, *, baseline: Settings, reference: Settings, seeds: Sequence[int]) -> Design:
    """Leave one out: the reference, and the reference with one site set back to the baseline's option."""
    _check(sites, baseline, reference)
    variants = {"reference": dict(reference)}
    for site in _changed(baseline, reference):
        variants[f"without {site}"] = {**reference, site: baseline[site]}
    return _design("loo", variants, seeds)


def add(
    sites: Sites, *, baseline: Settings, reference: Settings | None = None, seeds: Sequence[int]
) -> Design:
    """Add one: the baseline with one site set to the reference's option, or to each in turn."""
    _check(sites, baseline, reference or baseline)
    variants = {"plain": dict(baseline)}
    for site, options in sites.items():
        for option in options if reference is None else [reference[site]]:
            if option != baseline[site]:
                variants[_name(baseline, {**baseline, site: option})] = {**baseline, site: option}
    return _design("add", variants, seeds)


def swap(sites: Sites, site: str, *, baseline: Settings, seeds: Sequence[int]) -> Design:
    """Every option of one site, the others as in the baseline, which is compared with."""
    _check(sites, baseline, baseline)
    if site not in sites:
        raise UsageError(unknown("site", site, sites))
    variants = {baseline[site]: dict(baseline)}
    variants |= {option: {**baseline, site: option} for option in sites[site]}
    return _design("swap", variants, seeds)


def factorial(sites: Sites, *, baseline: Settings, reference: Settings, seeds: Sequence[int]) -> Design:
    """Two levels, the baseline's option and the reference's, at each site where they differ.

    Up to 5 sites every combination; from 6 to 15 a fraction of resolution IV in 16 or 32 variants. Its main
    effects are clear of two-way interactions while some of these share a name (`Design.aliases`).

    Raises:
        UsageError: the reference differs from the baseline nowhere, or at more than 15 sites.
    """
    _check(sites, baseline, reference)
    changed = _changed(baseline, reference)
    if len(changed) > MOST:
        raise UsageError(f"A factorial takes up to {MOST} sites, the reference changes {len(changed)}")
    variants: dict[str, Settings] = {}
    for levels in _levels(len(changed)):
        up = {site: reference[site] for site, high in zip(changed, levels, strict=True) if high}
        variants[_name(baseline, {**baseline, **up})] = {**baseline, **up}
    return _design("factorial", variants, seeds, tuple(aliases(list(variants.values()))))


def named(
    sites: Sites, variants: Mapping[str, Settings], *, baseline: Settings, seeds: Sequence[int]
) -> Design:
    """The baseline and each of the variants, under their own names.

    Raises:
        UsageError: two names stand for one variant, or one for the baseline.
    """
    _check(sites, baseline, *variants.values())
    known = {tuple(sorted(baseline.items())): "the baseline"}
    for name, row in variants.items():
        other = known.setdefault(tuple(sorted(row.items())), f"'{name}'")
        if other != f"'{name}'":
            raise UsageError(f"The variant '{name}' is {other} under another name")
    return _design("named", {"plain": dict(baseline), **variants}, seeds)


def _levels(count: int) -> list[tuple[bool, ...]]:
    """Rows of a two-level design, all low first."""
    if count <= FULL:
        return list(product((False, True), repeat=count))
    from pyDOE3 import fracfact_by_res  # 2 s to import

    rows = fracfact_by_res(count, 4) > 0
    return sorted(tuple(bool(level) for level in row) for row in rows)


def _design(
    kind: Kind,
    variants: Mapping[str, Settings],
    seeds: Sequence[int],
    aliased: tuple[tuple[str, ...], ...] = (),
) -> Design:
    if len(variants) < 2:
        raise UsageError(f"The design '{kind}' has nothing to compare: the reference is the baseline")
    if not seeds:
        raise UsageError(f"The design '{kind}' needs at least one seed")
    return Design(kind, next(iter(variants)), variants, tuple(dict.fromkeys(seeds)), aliased)


def _changed(baseline: Settings, reference: Settings) -> list[str]:
    return [site for site in baseline if reference[site] != baseline[site]]


def _name(baseline: Settings, settings: Settings) -> str:
    changed = [f"{site}={settings[site]}" for site in _changed(baseline, settings)]
    return " + ".join(changed) or "plain"


def _check(sites: Sites, *rows: Settings) -> None:
    for settings in rows:
        for site in sites:
            if site not in settings:
                raise UsageError(f"Site '{site}' has no option in the design's baseline or reference")
        for site, option in settings.items():
            if site not in sites:
                raise UsageError(unknown("site", site, sites))
            if option not in sites[site]:
                known = ", ".join(sites[site])
                hint = did_you_mean(option, sites[site])
                raise UsageError(f"Site '{site}' has no option '{option}'.{hint} It has: {known}")
