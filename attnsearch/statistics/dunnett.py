"""Dunnett's distribution: the largest of several comparisons with one baseline.

Exact where the comparisons' correlations are products of loadings, r_ij = l_i l_j: tables without holes (1/2
for all pairs), one-way designs. Else from 200,000 seeded draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

DRAWS = 200_000
LEAST_DEGREES = 3  # of freedom of the noise: below, no interval and no probability
HALF = math.sqrt(0.5)  # the loading of every comparison in a table without holes


def t_critical(degrees: float, alpha: float) -> float:
    """Two-sided critical value of Student's t; infinite below `LEAST_DEGREES`."""
    return -float(special.stdtrit(degrees, alpha / 2)) if degrees >= LEAST_DEGREES else math.inf


def dunnett_cdf(d: float, loadings: tuple[float, ...], degrees: float) -> float:
    """P(every |T_i| <= d), where T_i and T_j have correlation loadings_i * loadings_j.

    Dunnett 1955 (JASA 50:1096): given the baseline's share Z (integrated by Gauss-Hermite) and the pooled
    sd S (Gauss-Legendre over its density), the comparisons are independent.
    """
    z, on_z = _normal_nodes()
    s, on_s = _chi_nodes(degrees)
    inside = np.ones((len(s), len(z)))
    for loading in set(loadings):
        free = math.sqrt(1 - loading**2)
        shift, reach = loading / free * z, d / free * s[:, None]
        inside *= (special.ndtr(reach + shift) - special.ndtr(shift - reach)) ** loadings.count(loading)
    return float(on_s @ inside @ on_z)


@lru_cache(maxsize=4096)
def dunnett_critical(comparisons: int, degrees: int, alpha: float = 0.05) -> float:
    """Two-sided critical value in a table without holes; infinite below `LEAST_DEGREES`."""
    return _critical((HALF,) * comparisons, degrees, alpha)


@lru_cache(maxsize=4096)
def _critical(loadings: tuple[float, ...], degrees: int, alpha: float) -> float:
    if len(loadings) == 1 or degrees < LEAST_DEGREES:
        return t_critical(degrees, alpha)
    from scipy.optimize import brentq

    bounds = t_critical(degrees, alpha) * (1 - 1e-6), t_critical(degrees, alpha / len(loadings)) * (1 + 1e-6)
    return float(brentq(lambda d: dunnett_cdf(d, loadings, degrees) - (1 - alpha), *bounds))


@lru_cache(maxsize=1)
def _normal_nodes() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    return nodes, weights / math.sqrt(2 * math.pi)


@lru_cache(maxsize=512)
def _chi_nodes(degrees: float) -> tuple[Floats, Floats]:
    """Nodes and weights for S = sqrt(chi-square / degrees), between its 1e-13 quantiles."""
    low, high = (math.sqrt(float(special.chdtri(degrees, tail)) / degrees) for tail in (1 - 1e-13, 1e-13))
    nodes, weights = np.polynomial.legendre.leggauss(48)
    s = low + (high - low) * (nodes + 1) / 2
    density = np.exp((degrees - 1) * np.log(s) - degrees * (s**2 - 1) / 2)  # up to a constant
    mass = weights * density
    return s, mass / mass.sum()


@dataclass(frozen=True)
class Family:
    """The joint distribution of the comparisons' t values.

    `draws`, sorted largest |T| of each draw, is None where the exact integral over `loadings` serves.
    """

    loadings: tuple[float, ...]
    degrees: int
    draws: Floats | None = None

    @classmethod
    def whole(cls, comparisons: int, degrees: int) -> Family:
        """Of a table without holes."""
        return cls((HALF,) * comparisons, degrees)

    @classmethod
    def of(cls, covariance: Floats, degrees: int) -> Family:
        """From the (m, m) covariance of the comparisons' estimates."""
        scale = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(scale, scale)
        if degrees < LEAST_DEGREES:
            return cls.whole(len(scale), degrees)
        if loadings := _loadings(correlation):
            return cls(loadings, degrees)
        draws = _largest_t(correlation.round(10).tobytes(), len(scale), degrees)
        return cls((HALF,) * len(scale), degrees, draws)

    def critical(self, alpha: float) -> float:
        """Two-sided simultaneous critical value."""
        if self.draws is None:
            return _critical(self.loadings, self.degrees, alpha)
        return float(np.quantile(self.draws, 1 - alpha))

    def p_value(self, t: float) -> float:
        """Probability that the largest of the family is at least |t| when nothing differs; 1 below `LEAST_DEGREES`."""
        if self.degrees < LEAST_DEGREES:
            return 1.0
        if self.draws is None:
            return max(0.0, 1 - dunnett_cdf(abs(t), self.loadings, self.degrees))
        beyond = len(self.draws) - int(np.searchsorted(self.draws, abs(t)))
        return (beyond + 1) / (len(self.draws) + 1)


def _loadings(correlation: Floats) -> tuple[float, ...]:
    """Find l with correlation_ij = l_i l_j off the diagonal, or nothing if there is none between 0 and 1."""
    m = len(correlation)
    rows, columns = np.triu_indices(m, 1)
    pairs = correlation[rows, columns]
    if m == 1:
        return (HALF,)
    if pairs.min() <= 0:
        return ()
    design = np.zeros((len(pairs), m))
    design[np.arange(len(pairs)), rows] = 1
    design[np.arange(len(pairs)), columns] = 1
    found = np.exp(np.linalg.lstsq(design, np.log(pairs), rcond=None)[0]).round(12)
    fits = np.allclose(found[rows] * found[columns], pairs, atol=1e-8) and found.max() < 1
    return tuple(float(value) for value in found) if fits else ()


@lru_cache(maxsize=16)
def _largest_t(correlation: bytes, comparisons: int, degrees: int) -> Floats:
    rng = np.random.default_rng(1955)
    values, vectors = np.linalg.eigh(np.frombuffer(correlation).reshape(comparisons, comparisons))
    root = vectors * np.sqrt(values.clip(0))
    largest = np.abs(rng.standard_normal((DRAWS, comparisons)) @ root.T).max(axis=1)
    return np.sort(largest / np.sqrt(rng.chisquare(degrees, DRAWS) / degrees))
