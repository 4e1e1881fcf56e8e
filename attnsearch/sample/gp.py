"""Gaussian process over archs: categorical sites, with cost as a known feature.

    k(x, x') = v_p exp(-h(x, x') / l_h - f(x, x') / l_f)      all sites together: interactions
             + v_a mean_s [x_s = x'_s] + v_f mean_s share_s   each site for itself: main effects
             + v_g <count(x), count(x')>                      what an option does wherever it stands
             + v_c exp(-(z - z')^2 / 2 l_c^2) + v_l z z'      cost: a curve and a straight line
             + 1                                              the mean

h counts differing sites, f adds up the share of differing factors (only where the domain states factors), z
is the standardised log cost. Hyper-parameters are the maximum a posteriori under log-normal priors, by L-BFGS
on analytic gradients. Noise is v_n for each observation, plus what the caller states.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from attnsearch.sample.domain import Codes, Domain, Floats

NAMES = ("v_p", "l_h", "l_f", "v_a", "v_f", "v_g", "v_c", "l_c", "v_l", "v_n")
CHUNK = 512  # rows of a pool scored at once: 512 x 300 x 8 bytes stay in a core's cache


@dataclass(frozen=True)
class Parts:
    """What the kernel is made of, (n, m) each; independent of the hyper-parameters."""

    same: Floats  # sites with equal options, 0..S
    shared: Floats  # sites weighed by the share of equal factors, 0..S
    counts: Floats
    gap: Floats  # squared difference of z
    product: Floats  # z z'


class Kernel:
    """The covariance above for the archs of one domain."""

    def __init__(self, domain: Domain) -> None:
        self.sites = len(domain.sites)
        self._starts = np.cumsum([0, *map(len, domain.options[:-1])])
        self._options = sum(map(len, domain.options))
        self._share = None if domain.factors is None else block_diag(*map(_share, domain.factors))
        self._labels = np.vstack(_count_tables(domain)) / self.sites
        prior = {"v_p": 0.5, "l_h": self.sites / 2, "l_f": self.sites / 2, "v_a": 0.5, "v_f": 0.5, "v_g": 0.2}
        prior |= {"v_c": 0.3, "l_c": 1.0, "v_l": 0.5, "v_n": 0.1}
        self.names = tuple(name for name in NAMES if domain.factors is not None or name not in ("l_f", "v_f"))
        self.prior: Floats = np.log([prior[name] for name in self.names])

    def parts(self, a: Codes, za: Floats, b: Codes, zb: Floats) -> Parts:
        one, other = self.indicators(a), self.indicators(b)
        same = one @ other.T
        shared = same if self._share is None else one @ (self._share @ other.T)
        counts = one @ (self._labels @ (self._labels.T @ other.T))
        return Parts(same, shared, counts, (za[:, None] - zb) ** 2, za[:, None] * zb)

    def indicators(self, codes: Codes) -> Floats:
        """One column for each option of each site, (n, options): 1 where it stands."""
        out = np.zeros((len(codes), self._options))
        out[np.arange(len(codes))[:, None], codes + self._starts] = 1.0
        return out

    def count(self, codes: Codes) -> Floats:
        """How often each option (or factor) stands anywhere; of length 1 for a homogeneous arch."""
        return np.asarray(self.indicators(codes) @ self._labels)

    def terms(self, theta: Floats, parts: Parts) -> dict[str, Floats]:
        """Each summand of the covariance, by the name of its variance."""
        value = dict(zip(self.names, np.exp(theta), strict=True))
        distance = (self.sites - parts.same) / value["l_h"]
        if self._share is not None:
            distance += (self.sites - parts.shared) / value["l_f"]
        out = {
            "v_p": value["v_p"] * np.exp(-distance),
            "v_a": value["v_a"] / self.sites * parts.same,
            "v_g": value["v_g"] * parts.counts,
            "v_c": value["v_c"] * np.exp(-parts.gap / (2 * value["l_c"] ** 2)),
            "v_l": value["v_l"] * parts.product,
        }
        if self._share is not None:
            out["v_f"] = value["v_f"] / self.sites * parts.shared
        return out

    def gradients(self, theta: Floats, parts: Parts, terms: dict[str, Floats]) -> dict[str, Floats]:
        """Derivative of the covariance by the logarithm of each hyper-parameter but the noise."""
        value = dict(zip(self.names, np.exp(theta), strict=True))
        out = dict(terms)
        out["l_h"] = terms["v_p"] * (self.sites - parts.same) / value["l_h"]
        out["l_c"] = terms["v_c"] * parts.gap / value["l_c"] ** 2
        if self._share is not None:
            out["l_f"] = terms["v_p"] * (self.sites - parts.shared) / value["l_f"]
        return out

    def sides(self, theta: Floats, codes: Codes) -> tuple[Floats, Floats]:
        """Right-hand sides, (options, n) each, of products with `indicators`.

        They give what is linear in indicators of v_a, v_f and v_g, and the logarithm of v_p's exponential.
        """
        value = dict(zip(self.names, np.exp(theta), strict=True))
        other = self.indicators(codes).T
        linear = value["v_a"] / self.sites * other + value["v_g"] * self._labels @ (self._labels.T @ other)
        distance = (other - 1) / value["l_h"]
        if self._share is not None:
            shared = self._share @ other
            linear += value["v_f"] / self.sites * shared
            distance += (shared - 1) / value["l_f"]
        return linear, distance

    def diagonal(self, theta: Floats, codes: Codes, z: Floats) -> Floats:
        value = dict(zip(self.names, np.exp(theta), strict=True))
        flat = 1.0 + value["v_p"] + value["v_a"] + value["v_c"] + value.get("v_f", 0.0)
        total: Floats = flat + value["v_g"] * (self.count(codes) ** 2).sum(1) + value["v_l"] * z**2
        return total


def negative_log_posterior(
    theta: Floats, kernel: Kernel, parts: Parts, y: Floats, extra: Floats
) -> tuple[float, Floats]:
    """-log p(y | theta) p(theta) up to a constant, and its gradient; `extra`: known noise variance, (n,)."""
    terms = kernel.terms(theta, parts)
    noise = float(np.exp(theta[-1]))
    covariance = 1.0 + sum(terms.values()) + np.diag(noise + extra + 1e-8)
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = cho_solve(factor, np.eye(len(y)), check_finite=False)
    alpha = inverse @ y
    away = theta - kernel.prior
    value = 0.5 * y @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    weight = inverse - np.outer(alpha, alpha)
    gradients = kernel.gradients(theta, parts, terms)
    slope = [0.5 * np.vdot(weight, gradients[name]) for name in kernel.names[:-1]]
    slope.append(0.5 * noise * np.trace(weight))
    return float(value), np.array(slope) + away


def fit(kernel: Kernel, codes: Codes, z: Floats, y: Floats, extra: Floats) -> Floats:
    """Hyper-parameters (logarithms) for standardised targets y, (n,), starting at the prior's centre."""
    parts = kernel.parts(codes, z, codes, z)
    result = minimize(
        negative_log_posterior,
        kernel.prior,
        args=(kernel, parts, y, extra),
        jac=True,
        method="L-BFGS-B",
        bounds=[(centre - 6.0, centre + 6.0) for centre in kernel.prior],
        options={"maxiter": 30},
    )
    return np.asarray(result.x)


class Posterior:
    """The process given observations y, (n,), at archs `codes` with known extra noise variance."""

    def __init__(
        self, kernel: Kernel, theta: Floats, codes: Codes, z: Floats, y: Floats, extra: Floats
    ) -> None:
        self._kernel, self._theta, self._codes, self._z = kernel, theta, codes, z
        self._linear, self._distance = kernel.sides(theta, codes)
        covariance = self._cross(codes, z) + np.diag(np.exp(theta[-1]) + extra + 1e-8)
        self._factor = np.linalg.cholesky(covariance)
        self._alpha = cho_solve((self._factor, True), y, check_finite=False)

    def fantasize(self, codes: Codes, z: Floats) -> Posterior:
        """The same process, had these archs come out at their posterior mean (Kriging believer).

        What comes out as expected leaves every mean as it is (its weight is 0), and appends rows to the factor.
        """
        half = solve_triangular(self._factor, self._cross(codes, z).T, lower=True, check_finite=False)
        surer = copy(self)
        surer._codes, surer._z = codes, z
        surer._linear, surer._distance = self._kernel.sides(self._theta, codes)
        own = surer._cross(codes, z) + np.diag(np.full(len(z), np.exp(self._theta[-1]) + 1e-8))
        surer._codes, surer._z = np.vstack([self._codes, codes]), np.r_[self._z, z]
        surer._linear = np.hstack([self._linear, surer._linear])
        surer._distance = np.hstack([self._distance, surer._distance])
        surer._alpha = np.r_[self._alpha, np.zeros(len(z))]
        corner = np.linalg.cholesky(own - half.T @ half)
        surer._factor = np.block([[self._factor, np.zeros_like(half)], [half.T, corner]])
        return surer

    def mean(self, codes: Codes, z: Floats) -> Floats:
        mean: Floats = self._cross(codes, z) @ self._alpha
        return mean

    def __call__(self, codes: Codes, z: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noise-free value, (m,) each."""
        means, sds = [], []
        for start in range(0, len(codes), CHUNK):
            rows, at = codes[start : start + CHUNK], z[start : start + CHUNK]
            cross = self._cross(rows, at)
            half = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
            variance = self._kernel.diagonal(self._theta, rows, at) - (half**2).sum(0)
            means.append(cross @ self._alpha)
            sds.append(np.sqrt(np.maximum(variance, 1e-12)))
        return np.concatenate(means), np.concatenate(sds)

    def _cross(self, codes: Codes, z: Floats) -> Floats:
        """Covariance with the observed archs: 1 and all of `Kernel.terms`, in three arrays instead of twenty."""
        value = dict(zip(self._kernel.names, np.exp(self._theta), strict=True))
        indicators = self._kernel.indicators(codes)
        total = 1.0 + indicators @ self._linear
        term = np.exp(indicators @ self._distance)
        total += np.multiply(term, value["v_p"], out=term)
        np.subtract(z[:, None], self._z, out=term)
        np.exp(np.multiply(term, term, out=term) / (-2 * value["l_c"] ** 2), out=term)
        total += np.multiply(term, value["v_c"], out=term)
        total += np.multiply(value["v_l"] * z[:, None], self._z, out=term)
        return total


def _share(table: NDArray[np.int64]) -> Floats:
    """Share of equal factors between any two options of a site, (O, O)."""
    if table.shape[1] == 0:
        return np.ones((len(table), len(table)))
    share: Floats = (table[:, None, :] == table[None, :, :]).mean(2)
    return share


def _count_tables(domain: Domain) -> list[Floats]:
    """Per site (O, labels): the labels an option carries, scaled to unit length.

    A label is an option's name, or one of its factors' values where factors are stated; sites share factor labels
    if they offer the same options, for only then do their codes mean the same.
    """
    carried: list[list[tuple[Any, ...]]] = []
    for site, options in enumerate(domain.options):
        if domain.factors is None:
            carried.append([(option,) for option in options])
        else:
            rows = domain.factors[site].tolist()
            carried.append([tuple((options, *pair) for pair in enumerate(row)) for row in rows])
    known = sorted({label for site in carried for option in site for label in option})
    labels = {label: i for i, label in enumerate(known)}
    tables = []
    for site_labels in carried:
        table = np.zeros((len(site_labels), len(labels)))
        for row, option in enumerate(site_labels):
            table[row, [labels[label] for label in option]] = 1 / np.sqrt(max(len(option), 1))
        tables.append(table)
    return tables
