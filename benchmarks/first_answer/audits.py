"""Does the short training of the shipped spaces rank archs as one four times as long? Rank correlations, a row a space.

    python -m benchmarks.first_answer.audits --out DIR [--seeds 2] cbam_variants channel_or_spatial fusion

Each space is searched by the command of `make run` and then audited by `attnsearch validate`, both into DIR; stopped,
the same command goes on. The table goes to results/audits.md, its figures to results/audits.json; without a space
the table is printed again. Share: Spearman's correlation over what a perfect proxy would show here in the mean.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnsearch.core.errors import NoResultError
from attnsearch.report import atomic
from attnsearch.statistics.proxy import Audit
from attnsearch.study.study import open_study

KEPT = Path("results/audits.json")
SEARCH = ("--trials", "30", "--confirm", ".67")
ARCHS = 24
COLUMNS = (
    "space", "archs", "seeds", "epochs", "spread, seed", "Spearman (95 %)", "perfect proxy", "share", "tau (95 %)",
    "verdict", "trainings", "core minutes",
)  # fmt: skip


def audit(name: str, out: Path, workers: int, seeds: int) -> None:
    """Search a space and audit the search, or go on with either."""
    place = ("--out", str(out), "--workers", str(workers))
    _attnsearch("run", "--space", name, *SEARCH, *place, *(["--resume"] if _has(name, out) else []))
    _attnsearch("validate", name, "--archs", str(ARCHS), "--seeds", str(seeds), *place)


def figures(name: str, out: Path, seeds: int) -> dict[str, Any]:
    """What the audit of a space found, with the machine time of its trainings in seconds."""
    record = open_study(name, None, out=out).record
    if record.info.audit is None:
        raise SystemExit(f"{name} is not audited in {out}: name it in the command")
    found = asdict(Audit.of(record.info.audit.to_attrs()["audit"]))
    rows = [trial for trial in record.trials if trial.role == "audit"]
    return {
        **found,
        "seeds": seeds,
        "short": record.info.recipe.epochs,
        "long": max(trial.epochs for trial in rows),
        "trainings": len(rows),
        "seconds": round(sum(trial.seconds for trial in rows)),
    }


def cells(name: str, row: Mapping[str, Any]) -> list[str]:
    """One row of the table, as `COLUMNS`."""
    return [
        name,
        str(row["archs"]),
        str(row["seeds"]),
        f"{row['short']}, {row['long']}",
        f"{row['spread']:.2f}, {row['run_sd']:.2f}",
        f"{row['spearman']:.2f} ({_ends(row['spearman_interval'])})",
        f"{row['spearman_ceiling']:.2f}",
        f"{row['spearman'] / row['spearman_ceiling']:.2f}",
        f"{row['tau']:.2f} ({_ends(row['tau_interval'])})",
        row["verdict"],
        str(row["trainings"]),
        f"{row['seconds'] / 60:.0f}",
    ]


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, a row a space."""
    lines = [
        "# Does the short training rank?",
        "",
        f"`python -m benchmarks.first_answer.audits`: {ARCHS} archs, or all of a smaller space, on cued-digits, each "
        "with so many seeds at both lengths (with one, eight archs are trained long twice). Spread: standard "
        "deviation of the archs' true errors after the long training, seed: that between seeds of one arch, in "
        "points. Intervals: 95 % bootstrap over archs.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(cells(name, row))} |" for name, row in found.items()),
        "",
        "The other spaces are not audited; the command above audits any, `attnsearch validate STUDY` a study.",
    ]
    return "\n".join(lines) + "\n"


def _ends(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def _has(name: str, out: Path) -> bool:
    try:
        return bool(open_study(name, None, out=out).record.trials)
    except NoResultError:
        return False


def _attnsearch(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "attnsearch", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spaces", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2, help="of every arch at both lengths")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in options.spaces:
        audit(name, options.out, options.workers, options.seeds)
        kept[name] = figures(name, options.out, options.seeds)
    atomic.write(KEPT, json.dumps(kept, indent=1) + "\n")
    atomic.write(KEPT.with_suffix(".md"), table(kept))
    print(table(kept))


if __name__ == "__main__":
    main()
