"""Where the numbers come from: what one needs to judge the study or to run it again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from attnsearch.core.checks import masked
from attnsearch.core.study_attrs import DataInfo, TestResult
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.text import many
from attnsearch.report.archs import NOT_AUDITED, Counts
from attnsearch.report.tables import Report


def render(report: Report) -> str:
    text = json.dumps(values(report), indent=2, ensure_ascii=False, sort_keys=True, default=str)
    return masked(text) + "\n"


def values(report: Report) -> dict[str, Any]:
    """The study's facts as recorded, what its trials say of themselves, and who wrote this."""
    seeds: dict[str, set[int]] = {}
    for trial in report.record.trials:
        seeds.setdefault(trial.role, set()).add(trial.seed)
    return {
        "study": report.record.name,
        "facts": {name: value for name, value in report.record.attrs.items() if name != "samples"},
        "proxy": report.audit,
        "trials": {
            "count": len(report.record.trials),
            "sha256": fingerprint(report.record),
            "seeds": {role: sorted(found) for role, found in seeds.items()},
            "devices": devices(report),
            "versions": versions(report),
            "seconds": round(sum(trial.seconds for trial in report.record.trials), 1),
        },
        "written": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "attnsearch": own_version(),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
    }


def fingerprint(record: StudyRecord) -> str:
    """SHA-256 over (arch, seed, length, state, error) of all trials, sorted; equal on every machine."""
    rows = sorted(f"{t.key} {t.seed} {t.epochs} {t.role} {t.state} {t.error!r}" for t in record.trials)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def own_version() -> str:
    try:
        return version("attnsearch")
    except PackageNotFoundError:
        return "not installed"


def facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and text of everything needed to judge or repeat the study."""
    info, run = report.info, report.info.run
    found = [
        ("question", info.space.question),
        ("space", info.space.name),
        ("host", info.space.host),
        ("host's file", f"{info.module.path}, SHA-256 {info.module.sha256}" if info.module.sha256 else ""),
        ("weights", f"{info.weights.path}, SHA-256 {info.weights.sha256}" if info.weights else ""),
        ("limits", flat(info.costs.limits)),
        ("architectures and runs", where_trials_went(report.counts)),
        ("stopped because", ended(report)),
        ("sampler", info.search.sampler),
        ("pruner", info.search.pruner),
        ("design", flat(info.design.to_attrs()["design"]) if info.design else ""),
        ("recipe", flat(run.recipe.to_dict()) if run.recipe else ""),
        ("data", data(info.images)),
        ("device", "; ".join(devices(report)) or run.device),
        ("machine", run.machine),
        ("training time", training_time(report)),
        ("proxy validation", flat(info.audit.values) if info.audit else NOT_AUDITED),
        ("test split", ledger(info.test.openings)),
        ("versions", flat(run.versions)),
        ("started", run.started),
        ("command", run.command),
    ]
    return tuple((name, masked(str(value))) for name, value in found if value not in (None, "", {}, []))


def _over_budget(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,} over budget and never trained" if count else "none over budget"


def training_time(report: Report) -> str:
    """Of all trainings together, and of one."""
    seconds = [trial.seconds for trial in report.record.trials if trial.seconds > 0]
    if not seconds:
        return "not recorded"
    total = sum(seconds)
    shown = f"{total / 3600:.1f} hours" if total >= 3600 else f"{total / 60:.1f} minutes"
    return (
        f"{shown} in {many(len(seconds), 'run')}, each counted; {median(seconds):.1f} seconds a run (median)"
    )


def ended(report: Report) -> str:
    reason = str(report.info.run.ended or "").rstrip(".")
    return reason or ("still running" if report.counts.running else "not recorded")


def where_trials_went(counts: Counts) -> str:
    """Archs in the space, over budget, stopped at which epoch, trained, failed, repeated."""
    stopped = sum(counts.stopped.values())
    at = ", ".join(f"{n} after epoch {epoch}" for epoch, n in counts.stopped.items())
    parts = [
        f"{many(counts.size, 'architecture')} in the space" if counts.size is not None else "",
        _over_budget(counts.over_budget),
        f"{many(counts.archs, 'architecture')} in {many(counts.trainings, 'run')} ({counts.repeats:,} repeat seeds)",
        f"{many(counts.audited, 'run')} to validate the short training" if counts.audited else "",
        f"{stopped:,} stopped early ({at})" if stopped else "none stopped early",
        counts.failures() or "none failed",
        f"{counts.lost:,} interrupted and repeated" if counts.lost else "",
        f"{counts.running:,} running" if counts.running else "",
    ]
    return "; ".join(part for part in parts if part)


def data(info: DataInfo) -> str:
    counts = {"train": info.train, "val": info.val, "test": info.test}
    sizes = [f"{count:,} {part}" for part, count in counts.items() if count is not None]
    parts = [
        info.name,
        classes(info.classes),
        "images " + "x".join(map(str, info.image)) if info.image else "",
        "images: " + ", ".join(sizes) if sizes else "",
        f"fingerprint {info.fingerprint}" if info.fingerprint else "",
        info.note,
    ]
    return "; ".join(part for part in parts if part)


def classes(names: Sequence[str] | None) -> str:
    """Their number, and their names where these are few."""
    if not names:
        return ""
    return f"{len(names)} classes" + (f" ({', '.join(map(str, names))})" if len(names) <= 12 else "")


def ledger(entries: Sequence[TestResult]) -> str:
    """How often the test split has been opened; each opening makes the next less of a test."""
    count = len(entries)
    if not count:
        return "never opened"
    times = "once" if count == 1 else f"{count} times"
    return f"opened {times}: " + "; ".join(_opening(entry) for entry in entries)


def _opening(entry: TestResult) -> str:
    """When, and for which archs; their errors stand in a table of their own."""
    return f"{entry.opened}, {many(len(entry.archs), 'arch')} frozen as {entry.digest}"


def devices(report: Report) -> list[str]:
    return sorted({trial.device for trial in report.record.trials if trial.device})


def versions(report: Report) -> list[str]:
    return sorted({flat(trial.versions) for trial in report.record.trials if trial.versions})


def flat(value: Any) -> str:
    """Plain values in one line: `a 1, b 2`."""
    if isinstance(value, Mapping):
        pairs = [(key, flat(item)) for key, item in value.items() if item not in (None, "", [], {})]
        return ", ".join(f"{key} {item}" for key, item in pairs)
    if isinstance(value, list | tuple):
        return ", ".join(flat(item) for item in value)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
