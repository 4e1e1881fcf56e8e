"""How often early stopping would have been a mistake, from stops that were let run to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import beta


@dataclass(frozen=True)
class Run:
    """What a pruner knows of one search trial.

    Args:
        key: canonical key of the arch.
        costs: exact, positive, one for each objective beside the error.
        rungs: validation error in percent at each rung reached so far.
        error: final error; None while running, and when stopped or failed.
        protected: never to be stopped (baseline, enqueued).
        stopped: stopped by the pruner.
        audited: would have been stopped, but was let run.
        options: what stands at its sites, for the audit per option.
    """

    key: str
    costs: tuple[float, ...]
    rungs: tuple[float, ...] = ()
    error: float | None = None
    protected: bool = False
    stopped: bool = False
    audited: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tally:
    """Trials, how many were stopped, and how many would-be stops were let run to the end and proved false."""

    trials: int = 0
    stopped: int = 0
    audited: int = 0
    false: int = 0

    @property
    def rate(self) -> float | None:
        """Estimated share of false stops; None without an audited trial."""
        return self.false / self.audited if self.audited else None

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share (Clopper-Pearson)."""
        n, k = self.audited, self.false
        low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        return low, high


def audit(runs: Sequence[Run], sd: float) -> tuple[Tally, dict[str, Tally]]:
    """False stops among audited trials that are complete: over all, and per option that stands in the arch.

    A stop was false if the arch is on, or within `sd` (that of a run, in points) of, the final front.
    """
    done = [(run.costs, run.error) for run in runs if run.error is not None]
    options = sorted({option for run in runs for option in run.options})

    def tally(some: Sequence[Run]) -> Tally:
        checked = [(run.costs, run.error) for run in some if run.audited and run.error is not None]
        false = sum(_near_front(costs, error, done, sd) for costs, error in checked)
        return Tally(len(some), sum(run.stopped for run in some), len(checked), false)

    return tally(runs), {option: tally([run for run in runs if option in run.options]) for option in options}


def _near_front(
    costs: tuple[float, ...], error: float, done: list[tuple[tuple[float, ...], float]], sd: float
) -> bool:
    """No arch of no more cost is better by more than `sd`."""
    return error <= min(other for prices, other in done if costs_no_more(prices, costs)) + sd


def costs_no_more(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` costs at most as much as `other` in every cost."""
    return all(a <= b for a, b in zip(one, other, strict=True))
