"""The finished trainings of each architecture: its errors by seed, those that chose it apart from the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnsearch.core.errors import UsageError
from attnsearch.core.trial import TrialResult


@dataclass(frozen=True, kw_only=True)
class ArchRuns:
    """The finished trainings of one architecture.

    Args:
        key, label: canonical key, and the string for people.
        costs: the known costs, in the order of the front's axes; all_costs: every counted cost by name.
        search_errors: error in percent by seed, of runs that may have chosen the architecture.
        fresh_errors: error by seed, of runs made after it was chosen; only these give an unbiased mean.
        spec, sites: `Arch.to_dict()` and the option of each site, as recorded with its first trial.
        role: of its first trial.
        other_images: whether `fresh_errors` are of the last block of a search, judged on images of its own.
    """

    key: str
    label: str
    costs: tuple[float, ...]
    search_errors: Mapping[int, float] = field(default_factory=dict)
    fresh_errors: Mapping[int, float] = field(default_factory=dict)
    all_costs: Mapping[str, float] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    role: str = "search"
    other_images: bool = False

    @property
    def errors(self) -> tuple[float, ...]:
        """All errors, searched first: what P(front) rests on."""
        return (*self.search_errors.values(), *self.fresh_errors.values())

    @property
    def shown_errors(self) -> Mapping[int, float]:
        """By seed, those that the printed mean is over: the fresh ones as soon as there is one."""
        return self.fresh_errors or self.search_errors

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(self.search_errors) | frozenset(self.fresh_errors)

    @property
    def fresh(self) -> bool:
        """Whether the printed mean is over independent seeds."""
        return bool(self.fresh_errors)


def gather(trials: Iterable[TrialResult], costs: Sequence[str]) -> list[ArchRuns]:
    """Complete trials by architecture.

    Search trials choose, so runs of other roles count as fresh. Runs of the role `confirm`, asked for one by
    one as the front moves, choose a little too: once an architecture has runs of the role `report`, only these
    count as fresh. Runs of a proxy validation train longer and are left out. Of a repeated (arch, seed) the last
    counts.

    Raises:
        UsageError: a trial lacks one of the costs.
    """
    errors: dict[str, dict[str, dict[int, float]]] = {}
    first: dict[str, TrialResult] = {}
    for trial in trials:
        if trial.finished and trial.role != "audit":
            first.setdefault(trial.key, trial)
            errors.setdefault(trial.key, {}).setdefault(trial.role, {})[trial.seed] = float(
                trial.error or 0.0
            )
    return [_runs(first[key], by_role, costs) for key, by_role in errors.items()]


def _runs(trial: TrialResult, by_role: Mapping[str, Mapping[int, float]], costs: Sequence[str]) -> ArchRuns:
    """The runs of one architecture, of which `trial` is the first."""
    searched, fresh = dict(by_role.get("search", {})), dict(by_role.get("report", {}))
    rest = {
        seed: error
        for role, runs in by_role.items()
        if role not in ("search", "report")
        for seed, error in runs.items()
    }
    if fresh:
        searched |= rest
    else:
        fresh = rest
    return ArchRuns(
        key=trial.key,
        label=trial.arch,
        costs=_costs(trial, costs),
        search_errors={seed: error for seed, error in searched.items() if seed not in fresh},
        fresh_errors=fresh,
        all_costs=trial.costs,
        spec=trial.spec,
        sites=trial.sites,
        role=trial.role,
        other_images=bool(by_role.get("report")),
    )


def _costs(trial: TrialResult, names: Sequence[str]) -> tuple[float, ...]:
    missing = [name for name in names if name not in trial.costs]
    if missing:
        raise UsageError(
            f"Trial {trial.number} has no cost '{missing[0]}'. It has: {', '.join(trial.costs) or 'none'}"
        )
    return tuple(trial.costs[name] for name in names)
