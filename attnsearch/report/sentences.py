"""Sentences of a report: what was asked, what is known and how surely, what the study cannot tell.

No sentence says more than the tables' numbers do. A gain is claimed by a verdict alone.
"""

from __future__ import annotations

from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.text import many
from attnsearch.report import design, finalists, provenance, warnings
from attnsearch.report.archs import NOT_AUDITED, cost_name, seeds_kind
from attnsearch.report.table import number, probability, quantity
from attnsearch.report.tables import Report
from attnsearch.report.verdicts import Judged
from attnsearch.statistics.front import ArchResult, Status


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
    return finalists.sentences(report.final, {row.key: row.label for row in report.rows}, report.record)


def chosen(report: Report) -> ArchResult | None:
    """The finalist that the verdict is on; without one the arch of least mean error beside the baseline, where search
    values do not compete with fresh means.
    """
    if report.final is not None:
        lead = finalists.headline(report.final).variant
        return next(row for row in report.rows if row.key == lead)
    rows = [row for row in report.rows if not row.baseline and not row.control]
    fresh = [row for row in rows if row.fresh]
    return min(fresh or rows, key=lambda row: row.mean, default=None)


def best(report: Report) -> str:
    row = chosen(report)
    if row is None:
        return "Nothing but the baseline has been trained to the end."
    sure = "" if row.p_front is None else f", P(front) {probability(row.p_front)}"
    return (
        f"Least error of {compared_with(report, row)}: {row.title}, {_error(row)}, {_price(report, row)}; "
        f"status {row.status}{sure}."
    )


def compared_with(report: Report, row: ArchResult) -> str:
    others = [o for o in report.rows if not o.baseline and not o.control and o.fresh == row.fresh]
    if row.fresh:
        return f"the {many(len(others), 'arch')} that ran again on fresh seeds"
    return f"{many(len(others), 'arch')}, each by its search value"


def compared(report: Report) -> str:
    """The chosen arch against the baseline, and what the interval allows to say."""
    row, plain = chosen(report), report.baseline
    if plain is None:
        return "The baseline has no finished trial, so nothing can be said of gains."
    said = f"Baseline: {plain.label}, {_error(plain)}, {_price(report, plain)}."
    if row is None or report.final is not None:  # then the verdict has said it
        return said
    if row.difference is None:
        return f"{said} The two share no seed, so their difference is not stated."
    return f"{said} {difference(row)}"


def difference(row: ArchResult) -> str:
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
        for word in (Status.CONFIRMED, Status.UNDECIDED)
    }
    return (
        f"On the front of error against {cost_name(report.cost)}, beside the baseline: "
        f"{said[Status.CONFIRMED]} confirmed, {said[Status.UNDECIDED]} undecided, "
        f"of {many(len(report.rows), 'arch')} trained to the end."
    )


def proxy_length(report: Report) -> str:
    """`6 epochs of 5,600 images`."""
    images = report.info.recipe.train_images or report.info.images.train
    seen = f" of {images:,} images" if images else ""
    return f"{many(report.epochs, 'epoch')}{seen}"


def undecided(report: Report) -> str:
    """Which archs more seeds would decide, and how many of the next ten trainings each would get."""
    wanted = sorted((row for row in report.rows if row.next_seeds), key=lambda row: -row.next_seeds)
    if not wanted:
        return ""
    said = ", ".join(f"no. {row.number} ({many(row.next_seeds, 'seed')})" for row in wanted)
    total = sum(row.next_seeds for row in wanted)
    return f"What is undecided, the next {total} trainings would best decide so: {said}."


def optimism(report: Report) -> str:
    """How much the search flattered, over the archs that have both kinds of seeds."""
    found = [row.optimism for row in report.rows if row.optimism is not None and not row.baseline]
    if not found:
        return ""
    mean = sum(found) / len(found)
    word = "flattered" if mean > 0 else "undersold"
    return f"The search {word} the {many(len(found), 'arch')} that ran again by {abs(mean):.2f} points on average."


def noise(report: Report) -> str:
    sd = report.assessed.sd
    if sd is None:
        return "No arch has two seeds: the noise between seeds is not known, and no interval is given."
    return (
        f"Noise: runs of one arch that differ in the seed only have a standard deviation of {sd:.2f} points "
        f"(pooled, {report.assessed.degrees} degrees of freedom)."
    )


def proxy(report: Report) -> str:
    data = report.info.images
    where = f" of {data.name}" if data.name else ""
    return (
        f"Every number is from a short proxy: {proxy_length(report)}{where}, {report.audit}. "
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
    if any(not row.fresh and not row.baseline for row in report.rows):
        lines.append(
            "Rows marked `search` rest on the seeds that chose them; the best of them flatter themselves."
        )
    if not warnings.wide_by_images(report):  # else it stands before the answer
        lines += [line for line in [warnings.images(report)] if line]
    for what, said in (("device", provenance.devices(report)), ("version", provenance.versions(report))):
        if len(said) > 1:
            lines.append(f"Trials were not all run alike, more than one {what}: {'; '.join(said)}.")
    if report.counts.running:
        lines.append(
            f"The study is not over: {many(report.counts.running, 'trial')} still ran when this was written."
        )
    return tuple(lines)


def estimate(value: Estimate, unit: str = " %") -> str:
    half = "" if value.half is None else f" ± {value.half:.2f}"
    return f"{value.mean:.2f}{half}{unit}"


def _error(row: ArchResult) -> str:
    return f"error {estimate(row.error)} on {which_seeds(row)}"


def which_seeds(row: ArchResult) -> str:
    kind = "" if row.baseline and not row.fresh else f"{seeds_kind(row)} "
    return many(row.error.n, f"{kind}seed")


def _price(report: Report, row: ArchResult) -> str:
    price = f"{quantity(row.costs[0])} {cost_name(report.cost)}"
    return price if row.ratio is None or row.baseline else f"{price}, {row.ratio:.3f} x the baseline's"
