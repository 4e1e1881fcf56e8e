"""Is P(front) what it says? Simulated studies of archs whose true errors spread 0.2, 0.6 and 2 times the noise.

    python -m benchmarks.statistics.places                    to results/statistics, some minutes
    python -m benchmarks.statistics.places --studies 20 --searches 5 --out /tmp/x     a look

Two kinds. `80 archs, 24 more runs`: one run of each arch, three of the baseline, then what `next_runs` asks for, four
at a time. `whole searches`: 64 trainings by the real schedule and pool sampler, last block included, each seed moving
all archs by half a run sd and the images of the last block by one. The cheapest arch is left out: it is on the front by
definition.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnsearch.statistics.arch_runs import ArchRuns, gather
from attnsearch.statistics.front import Front, Status, assess
from attnsearch.statistics.next_runs import next_runs
from attnsearch.statistics.pareto import pareto
from benchmarks.statistics.studies import Setting, search

Floats = NDArray[np.float64]
# Seeds of the studies by ratio: where archs differ little, few are confirmed.
STUDIES: dict[float, Sequence[int]] = {
    0.2: range(750),
    0.6: (*range(750), *range(1_000, 1_350)),
    2.0: range(250),
}
ARCHS, FURTHER, BATCH = 80, 24, 4
Places = tuple[
    Floats, Floats, Floats
]  # stated probability, whether true, whether confirmed; one entry an arch


def by_next_runs(ratio: float, seed: int) -> Places:
    """80 archs of run sd 1, one run each, and 24 more where they decide most."""
    rng = np.random.default_rng([80, seed])
    true = 20 + ratio * rng.standard_normal(ARCHS)
    costs = np.sort(np.exp(rng.normal(0, 0.3, ARCHS)))
    archs = {str(i): _arch(i, float(costs[i]), true[i] + rng.standard_normal()) for i in range(ARCHS)}
    for extra in (1, 2):
        archs["0"] = _with(archs["0"], extra, true[0] + rng.standard_normal())
    for _ in range(FURTHER // BATCH):
        for key, block in next_runs(assess(list(archs.values()), baseline="0", draws=1_000), BATCH):
            archs[key] = _with(archs[key], block, true[int(key)] + rng.standard_normal())
    front = assess(list(archs.values()), baseline="0", draws=4_000)
    return _places(front, {str(i): float(error) for i, error in enumerate(true)})


def by_schedule(ratio: float, seed: int) -> Places:
    """A whole search; its archs as its report would judge them."""
    setting = Setting(spread=ratio, noise=1.0, shared=0.5, other=1.0, trials=64)
    study = search(setting, seed)
    competing = [trial for trial in study.trials if trial.key != study.control]
    front = assess(gather(competing, ["macs"]), baseline=study.baseline, draws=4_000)
    return _places(front, study.true)


def _arch(number: int, cost: float, error: float) -> ArchRuns:
    return ArchRuns(key=str(number), label=str(number), costs=(cost,), search_errors={0: error})


def _with(arch: ArchRuns, seed: int, error: float) -> ArchRuns:
    return replace(arch, fresh_errors={**arch.fresh_errors, seed: error})


def _places(front: Front, true: dict[str, float]) -> Places:
    errors = np.array([true[row.key] for row in front])
    on = pareto(np.column_stack([[row.costs[0] for row in front], errors]))
    rows = [
        (row.p_front, float(is_on), float(row.status == Status.CONFIRMED))
        for row, is_on in zip(front, on, strict=True)
        if row.status != Status.BY_COST and row.p_front is not None
    ]
    stated, truth, confirmed = np.array(rows, dtype=float).reshape(-1, 3).T
    return stated, truth, confirmed


def row(kind: str, ratio: float, found: Sequence[Places]) -> dict[str, Any]:
    """Calibration error over ten bins, and how often what is confirmed or said to be likely is true."""
    stated, truth, confirmed = (np.concatenate([places[i] for places in found]) for i in range(3))
    bins = np.minimum((stated * 10).astype(int), 9)
    ece = sum(abs(stated[bins == b].mean() - truth[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    sure = confirmed > 0
    high = (stated >= 0.8) & (stated < 0.9)
    return {
        "kind": kind,
        "spread_over_noise": ratio,
        "studies": len(found),
        "archs": len(stated),
        "calibration_error": float(ece),
        "confirmed": int(sure.sum()),
        "confirmed_true": _share(truth[sure]),
        "confirmed_true_error": _error(truth[sure]),
        "likely": int(high.sum()),
        "likely_stated": _share(stated[high]),
        "likely_true": _share(truth[high]),
        "likely_true_error": _error(truth[high]),
    }


def _share(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _error(values: Floats) -> float | None:
    """Monte-Carlo standard error of a share, never smaller than that of one exception."""
    if not len(values):
        return None
    share = min(float(values.mean()), 1 - 1 / (len(values) + 1))
    return math.sqrt(share * (1 - share) / len(values))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# P(front), simulated",
        "",
        "`python -m benchmarks.statistics.places`; the cheapest arch left out. In brackets Monte-Carlo standard "
        "errors.",
        "",
        "| studies | spread / noise | n | calibration error | confirmed | of these true | P of 0.8 to 0.9 | "
        "of these true |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        parts = [
            f"{r[name]:.3f} ({r[f'{name}_error']:.3f})" if r[name] is not None else "none"
            for name in ("confirmed_true", "likely_true")
        ]
        lines.append(
            f"| {r['kind']} | {r['spread_over_noise']:g} | {r['studies']} | {r['calibration_error']:.3f} | "
            f"{r['confirmed']} | {parts[0]} | {r['likely']} | {parts[1]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write `OUT/places.{json,md}`, after each row what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, help="of 80 archs, at each ratio")
    parser.add_argument("--searches", type=int, default=0, help="whole ones, at each ratio")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    studies = STUDIES if options.studies is None else dict.fromkeys(STUDIES, range(options.studies))
    kinds = (
        (f"{ARCHS} archs, {FURTHER} more runs", by_next_runs, studies),
        ("whole searches", by_schedule, dict.fromkeys(STUDIES, range(options.searches))),
    )
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for name, study, each in kinds:
            for ratio, seeds in each.items():
                if not seeds:
                    continue
                rows.append(row(name, ratio, list(pool.map(partial(study, ratio), seeds))))
                (options.out / "places.json").write_text(json.dumps(rows, indent=1) + "\n")
                (options.out / "places.md").write_text(table(rows))
                print(table(rows[-1:]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
