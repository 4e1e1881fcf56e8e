"""Do the verdicts and the front of a search hold? Whole searches in simulation, figures with Monte-Carlo errors.

    python -m benchmarks.statistics.searches       2,000 searches of equal archs, 150 of each other setting
    python -m benchmarks.statistics.searches --searches 100 --further 20 --out /tmp/x     a look

A search is 32 trainings of the shipped space `cbam_variants` by the real schedule and pool sampler; a training's error
is drawn. Units are run standard deviations, beside which each seed moves all archs by one of half the size, and the
images of the last block all by one of the same size. The positive control is trained in the last block as in real
searches; of each search it is judged as if it were worse by each of `HARMS`, 0 among them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnsearch.report.finalists import is_seen
from attnsearch.statistics.finalist_verdicts import judge_control, judge_finalists
from attnsearch.statistics.verdict_types import Verdict
from benchmarks.statistics.studies import Ended, Setting, search

SEEN = Setting(noise=1.0, shared=0.5, other=1.0)
EQUAL = {"all archs equal": SEEN}
SPREAD = {f"true errors spread by {s:g} run sds": replace(SEEN, spread=s) for s in (0.3, 1.0, 2.0)}
GAINS = {f"one arch better by {g:g} run sds": replace(SEEN, gain=g) for g in (1.0, 2.0, 3.0)}
MARGINS = (1.5, 2.0, 2.5, 3.0)
HARMS = (0.0, 1.0, 2.0, 3.0)  # of the positive control, in run sds


@dataclass(frozen=True)
class Figure:
    """A share with its Monte-Carlo standard error, and the bounds that it should keep."""

    setting: str
    figure: str
    value: float
    error: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def ok(self) -> bool:
        """Within its bounds, or outside by no more than two Monte-Carlo errors."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return low - 2 * self.error <= self.value <= high + 2 * self.error


def share(
    setting: str, figure: str, hits: Sequence[bool], low: float | None = None, high: float | None = None
) -> Figure:
    value = float(np.mean(hits))
    return Figure(setting, figure, value, math.sqrt(value * (1 - value) / len(hits)), len(hits), low, high)


@dataclass(frozen=True)
class Result:
    """What the last block of one search said.

    Args:
        false: a gain where there is none, or a harm where there is none.
        covered: every simultaneous interval holds the true difference; each: those of single comparisons.
        gain: a true gain was found. finalist: the better arch is among the finalists.
        equivalent: the first finalist was called equivalent, by margin.
        control: the 95 % interval of the positive control's own pairs holds its true difference.
        seen: it was seen to be worse, by harm.
    """

    false: bool
    covered: bool
    each: tuple[bool, ...]
    gain: bool
    finalist: bool
    equivalent: tuple[bool, ...]
    control: bool
    seen: tuple[bool, ...]


def one(setting: Setting, seed: int) -> Result:
    """One search and its verdicts against what is true."""
    study = search(setting, seed)
    rules: dict[str, Any] = {"baseline": study.baseline, "seeds": study.seeds, "control": study.control}
    analysis = judge_finalists(study.trials, **rules)
    assert analysis is not None
    plain = study.true[study.baseline]
    pairs = [(v, plain - study.true[v.variant]) for v in analysis.verdicts]
    within = []
    for margin in MARGINS:
        judged = judge_finalists(study.trials, **rules, margin=margin)
        within.append(judged is not None and judged.verdicts[0].outcome == "equivalent")
    controls = [_control(study, harm) for harm in HARMS]
    low, high = controls[0].interval
    return Result(
        false=any((v.outcome == "gain" and d <= 0) or (v.outcome == "harm" and d >= 0) for v, d in pairs),
        covered=all(v.simultaneous[0] <= d <= v.simultaneous[1] for v, d in pairs),
        each=tuple(v.interval[0] <= d <= v.interval[1] for v, d in pairs),
        gain=any(v.outcome == "gain" and d > 0 for v, d in pairs),
        finalist=any(d > 0 for _, d in pairs),
        equivalent=tuple(within),
        control=low <= 0 <= high,
        seen=tuple(is_seen(verdict) for verdict in controls),
    )


def _control(study: Ended, harm: float) -> Verdict:
    """What the last block says of a positive control that is worse by so much."""
    trials = [
        replace(trial, error=(trial.error or 0.0) + harm * (trial.key == study.control))
        for trial in study.last
    ]
    verdict = judge_control(trials, study.baseline, study.control)
    assert verdict is not None
    return verdict


def figures(name: str, setting: Setting, results: Sequence[Result]) -> Iterator[Figure]:
    """What the results of one setting amount to."""
    yield share(name, "searches with a false verdict", [r.false for r in results], high=0.05)
    yield share(name, "coverage of all intervals at once", [r.covered for r in results], 0.93, 0.97)
    yield share(name, "coverage of single intervals", [e for r in results for e in r.each], 0.93, 0.97)
    if setting.gain or setting.spread:
        yield share(name, "a better arch is a finalist", [r.finalist for r in results])
        yield share(name, "it is found to be a gain", [r.gain for r in results if r.finalist])
    else:
        for i, margin in enumerate(MARGINS):
            found = [r.equivalent[i] for r in results]
            yield share(name, f"equivalent, margin of {margin:g} run sds", found)
        yield share(name, "coverage of the control's interval", [r.control for r in results], 0.93, 0.97)
        for i, harm in enumerate(HARMS):
            found = [r.seen[i] for r in results]
            if harm:
                yield share(name, f"a control worse by {harm:g} run sds is seen", found)
            else:
                yield share(name, "a control that is no worse is seen to be worse", found, high=0.025)


def measure(settings: dict[str, Setting], searches: int, further: int, workers: int) -> Iterator[Figure]:
    """All figures of all settings; `searches` of the first setting, `further` of each other one."""
    with ProcessPoolExecutor(workers) as pool:
        for i, (name, setting) in enumerate(settings.items()):
            count = further if i else searches
            results = list(pool.map(one, [setting] * count, range(count), chunksize=20))
            yield from figures(name, setting, results)


def table(found: Sequence[Figure], seconds: float) -> str:
    """Markdown."""
    lines = [
        "# Verdicts at the end of a search, simulated",
        "",
        "`python -m benchmarks.statistics.searches`, 32 trainings a search of `cbam_variants`, the positive control "
        f"among them, pool sampler; {seconds:,.0f} s. In brackets the Monte-Carlo standard error.",
        "",
        "| setting | figure | measured | bounds | n |",
        "|---|---|---|---|---|",
    ]
    for f in found:
        parts = [f"at least {f.low:g}" if f.low is not None and f.high is None else ""]
        parts += [f"at most {f.high:g}" if f.high is not None and f.low is None else ""]
        parts += [f"{f.low:g} to {f.high:g}" if f.low is not None and f.high is not None else ""]
        lines.append(
            f"| {f.setting} | {f.figure} | {f.value:.3f} ({f.error:.3f}) | {''.join(parts)} | {f.n:,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write `OUT/search_verdicts.{json,md}`; 1 where a figure is out of bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=2_000, help="of equal archs")
    parser.add_argument("--further", type=int, default=150, help="in each setting where archs differ")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    options = parser.parse_args()
    start, found = time.monotonic(), []
    for figure in measure({**EQUAL, **SPREAD, **GAINS}, options.searches, options.further, options.workers):
        print(figure, flush=True)
        found.append(figure)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(figure), "ok": figure.ok} for figure in found]
    (options.out / "search_verdicts.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / "search_verdicts.md").write_text(table(found, time.monotonic() - start))
    return int(not all(figure.ok for figure in found))


if __name__ == "__main__":
    raise SystemExit(main())
