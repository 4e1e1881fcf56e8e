"""Sentences of a report: what was asked, what is known and how surely, what the study cannot tell.

No sentence says more than the tables' numbers do. A gain is claimed by a verdict alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnsearch.core.checks import masked
from attnsearch.core.study_info import DataInfo, StudyInfo, TestResult
from attnsearch.core.text import many
from attnsearch.report import design, finalists, warnings
from attnsearch.report.archs import NOT_AUDITED, STATUSES, ArchRow, Counts, cost_name
from attnsearch.report.table import Estimate, Tile, number, probability, quantity
from attnsearch.report.tables import Report
from attnsearch.report.verdicts import WORDS, Judged


def title(report: Report) -> str:
    return f"Study {report.record.name}"


def answer(report: Report) -> tuple[str, ...]:
    """The first things to know: arch and place, price, certainty, comparison, noise, length of the proxy."""
    if isinstance(report.judged, Judged):
        found = design.lines(report, report.judged)
    else:
        found = [
            report.judged or "",
            *([] if report.judged else verdicts(report)),
            best(report),
            compared(report),
            front_sentence(report),
            optimism(report),
            undecided(report),
        ]
        found.append(noise(report))
    return tuple(line for line in (*found, proxy(report), audited(report.info)) if line)


def verdicts(report: Report) -> list[str]:
    """What the last block of seeds says of the finalists."""
    return finalists.sentences(report.final, {row.trial.key: row.label for row in report.rows}, report.record)


def chosen(report: Report) -> ArchRow | None:
    """The finalist that the verdict is on; without one the arch of least mean error beside the baseline, where search
    values do not compete with fresh means.
    """
    if report.final is not None:
        lead = finalists.headline(report.final).variant
        return next(row for row in report.rows if row.trial.key == lead)
    rows = [row for row in report.rows if not row.baseline and not row.control]
    fresh = [row for row in rows if row.standing.fresh]
    return min(fresh or rows, key=lambda row: row.standing.mean, default=None)


def best(report: Report) -> str:
    row = chosen(report)
    if row is None:
        return "Nothing but the baseline has been trained to the end."
    sure = "" if row.standing.p_front is None else f", P(front) {probability(row.standing.p_front)}"
    return (
        f"Least error of {_rivals(report, row)}: {row.label}, {_error(row)}, {_price(report, row)}; "
        f"status {row.status}{sure}."
    )


def _rivals(report: Report, row: ArchRow) -> str:
    others = [
        o for o in report.rows if not o.baseline and not o.control and o.standing.fresh == row.standing.fresh
    ]
    if row.standing.fresh:
        return f"the {many(len(others), 'arch')} that ran again on fresh seeds"
    return f"{many(len(others), 'arch')}, each by its search value"


def compared(report: Report) -> str:
    """The chosen arch against the baseline, and what the interval allows to say."""
    row, plain = chosen(report), report.baseline
    if plain is None:
        return "The baseline has no finished trial, so nothing can be said of gains."
    said = f"Baseline: {plain.trial.arch}, {_error(plain)}, {_price(report, plain)}."
    if row is None or report.final is not None:  # then the verdict has said it
        return said
    if row.difference is None:
        return f"{said} The two share no seed, so their difference is not stated."
    return f"{said} {difference(row)}"


def difference(row: ArchRow) -> str:
    """The difference on shared seeds and what it allows to say."""
    given = row.difference
    assert given is not None
    which = "better" if given.mean > 0 else "worse"
    shared = "the one seed" if given.n == 1 else f"the {given.n} seeds"
    said = f"On {shared} that both had, the arch is {abs(given.mean):.2f} points {which}"
    if given.low is None or given.high is None:
        return f"{said}; one seed has no interval, so nothing is claimed."
    interval = f"{said} (95 % interval {number(given.low, 2, True)} to {number(given.high, 2, True)})"
    if given.low <= 0 <= given.high:
        return f"{interval}: that takes in zero, so there is no evidence of a gain or a harm."
    return f"{interval}: that leaves out zero, but this arch was picked out of many, so no gain is claimed."


def front_sentence(report: Report) -> str:
    said = {
        word: sum(r.status == word and not r.baseline for r in report.rows)
        for word in ("confirmed", "candidate")
    }
    return (
        f"On the front of error against {cost_name(report.cost)}, beside the baseline: "
        f"{said['confirmed']} confirmed, {said['candidate']} undecided, "
        f"of {many(len(report.rows), 'arch')} trained to the end."
    )


def tiles(report: Report) -> tuple[Tile, ...]:
    """The first screen: which block, where, what cost, how sure, against what, how long a proxy."""
    if isinstance(report.judged, Judged):
        return (*design.tiles(report.judged, report.cost), _proxy_tile(report), _setting_tile(report))
    row = chosen(report)
    return (*(_arch_tiles(report, row) if row else ()), _proxy_tile(report), _setting_tile(report))


def _arch_tiles(report: Report, row: ArchRow) -> list[Tile]:
    given, plain = row.difference, report.baseline
    if given is None or plain is None:
        over = Tile("over the baseline", "not known", "no seed shared with a finished baseline")
    else:
        interval = "one seed: no interval"
        if given.low is not None and given.high is not None:
            interval = f"95 % interval {number(given.low, 2, True)} to {number(given.high, 2, True)}"
        final = (
            "Not a verdict."
            if report.final is None
            else f"Verdict: {finalists.headline(report.final).outcome}."
        )
        detail = f"{interval}; {many(given.n, 'seed')} shared with {plain.trial.arch}. {final}"
        over = Tile("over the baseline", f"{number(given.mean, 2, True)} points", detail)
    p = row.standing.p_front
    sure = "P(front) not known" if p is None else f"P(front) {probability(p)}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3f} x the baseline's"
    name = f"least error of {_rivals(report, row)}"
    price = f"{quantity(row.standing.candidate.costs[0])} {cost_name(report.cost)}"
    detail = f"in {report.info.space.host or 'the host'}; no. {row.number} in tables and pictures"
    return [
        Tile(name, row.label, detail, tuple(row.label.split(" | ")), wide=True),
        Tile("validation error", estimate(row.error), f"{_which_seeds(row)}, ± half the 95 % interval"),
        Tile("cost", price, ratio),
        over,
        Tile("how sure of its place", sure, f"{row.status}: {STATUSES[row.status]}"),
    ]


def _proxy_tile(report: Report) -> Tile:
    data = report.info.images
    where = f"{data.name}; " if data.name else ""
    return Tile(
        "the proxy", _proxy_length(report), f"{where}{report.audit}: longer training may rank otherwise"
    )


def _proxy_length(report: Report) -> str:
    """`6 epochs of 5,600 images`."""
    images = report.info.recipe.train_images or report.info.images.train
    seen = f" of {images:,} images" if images else ""
    return f"{many(report.epochs, 'epoch')}{seen}"


def _setting_tile(report: Report) -> Tile:
    """On what, how and where it was trained; the facts at the page's end have the rest."""
    data, recipe = report.info.images, report.info.run.recipe
    sides = "x".join(map(str, data.image)) + " images" if data.image else ""
    names = ("optimizer", "lr", "batch_size") if recipe else ()
    known = {name: getattr(recipe, name) for name in names}
    augment = recipe.augment if recipe else None
    parts = (
        str(report.info.space.host or ""),
        _flat(known).replace("_", " "),
        f"augmentation {_flat(augment) or 'none'}"
        if augment is not None
        else "augmentation the data set's own",
        "; ".join(devices(report)),
        f"test split {ledger(report.info.test.openings).split(':')[0]}",
    )
    what = ", ".join(filter(None, (_classes(data.classes).split(" (")[0], sides)))
    return Tile("the setting", what or "not recorded", "; ".join(filter(None, parts)), wide=True)


def words(report: Report) -> tuple[tuple[str, str], ...]:
    """What the words and signs of the page mean."""
    found = [
        (
            "arch",
            "one architecture; what stands in stage 1 | stage 2 | …, `none` for nothing, options in brackets",
        ),
        (
            "error",
            "share of the validation images classified wrongly after the last epoch; never of the test split",
        ),
        (
            "± and interval",
            "95 %: of intervals made so, 95 in 100 hold the mean over all seeds that could have been drawn",
        ),
        ("points", "percentage points of accuracy; positive is better than the baseline"),
        ("MACs, FLOPs", "1 MAC is one multiply-add; FLOPs here are 2 x MACs plus element-wise work"),
        ("bytes moved", "bytes that all operations read and write for one image, none fused"),
        (
            "the proxy",
            "the short training by which archs are compared; its audit compares it with a long one",
        ),
    ]
    if isinstance(report.judged, Judged):
        return (*design.words(report, report.judged), *WORDS.items(), *found)
    ranks = [
        (
            "fresh, search",
            "fresh seeds were run after the arch was chosen; search seeds chose it, which flatters it",
        ),
        (
            "P(front)",
            "probability, given the noise between seeds, that no arch of no more cost has less error",
        ),
        *STATUSES.items(),
    ]
    return (*found, *ranks)


def undecided(report: Report) -> str:
    """Which archs more seeds would decide, and how many of the next ten trainings each would get."""
    wanted = sorted((row for row in report.rows if row.wanted), key=lambda row: -row.wanted)
    if not wanted:
        return ""
    said = ", ".join(f"no. {row.number} ({many(row.wanted, 'seed')})" for row in wanted)
    total = sum(row.wanted for row in wanted)
    return f"What is undecided, the next {total} trainings would best decide so: {said}."


def optimism(report: Report) -> str:
    """How much the search flattered, over the archs that have both kinds of seeds."""
    found = [
        row.standing.optimism for row in report.rows if row.standing.optimism is not None and not row.baseline
    ]
    if not found:
        return ""
    mean = sum(found) / len(found)
    word = "flattered" if mean > 0 else "undersold"
    return f"The search {word} the {many(len(found), 'arch')} that ran again by {abs(mean):.2f} points on average."


def noise(report: Report) -> str:
    sd = report.standing.sd
    if sd is None:
        return "No arch has two seeds: the noise between seeds is not known, and no interval is given."
    return (
        f"Noise: runs of one arch that differ in the seed only have a standard deviation of {sd:.2f} points "
        f"(pooled, {report.standing.degrees} degrees of freedom)."
    )


def proxy(report: Report) -> str:
    data = report.info.images
    where = f" of {data.name}" if data.name else ""
    return (
        f"Every number is from a short proxy: {_proxy_length(report)}{where}, {report.audit}. "
        "Blocks that start slowly (sigmoid gates begin near 0.5) may rank otherwise after a longer training."
    )


def audited(info: StudyInfo) -> str:
    """What the audit of the proxy found, beside its verdict."""
    audit = info.audit.values if info.audit else {}
    if "partial_interval" not in audit:
        return ""
    low, high = audit["partial_interval"]
    alone = " It does not beat ranking by cost alone." if low <= 0 else ""
    return (
        f"Audit on {audit['archs']} archs trained long: rank correlation given cost {audit['partial_tau']:.2f} "
        f"(95 % interval {low:.2f} to {high:.2f}); the best of the proxy's top three within a band of like cost "
        f"loses {audit['regret_3']:.2f} points.{alone}"
    )


def caveats(report: Report) -> tuple[str, ...]:
    """What the study cannot tell."""
    lines = [
        "Another data set, image size, host or recipe may order the archs otherwise.",
        f"A proxy of {many(report.epochs, 'epoch')} says who learns fast; who is best in the end is another question."
        + (" `attnsearch validate` compares the two." if report.audit == NOT_AUDITED else ""),
        "Counted costs are not time: equal MACs may differ in latency; `attnsearch latency` measures it.",
    ]
    if any(not row.standing.fresh and not row.baseline for row in report.rows):
        lines.append(
            "Rows marked `search` rest on the seeds that chose them; the best of them flatter themselves."
        )
    if not warnings.wide_by_images(report):  # else it stands before the answer
        lines += [line for line in [warnings.images(report)] if line]
    for what, said in (("device", devices(report)), ("version", versions(report))):
        if len(said) > 1:
            lines.append(f"Trials were not all run alike, more than one {what}: {'; '.join(said)}.")
    if report.counts.running:
        lines.append(
            f"The study is not over: {many(report.counts.running, 'trial')} still ran when this was written."
        )
    return tuple(lines)


def devices(report: Report) -> list[str]:
    return sorted({trial.device for trial in report.record.trials if trial.device})


def versions(report: Report) -> list[str]:
    return sorted({_flat(trial.versions) for trial in report.record.trials if trial.versions})


def facts(report: Report) -> tuple[tuple[str, str], ...]:
    """Name and text of everything needed to judge or repeat the study."""
    info, run = report.info, report.info.run
    found = [
        ("question", info.space.question),
        ("space", info.space.name),
        ("host", info.space.host),
        ("limits", _flat(info.costs.limits)),
        ("archs and trials", where_trials_went(report.counts)),
        ("why it ended", ended(report)),
        ("sampler", info.search.sampler),
        ("pruner", info.search.pruner),
        ("design", _flat(info.design.to_attrs()["design"]) if info.design else ""),
        ("recipe", _flat(run.recipe.to_dict()) if run.recipe else ""),
        ("data", data(info.images)),
        ("device", "; ".join(devices(report)) or run.device),
        ("machine", run.machine),
        ("proxy audit", _flat(info.audit.values) if info.audit else NOT_AUDITED),
        ("test split", ledger(info.test.openings)),
        ("versions", _flat(run.versions)),
        ("started", run.started),
        ("command", run.command),
    ]
    return tuple((name, masked(str(value))) for name, value in found if value not in (None, "", {}, []))


def _over_budget(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,} over budget and never trained" if count else "none over budget"


def ended(report: Report) -> str:
    said = str(report.info.run.ended or "").rstrip(".")
    return said or ("still running" if report.counts.running else "not recorded")


def where_trials_went(counts: Counts) -> str:
    """Archs in the space, over budget, stopped at which epoch, trained, failed, repeated."""
    stopped = sum(counts.stopped.values())
    at = ", ".join(f"{n} after epoch {epoch}" for epoch, n in counts.stopped.items())
    parts = [
        f"{many(counts.size, 'arch')} in the space" if counts.size is not None else "",
        _over_budget(counts.over_budget),
        f"{many(counts.archs, 'arch')} trained to the end in {many(counts.trainings, 'training')} "
        f"({counts.repeats:,} of them further seeds)",
        f"{many(counts.audited, 'training')} of the proxy's audit" if counts.audited else "",
        f"{stopped:,} stopped early ({at})" if stopped else "none stopped early",
        counts.failures() or "none failed",
        f"{counts.lost:,} lost with their worker and run again" if counts.lost else "",
        f"{counts.running:,} running" if counts.running else "",
    ]
    return "; ".join(part for part in parts if part)


def data(info: DataInfo) -> str:
    counts = {"train": info.train, "val": info.val, "test": info.test}
    sizes = [f"{count:,} {part}" for part, count in counts.items() if count is not None]
    parts = [
        info.name,
        _classes(info.classes),
        "images " + "x".join(map(str, info.image)) if info.image else "",
        "images: " + ", ".join(sizes) if sizes else "",
        f"fingerprint {info.fingerprint}" if info.fingerprint else "",
        info.note,
    ]
    return "; ".join(part for part in parts if part)


def _classes(given: Sequence[str] | None) -> str:
    """Their number, and their names where these are few."""
    if not given:
        return ""
    return f"{len(given)} classes" + (f" ({', '.join(map(str, given))})" if len(given) <= 12 else "")


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


def estimate(value: Estimate, unit: str = " %") -> str:
    half = "" if value.half is None else f" ± {value.half:.2f}"
    return f"{value.mean:.2f}{half}{unit}"


def _error(row: ArchRow) -> str:
    return f"error {estimate(row.error)} on {_which_seeds(row)}"


def _which_seeds(row: ArchRow) -> str:
    kind = "" if row.baseline and not row.standing.fresh else f"{row.seeds_kind} "
    return many(row.standing.n, f"{kind}seed")


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
