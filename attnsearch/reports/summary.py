"""Sentences of a report: what was asked, what is known and how surely, what the study cannot tell.

No sentence says more than the tables' numbers do. A gain is claimed by a verdict, never by a search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attnsearch.reports.rows import NOT_AUDITED, ArchRow, Counts, cost_name
from attnsearch.reports.table import Estimate, number, probability, quantity
from attnsearch.reports.tables import Report


def title(report: Report) -> str:
    return f"Study {report.record.name}"


def answer(report: Report) -> tuple[str, ...]:
    """The first things to know: arch and place, price, certainty, comparison, noise, length of the proxy."""
    lines = [best(report), compared(report), front_sentence(report), noise(report), proxy(report)]
    return tuple(line for line in lines if line)


def chosen(report: Report) -> ArchRow | None:
    """The arch of least mean error beside the baseline; search values do not compete with fresh means."""
    rows = [row for row in report.rows if not row.baseline]
    fresh = [row for row in rows if row.standing.fresh]
    return min(fresh or rows, key=lambda row: row.standing.mean, default=None)


def best(report: Report) -> str:
    row = chosen(report)
    if row is None:
        return "Nothing but the baseline has been trained to the end."
    among = [
        other for other in report.rows if not other.baseline and other.standing.fresh == row.standing.fresh
    ]
    which = (
        "archs that were run again on fresh seeds"
        if row.standing.fresh
        else "archs, each by its search value"
    )
    sure = "" if row.standing.p_front is None else f", P(front) {probability(row.standing.p_front)}"
    return (
        f"Least error of {len(among)} {which}: {row.label}, {_error(row)}, {_price(report, row)}; "
        f"status {row.status}{sure}."
    )


def compared(report: Report) -> str:
    """The chosen arch against the baseline, and what the interval allows to say."""
    row, plain = chosen(report), report.baseline
    if plain is None:
        return "The baseline has no finished trial, so nothing can be said of gains."
    said = f"Baseline: {plain.trial.arch}, {_error(plain)}, {_price(report, plain)}."
    if row is None:
        return said
    if row.difference is None:
        return f"{said} The two share no seed, so their difference is not stated."
    return f"{said} {difference(row)}"


def difference(row: ArchRow) -> str:
    """The paired difference and what it allows to say."""
    given = row.difference
    assert given is not None
    points = f"Difference: {number(given.mean, 2, True)} points of error over {seeds(given.n)} that both had"
    if given.low is None or given.high is None:
        return f"{points}; no arch has two seeds, so the noise is not known and nothing is claimed."
    interval = f"{points}, 95 % interval {number(given.low, 2, True)} to {number(given.high, 2, True)}"
    if given.low <= 0 <= given.high:
        return f"{interval}: it takes in zero, so there is no evidence of a gain or a harm."
    which = "a gain" if given.high < 0 else "a harm"
    return (
        f"{interval}. It excludes zero, but this arch is one picked out of many: run a design "
        f"(`attnsearch run --design`) before calling it {which}."
    )


def front_sentence(report: Report) -> str:
    tally = {word: sum(row.status == word for row in report.rows) for word in ("confirmed", "candidate")}
    return (
        f"On the front of error against {cost_name(report.cost)}: "
        f"{tally['confirmed']} confirmed, {tally['candidate']} undecided, "
        f"of {len(report.rows)} archs trained to the end."
    )


def noise(report: Report) -> str:
    sd = report.front_of.sd
    if sd is None:
        return "No arch has two seeds: the noise between seeds is not known, and no interval is given."
    return (
        f"Noise: runs of one arch that differ in the seed only have a standard deviation of {sd:.2f} points "
        f"(pooled, {report.front_of.degrees} degrees of freedom)."
    )


def proxy(report: Report) -> str:
    recipe, data = report.facts.get("recipe") or {}, report.facts.get("data") or {}
    images = recipe.get("train_images") or data.get("train")
    seen = f" of {images:,} images" if isinstance(images, int) else ""
    where = f" of {data['name']}" if data.get("name") else ""
    return (
        f"Every number is from a short proxy: {report.epochs} epochs{seen}{where}, {report.audit}. "
        "Blocks that start slowly (sigmoid gates begin near 0.5) may rank otherwise after a longer training."
    )


def caveats(report: Report) -> tuple[str, ...]:
    """What the study cannot tell."""
    lines = [
        "Another data set, image size, host or recipe may order the archs otherwise.",
        f"A proxy of {report.epochs} epochs says who learns fast; who is best in the end is another question."
        + (" `attnsearch validate` compares the two." if report.audit == NOT_AUDITED else ""),
        "Counted costs are not time: equal MACs may differ in latency; `attnsearch latency` measures it.",
    ]
    if any(not row.standing.fresh and not row.baseline for row in report.rows):
        lines.append(
            "Rows marked `search` rest on the seeds that chose them; the best of them flatter themselves."
        )
    for what, said in (("device", devices(report)), ("version", versions(report))):
        if len(said) > 1:
            lines.append(f"Trials were not all run alike, more than one {what}: {'; '.join(said)}.")
    if report.verdicts is None:
        lines.append("A search ranks, it does not test: it makes no verdict of gain or harm.")
    if report.counts.running:
        lines.append(
            f"The study is not over: {report.counts.running} trials were running when this was written."
        )
    return tuple(lines)


def devices(report: Report) -> list[str]:
    return sorted({trial.device for trial in report.record.trials if trial.device})


def versions(report: Report) -> list[str]:
    return sorted({_flat(trial.versions) for trial in report.record.trials if trial.versions})


def facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and text of everything needed to judge or repeat the study."""
    given = report.facts
    found = [
        ("question", given.get("question")),
        ("space", given.get("space")),
        ("host", _flat(given.get("host"))),
        ("archs and trials", where_trials_went(report.counts)),
        (
            "why it ended",
            given.get("ended") or ("still running" if report.counts.running else "not recorded"),
        ),
        ("design", _flat(given.get("design"))),
        ("recipe", _flat(given.get("recipe"))),
        ("data", data(given.get("data") or {})),
        ("device", _flat(given.get("device"))),
        ("proxy audit", report.audit),
        ("test split", ledger(given.get("test") or ())),
        ("versions", _flat(given.get("versions"))),
        ("started", given.get("started")),
        ("command", given.get("command")),
    ]
    return tuple((name, masked(str(value))) for name, value in found if value not in (None, "", {}, []))


def masked(text: str) -> str:
    """A storage URL without its password."""
    return re.sub(r"(\w+://[^\s:/@]*):[^\s@]+@", r"\1:***@", text)


def where_trials_went(counts: Counts) -> str:
    """Archs in the space, over budget, stopped at which epoch, trained, failed, repeated."""
    stopped = sum(counts.stopped.values())
    at = ", ".join(f"{n} after epoch {epoch}" for epoch, n in counts.stopped.items())
    parts = [
        f"{counts.size:,} archs in the space" if counts.size is not None else "",
        f"{counts.over_budget:,} over budget and never trained" if counts.over_budget is not None else "",
        f"{counts.archs:,} archs trained to the end in {counts.trainings:,} trainings "
        f"({counts.repeats:,} of them further seeds)",
        f"{stopped:,} stopped early ({at})" if stopped else "none stopped early",
        f"{counts.over_limit:,} refused by a limit" if counts.over_limit else "",
        counts.failures() or "none failed",
        f"{counts.running:,} running" if counts.running else "",
    ]
    return "; ".join(part for part in parts if part)


def data(given: Mapping[str, Any]) -> str:
    sizes = [
        f"{given[part]:,} {part}" for part in ("train", "val", "test") if isinstance(given.get(part), int)
    ]
    image = given.get("image")
    parts = [
        str(given.get("name", "")),
        f"{given['classes']} classes" if given.get("classes") else "",
        "images " + "x".join(str(side) for side in image) if isinstance(image, list | tuple) else "",
        "images: " + ", ".join(sizes) if sizes else "",
        f"fingerprint {given['fingerprint']}" if given.get("fingerprint") else "",
        str(given.get("note", "")),
    ]
    return "; ".join(part for part in parts if part)


def ledger(entries: Any) -> str:
    """How often the test split has been opened; each opening makes the next less of a test."""
    count = len(entries)
    if not count:
        return "never opened"
    times = "once" if count == 1 else f"{count} times"
    return f"opened {times}: " + "; ".join(_flat(entry) for entry in entries)


def seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def estimate(value: Estimate, unit: str = " %") -> str:
    half = "" if value.half is None else f" ± {value.half:.2f}"
    return f"{value.mean:.2f}{half}{unit}"


def _error(row: ArchRow) -> str:
    which = "fresh " if row.standing.fresh else "search " if not row.baseline else ""
    count = "1 " + which + "seed" if row.standing.n == 1 else f"{row.standing.n} {which}seeds"
    return f"error {estimate(row.error)} on {count}"


def _price(report: Report, row: ArchRow) -> str:
    price = f"{quantity(row.standing.candidate.costs[0])} {cost_name(report.cost)}"
    return price if row.ratio is None or row.baseline else f"{price}, {row.ratio:.3f} x the baseline's"


def _flat(value: Any) -> str:
    """Plain values in one line: `a 1, b 2`."""
    if isinstance(value, Mapping):
        said = [(key, _flat(item)) for key, item in value.items() if item not in (None, "", [], {})]
        return ", ".join(f"{key} {item}" for key, item in said)
    if isinstance(value, list | tuple):
        return ", ".join(_flat(item) for item in value)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
