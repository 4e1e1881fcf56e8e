"""Which trials to stop early, on objectives of which all but the error are known: pure functions of what has been seen.

    make_pruner(name)        par, moasha, one-epoch or none
    pruner.rungs(epochs)     the epochs after which it decides
    pruner.decide(...)       stop or go on, with a sentence why

PAR, "Pareto at rung": a trial goes on while the epochs that it has left promise more hypervolume than a new arch would
bring for them. Rungs lie on the one full-length learning-rate schedule, so stopping saves epochs and changes nothing
else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.errors import UsageError, unknown
from attnsearch.sample.ehvi import ehvi
from attnsearch.statistics.false_stops import Run, costs_no_more
from attnsearch.statistics.proxy import Ranks

Floats = NDArray[np.float64]

CALIBRATION = 6  # complete trials before anyone is stopped
BEYOND = math.log10(1.02)  # hypervolume ends so far beyond the highest cost seen
TRUSTED_FROM = 20  # complete trials from which a rung must prove its worth beyond doubt
GATE_ROWS = 100  # of these the latest so many; keeps a decision within milliseconds
DRAWS = 500


@dataclass(frozen=True)
class Decision:
    """Whether to stop, one sentence why, and whether this is a stop that is let run for the audit."""

    stop: bool
    reason: str
    audited: bool = False


class Pruner(Protocol):
    """What the coordinator asks at each rung."""

    def rungs(self, epochs: int) -> tuple[int, ...]: ...

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
    ) -> Decision: ...


# Epochs. The first of three ends near chance, whatever the arch ends at (of ten classes 75 to 90 % went before 17 to
# 60 %): to stop there saves two epochs, and lost half of the archs of a first run for it.
SHORTEST = 4


@dataclass(frozen=True)
class ParetoAtRung:
    """Stop what promises less hypervolume for the epochs that it has left than a new arch would bring for them.

    Over complete trials a straight line is fitted, final error ~ error at the rung. It foretells the final errors of
    all that were seen at the rung, with the residual sd as doubt, and so the expected hypervolume improvement of each
    over the front of the complete trials. What a new arch would bring is the reservation value of these
    (`reservation`): where the rung is cheap and tells much only the best go on, where it is dear or tells little
    nearly all do.
    Safeguards: nobody is stopped before 6 trials are complete, nor when protected, nor when nothing at the rung is
    better at no higher cost (unless foretold to end worse than half of all); a rung is in force only while Kendall's
    partial tau(rung, final | cost) is above 0, at its bootstrap median up to 20 complete trials, at the 5th percentile
    from there on; a share `audited` of the stops is let run, while that is no more than this share of the complete
    trials.
    """

    seed: int = 0
    audited: float = 0.05

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """After a ninth and a third of the epochs, rounded up; none in a training of fewer than SHORTEST."""
        if epochs < SHORTEST:
            return ()
        return tuple(sorted({math.ceil(epochs / 9), math.ceil(epochs / 3)}))

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
            f"{error:.2f} % at this rung foretells {finals[-1]:.2f} % (sd {line.sd:.2f}), "
            f"{100 * gains[-1] / asked:.0f} % of the gain that new archs promise for the epochs left"
        )
        checked = sum(run.audited for run in others)
        if _coin(self.seed, key) < self.audited and checked < self.audited * len(pairs):
            return Decision(False, f"audit: {reason}", audited=True)
        return Decision(True, reason)

    def trust(self, pairs: Floats) -> float:
        """Lower bound of partial tau(rung, final | cost) over rows (rung, final, cost)."""
        percentile = 5.0 if len(pairs) >= TRUSTED_FROM else 50.0
        return _lower_bound(pairs[-GATE_ROWS:].tobytes(), percentile, self.seed)


@dataclass(frozen=True)
class MoAsha:
    """Stop iff not among the best 1/eta at the rung, by non-dominated layers, spread out within a layer.

    After Schmucker et al., arXiv:2106.12639 (stopping type). Objectives are scaled to 0..1 for the
    epsilon-net that orders a layer, and a trial's own rank is compared.
    """

    eta: float = 3.0
    first_only: bool = False

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """PAR's rungs; the first epoch alone where `first_only`."""
        ladder = (1,) if self.first_only else ParetoAtRung().rungs(epochs)
        return tuple(epoch for epoch in ladder if epoch < epochs)

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
        if protected:
            return Decision(False, "protected")
        peers = [(run.rungs[rung], *run.costs) for run in others if len(run.rungs) > rung]
        rank = int(priorities(np.array([*peers, (error, *costs)]))[-1])
        if rank <= len(peers) / self.eta:
            return Decision(False, f"rank {rank + 1} of {len(peers) + 1} at rung {rung}")
        return Decision(
            True, f"rank {rank + 1} of {len(peers) + 1} at rung {rung}, the best 1/{self.eta:g} go on"
        )


@dataclass(frozen=True)
class NeverStop:
    """Every trial runs to its last epoch."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        return ()

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
        return Decision(False, "nothing is stopped")


def make_pruner(name: str, *, seed: int = 0, eta: float = 3.0) -> Pruner:
    """The pruner of that name; one-epoch keeps the best third after one epoch (after arXiv:2307.15422)."""
    made: dict[str, Pruner] = {
        "par": ParetoAtRung(seed),
        "moasha": MoAsha(eta),
        "one-epoch": MoAsha(eta, first_only=True),
        "none": NeverStop(),
    }
    if name not in made:
        raise UsageError(unknown("pruner", name, made))
    return made[name]


def priorities(points: Floats) -> NDArray[np.int64]:
    """Rank of each point (n, objectives), 0 the best: by non-dominated layer, then by an epsilon-net within it."""
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    ranks = np.zeros(len(points), np.int64)
    left, given = np.arange(len(points)), 0
    while len(left):
        layer = left[_non_dominated(scaled[left])]
        ranks[layer[_spread(scaled[layer])]] = given + np.arange(len(layer))
        given += len(layer)
        left = np.setdiff1d(left, layer)
    return ranks


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
    done = [(run.error, *np.log10(run.costs)) for run in runs if run.error is not None]
    known = np.array(done)
    reference = (limit, *(log_costs.max(axis=0) + BEYOND))
    return ehvi(finals, np.full(len(finals), sd), log_costs, (known[:, 0], known[:, 1:]), reference)


@lru_cache(maxsize=16)
def _lower_bound(pairs: bytes, percentile: float, seed: int) -> float:
    """Bootstrap percentile over rows of three floats; kept, for rows change only when a trial completes."""
    rows = np.frombuffer(pairs).reshape(-1, 3)
    random = np.random.default_rng([seed, len(rows)])
    weights = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=DRAWS).astype(float)
    _, partial, _ = Ranks.of(*rows.T).taus(weights)
    return float(np.percentile(partial, percentile))


def _coin(seed: int, key: str) -> float:
    """Uniform in 0..1, the same for the same arch whenever and wherever it is tossed."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _non_dominated(points: Floats) -> NDArray[np.int64]:
    no_worse = (points[:, None, :] <= points[None, :, :]).all(2)
    better = (points[:, None, :] < points[None, :, :]).any(2)
    return np.flatnonzero(~(no_worse & better).any(0))


def _spread(points: Floats) -> NDArray[np.int64]:
    """Order that starts at the lowest error and always takes the point farthest from those taken."""
    order = [int(np.argmin(points[:, 0]))]
    distance = np.linalg.norm(points - points[order[0]], axis=1)
    while len(order) < len(points):
        distance[order] = -1.0
        order.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[order[-1]], axis=1))
    return np.array(order)
