"""MO-ASHA: asynchronous successive halving on several objectives, by non-dominated layers.

Schmucker et al., "Multi-objective Asynchronous Successive Halving", arXiv:2106.12639 (stopping type).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnsearch.sample.pruner_base import Decision, thirds
from attnsearch.statistics.false_stops import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MoAsha:
    """Stop iff not among the best 1/eta at the rung, by non-dominated layers, spread out within a layer.

    After Schmucker et al., arXiv:2106.12639 (stopping type). Objectives are scaled to 0..1 for the
    epsilon-net that orders a layer, and a trial's own rank is compared.
    """

    eta: float = 3.0
    first_only: bool = False

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The usual rungs; the first epoch alone where `first_only`."""
        ladder = (1,) if self.first_only else thirds(epochs)
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


def priorities(points: Floats) -> NDArray[np.int64]:
    """Rank of each point (n, objectives), 0 the best: by non-dominated layer, then by an epsilon-net within it."""
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    ranks = np.zeros(len(points), np.int64)
    left, ranked = np.arange(len(points)), 0
    while len(left):
        layer = left[_non_dominated(scaled[left])]
        ranks[layer[_spread(scaled[layer])]] = ranked + np.arange(len(layer))
        ranked += len(layer)
        left = np.setdiff1d(left, layer)
    return ranks


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
