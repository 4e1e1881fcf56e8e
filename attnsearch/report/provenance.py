"""Where the numbers come from: what one needs to judge the study or to run it again."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from attnsearch.core.checks import masked
from attnsearch.core.study_info import StudyRecord
from attnsearch.report import summary
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
        "facts": dict(report.record.facts),
        "proxy": report.audit,
        "trials": {
            "count": len(report.record.trials),
            "sha256": fingerprint(report.record),
            "seeds": {role: sorted(found) for role, found in seeds.items()},
            "devices": summary.devices(report),
            "versions": summary.versions(report),
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
