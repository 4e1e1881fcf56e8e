"""PAR, "Pareto at rung": a trial goes on while the epochs that it has left promise more hypervolume than a new arch.

All objectives but the error are known before training. Decisions are pure functions of what has been seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.seeds import uniform
from attnsearch.sample.ehvi import ehvi
from attnsearch.sample.pruner_base import Decision, thirds
from attnsearch.statistics.false_stops import Run, costs_no_more
from attnsearch.statistics.proxy import Ranks

Floats = NDArray[np.float64]

CALIBRATION = 6  # complete trials before anyone is stopped
BEYOND = math.log10(1.02)  # hypervolume ends so far beyond the highest cost seen
TRUSTED_FROM = 20  # complete trials from which a rung must prove its worth beyond doubt
GATE_ROWS = 100  # of these the latest so many; keeps a decision within milliseconds
DRAWS = 500


@dataclass(frozen=True)
class ParetoAtRung:
    """Stop what promises less hypervolume for the epochs that it has left than a new arch would bring for them.

    Over complete trials a straight line is fitted, final error ~ error at the rung. It predicts the final errors of
    all that were seen at the rung, with the residual sd as uncertainty, and so the expected hypervolume improvement
    of each over the front of the complete trials. What a new arch would bring is the reservation value of these
    (`reservation`): where the rung is cheap and informative only the best go on, where it is expensive or
    uninformative nearly all do.
    Safeguards: nobody is stopped before 6 trials are complete, nor when protected, nor when nothing at the rung is
    better at no higher cost (unless predicted to end worse than half of all); a rung is in force only while Kendall's
    partial tau(rung, final | cost) is above 0, at its bootstrap median up to 20 complete trials, at the 5th percentile
    from there on; a share `audited` of the stops is let run, while that is no more than this share of the complete
    trials.
    """

    seed: int = 0
    audited: float = 0.05

    def rungs(self, epochs: int) -> tuple[int, ...]:
        return thirds(epochs)

    def decide(
        self,
        rung: int,
        costs: tuple[float, ...],
        error: float,
        others: Sequence[Run],
        *,
        key: str,
        share: float,
        protected: bool = False,
    ) -> Decision:
        """Judge a trial that has just reached `rung` (from 0), after `share` of its epochs, against the `others`."""
        if protected:
            return Decision(False, "protected")
        pairs = _pairs(rung, others)
        if len(pairs) < CALIBRATION:
            return Decision(
                False, f"calibrating: {len(pairs)} of {CALIBRATION} complete trials at rung {rung}"
            )
        seen = [run for run in others if len(run.rungs) > rung]
        errors = np.array([*(run.rungs[rung] for run in seen), error])
        line = _line(pairs)
        if line is None:
            return Decision(False, f"rung {rung} is not trusted: final errors do not rise with those there")
        finals, limit = line.slope * errors + line.offset, line.slope * np.median(errors) + line.offset
        if finals[-1] <= limit and not any(
            r.rungs[rung] < error and costs_no_more(r.costs, costs) for r in seen
        ):
            return Decision(False, f"not dominated at rung {rung}")
        gains = _gains(finals, line.sd, [*(run.costs for run in seen), costs], others, float(limit))
        asked = reservation(gains[:-1], share)
        if gains[-1] >= asked:
            return Decision(False, f"worth its epochs at rung {rung}")
        if (bound := self.trust(pairs)) <= 0:
            return Decision(False, f"rung {rung} is not trusted: partial tau may be {bound:.2f}")
        reason = (
            f"{error:.2f} % at this rung predicts {finals[-1]:.2f} % (sd {line.sd:.2f}), "
            f"{100 * gains[-1] / asked:.0f} % of the gain expected of new archs for the epochs left"
        )
        checked = sum(run.audited for run in others)
        if uniform(self.seed, key) < self.audited and checked < self.audited * len(pairs):
            return Decision(False, f"audit: {reason}", audited=True)
        return Decision(True, reason)

    def trust(self, pairs: Floats) -> float:
        """Lower bound of partial tau(rung, final | cost) over rows (rung, final, cost)."""
        percentile = 5.0 if len(pairs) >= TRUSTED_FROM else 50.0
        return _lower_bound(pairs[-GATE_ROWS:].tobytes(), percentile, self.seed)


def reservation(gains: Floats, share: float) -> float:
    """The least gain for which to go on, by Weitzman's rule (Econometrica 47, 1979).

    Archs whose gain is drawn from `gains` (n,) show it after `share` of a training. Going on exactly with gains of at
    least g yields most per training spent where g = yield x (1 - share), that is mean(max(gains - g, 0)) =
    g share / (1 - share).
    """
    best = np.sort(gains)[::-1]
    price = len(best) * share / (1 - share)
    return float((np.cumsum(best) / (price + np.arange(1, len(best) + 1))).max())


def _pairs(rung: int, runs: Sequence[Run]) -> Floats:
    """(error at the rung, final error, first cost) of the complete trials, (n, 3)."""
    rows = [
        (run.rungs[rung], run.error, run.costs[0])
        for run in runs
        if run.error is not None and len(run.rungs) > rung
    ]
    return np.array(rows, dtype=float).reshape(-1, 3)


@dataclass(frozen=True)
class _Line:
    """final error = slope x error at the rung + offset, give or take sd."""

    slope: float
    offset: float
    sd: float


def _line(pairs: Floats) -> _Line | None:
    """Least squares; None where final errors do not rise with those at the rung."""
    if np.ptp(pairs[:, 0]) == 0:
        return None
    slope, offset = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    residual = pairs[:, 1] - slope * pairs[:, 0] - offset
    sd = math.sqrt(float((residual**2).sum()) / (len(pairs) - 2))
    return _Line(float(slope), float(offset), max(sd, 1e-9)) if slope > 0 else None


def _gains(
    finals: Floats, sd: float, costs: Sequence[tuple[float, ...]], runs: Sequence[Run], limit: float
) -> Floats:
    """Expected hypervolume improvement, (n,), over complete runs, up to the error `limit` and the highest costs."""
    log_costs = np.log10(np.array(costs))
    done = [run for run in runs if run.error is not None]
    known = (
        np.array([run.error for run in done], dtype=float),
        np.log10(np.array([run.costs for run in done])),
    )
    reference = (limit, *(log_costs.max(axis=0) + BEYOND))
    return ehvi(finals, np.full(len(finals), sd), log_costs, known, reference)


@lru_cache(maxsize=16)
def _lower_bound(pairs: bytes, percentile: float, seed: int) -> float:
    """Bootstrap percentile over rows of three floats; kept, for rows change only when a trial completes."""
    rows = np.frombuffer(pairs).reshape(-1, 3)
    random = np.random.default_rng([seed, len(rows)])
    weights = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=DRAWS).astype(float)
    _, partial, _ = Ranks.of(*rows.T).taus(weights)
    return float(np.percentile(partial, percentile))
